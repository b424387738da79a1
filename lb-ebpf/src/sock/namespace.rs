// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The addresses of a pod, found in the kernel's own structures: a socket that is not bound
//! has no source yet when it connects, and no helper of these hooks tells what it will be.
//!
//! ```text
//! sock ─► net ─► net_device … ─► in_device ─► in_ifaddr …
//!                            └─► inet6_dev ─► inet6_ifaddr …
//! ```
//!
//! A namespace that cannot be read, or is too large to be a pod's, has no address: the
//! client is taken for a stranger.

use core::{ffi::c_void, mem::offset_of};

use lb_common::{addr::Addr, be::Be32, namespace::NamespaceLayout as Layout};

use crate::kernel::{self, NAMESPACE_LAYOUT};

/// Whether every address of a family that the socket's namespace has passes the test, and
/// there is one. Loopback, link-local addresses and devices that are down do not count.
#[inline(always)]
pub(super) fn all_addresses(
    socket: *mut c_void,
    netns_cookie: u64,
    ipv6: bool,
    test: impl Fn(Addr) -> bool,
) -> bool {
    let is_known = offset::<{ offset_of!(Layout, socket_net) }>() != 0;
    if socket.is_null() || !is_known {
        return false;
    }
    namespace(socket, netns_cookie).and_then(|net| of_devices(net, ipv6, &test)).unwrap_or(false)
}

/// The address of the socket's `struct net`: it must know its own cookie, or nothing of this
/// is where it is believed to be.
#[inline(always)]
fn namespace(socket: *mut c_void, netns_cookie: u64) -> Option<u64> {
    let socket = kernel::address_of(socket)?;
    let net = pointer::<{ offset_of!(Layout, socket_net) }>(socket)?;
    let cookie = pointer::<{ offset_of!(Layout, net_cookie) }>(net)?;
    (cookie == netns_cookie).then_some(net)
}

/// `None` if something cannot be read or has no end. One loop over devices and addresses
/// alike: the verifier walks every turn of it, and of two loops every turn of both.
#[inline(never)]
fn of_devices(net: u64, ipv6: bool, test: &impl Fn(Addr) -> bool) -> Option<bool> {
    let head = net + offset::<{ offset_of!(Layout, net_devices) }>();
    let mut next_device = kernel::read::<u64>(head)?;
    let mut rest = Rest { at: 0, end: 0 };
    let mut found = false;
    for _ in 0..MAX_STEPS {
        if rest.at != rest.end {
            let (address, is_source) = if ipv6 { rest.take_ipv6()? } else { rest.take_ipv4()? };
            if is_source {
                if !test(address) {
                    return Some(false);
                }
                found = true;
            }
        } else if next_device != head {
            let device = next_device - offset::<{ offset_of!(Layout, device_list) }>();
            rest = addresses(device, ipv6)?;
            next_device = kernel::read::<u64>(next_device)?;
        } else {
            return Some(found);
        }
    }
    None
}

/// The addresses of a device that have not been looked at: from here to there. None if the
/// device is down or the loopback.
#[inline(always)]
fn addresses(device: u64, ipv6: bool) -> Option<Rest> {
    let flags = kernel::read::<u32>(device + offset::<{ offset_of!(Layout, device_flags) }>())?;
    if flags & (IFF_UP | IFF_LOOPBACK) != IFF_UP {
        return Some(Rest { at: 0, end: 0 });
    }
    if !ipv6 {
        let own = pointer::<{ offset_of!(Layout, device_ipv4) }>(device)?;
        if own == 0 {
            return Some(Rest { at: 0, end: 0 });
        }
        return Some(Rest { at: pointer::<{ offset_of!(Layout, ipv4_first) }>(own)?, end: 0 });
    }
    let own = pointer::<{ offset_of!(Layout, device_ipv6) }>(device)?;
    let is_known = offset::<{ offset_of!(Layout, device_ipv6) }>() != 0;
    if own == 0 || !is_known {
        return Some(Rest { at: 0, end: 0 });
    }
    let head = own + offset::<{ offset_of!(Layout, ipv6_addresses) }>();
    Some(Rest { at: kernel::read::<u64>(head)?, end: head })
}

/// What is left of a device's list of addresses of one family.
struct Rest {
    /// The next element: an `in_ifaddr`, or an `inet6_ifaddr`'s `if_list`.
    at: u64,
    /// Where the list ends: 0, or the list's head.
    end: u64,
}

impl Rest {
    /// The next address, and whether it may be a source beyond its link.
    #[inline(always)]
    fn take_ipv4(&mut self) -> Option<(Addr, bool)> {
        let at = self.at;
        let scope = kernel::read::<u8>(at + offset::<{ offset_of!(Layout, ipv4_scope) }>())?;
        let address = kernel::read::<u32>(at + offset::<{ offset_of!(Layout, ipv4_address) }>())?;
        self.at = pointer::<{ offset_of!(Layout, ipv4_next) }>(at)?;
        Some((Addr::from_v4(Be32::from_wire(address)), scope < RT_SCOPE_LINK))
    }

    /// The next address, and whether it may be a source beyond its link.
    #[inline(always)]
    fn take_ipv6(&mut self) -> Option<(Addr, bool)> {
        let entry = self.at - offset::<{ offset_of!(Layout, ipv6_list) }>();
        let flags = kernel::read::<u32>(entry + offset::<{ offset_of!(Layout, ipv6_flags) }>())?;
        let address =
            kernel::read::<Addr>(entry + offset::<{ offset_of!(Layout, ipv6_address) }>())?;
        self.at = kernel::read::<u64>(self.at)?;
        let [first, ..] = address.to_words();
        let is_link_local = first.to_host() >> 22 == LINK_LOCAL;
        let is_usable = flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0 && !is_link_local;
        Some((address, is_usable))
    }
}

/// The pointer, or the 64-bit number, in a field whose offset the agent found.
#[inline(always)]
fn pointer<const FIELD: usize>(base: u64) -> Option<u64> {
    kernel::read::<u64>(base + offset::<FIELD>())
}

#[inline(always)]
fn offset<const FIELD: usize>() -> u64 {
    NAMESPACE_LAYOUT.load::<FIELD>()
}

/// More devices and addresses of a family, together, than a pod has.
const MAX_STEPS: u32 = 32;

/// `enum net_device_flags` (include/uapi/linux/if.h).
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;
/// `enum rt_scope_t` (include/uapi/linux/rtnetlink.h): from here on an address means nothing
/// beyond its link.
const RT_SCOPE_LINK: u8 = 253;
/// `enum` of include/uapi/linux/if_addr.h: addresses that may not be used.
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
/// The first ten bits of fe80::/10.
const LINK_LOCAL: u32 = 0xfe80 >> 6;
