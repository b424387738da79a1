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

/// `None` if something cannot be read or has no end.
#[inline(never)]
fn of_devices(net: u64, ipv6: bool, test: &impl Fn(Addr) -> bool) -> Option<bool> {
    let head = net + offset::<{ offset_of!(Layout, net_devices) }>();
    let mut at = kernel::read::<u64>(head)?;
    let mut found = false;
    for _ in 0..MAX_DEVICES {
        if at == head {
            return Some(found);
        }
        let device = at - offset::<{ offset_of!(Layout, device_list) }>();
        let flags = kernel::read::<u32>(device + offset::<{ offset_of!(Layout, device_flags) }>())?;
        if flags & (IFF_UP | IFF_LOOPBACK) == IFF_UP {
            let passed = if ipv6 { of_ipv6(device, test)? } else { of_ipv4(device, test)? };
            match passed {
                Passed::None => {}
                Passed::All => found = true,
                Passed::NotAll => return Some(false),
            }
        }
        at = kernel::read::<u64>(at)?;
    }
    None
}

/// How many of a device's addresses passed.
#[derive(Clone, Copy)]
enum Passed {
    /// There is none.
    None,
    All,
    NotAll,
}

#[inline(always)]
fn of_ipv4(device: u64, test: &impl Fn(Addr) -> bool) -> Option<Passed> {
    let own = pointer::<{ offset_of!(Layout, device_ipv4) }>(device)?;
    if own == 0 {
        return Some(Passed::None);
    }
    let mut passed = Passed::None;
    let mut at = pointer::<{ offset_of!(Layout, ipv4_first) }>(own)?;
    for _ in 0..MAX_ADDRESSES {
        if at == 0 {
            return Some(passed);
        }
        let scope = kernel::read::<u8>(at + offset::<{ offset_of!(Layout, ipv4_scope) }>())?;
        let address = kernel::read::<u32>(at + offset::<{ offset_of!(Layout, ipv4_address) }>())?;
        if scope < RT_SCOPE_LINK {
            if !test(Addr::from_v4(Be32::from_wire(address))) {
                return Some(Passed::NotAll);
            }
            passed = Passed::All;
        }
        at = pointer::<{ offset_of!(Layout, ipv4_next) }>(at)?;
    }
    None
}

#[inline(always)]
fn of_ipv6(device: u64, test: &impl Fn(Addr) -> bool) -> Option<Passed> {
    let own = pointer::<{ offset_of!(Layout, device_ipv6) }>(device)?;
    let is_known = offset::<{ offset_of!(Layout, device_ipv6) }>() != 0;
    if own == 0 || !is_known {
        return Some(Passed::None);
    }
    let head = own + offset::<{ offset_of!(Layout, ipv6_addresses) }>();
    let mut passed = Passed::None;
    let mut at = kernel::read::<u64>(head)?;
    for _ in 0..MAX_ADDRESSES {
        if at == head {
            return Some(passed);
        }
        let entry = at - offset::<{ offset_of!(Layout, ipv6_list) }>();
        let flags = kernel::read::<u32>(entry + offset::<{ offset_of!(Layout, ipv6_flags) }>())?;
        let address =
            kernel::read::<Addr>(entry + offset::<{ offset_of!(Layout, ipv6_address) }>())?;
        let [first, ..] = address.to_words();
        let is_link_local = first.to_host() >> 22 == LINK_LOCAL;
        if flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0 && !is_link_local {
            if !test(address) {
                return Some(Passed::NotAll);
            }
            passed = Passed::All;
        }
        at = kernel::read::<u64>(at)?;
    }
    None
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

/// More devices than a pod has.
const MAX_DEVICES: u32 = 16;
/// More addresses of a family than a device of a pod has.
const MAX_ADDRESSES: u32 = 8;

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
