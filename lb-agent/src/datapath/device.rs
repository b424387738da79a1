// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel says about a network device: its kind, what its packets begin with, and the
//! XDP program at it.

use std::{ffi::CStr, io};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NetlinkDeserializable, NetlinkHeader, NlasIterator},
    packet_route::{RouteNetlinkMessage, link::LinkMessage},
    sys::protocols::NETLINK_ROUTE,
};

use super::netlink::Netlink;

/// A device of the caller's network namespace, as far as it matters to programs at it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Device {
    /// What made it, as `ip -d link` says; empty for hardware.
    pub kind: String,
    /// What packets at it begin with.
    pub begins: Begins,
    /// The XDP program at it, and how it runs.
    pub xdp: Option<(u32, XdpMode)>,
}

/// What a device's packets begin with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Begins {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// The IP header: tunnels, tun devices, `link/none`.
    Ip,
    /// A header of the tunnel's own, with the far end's address: GRE that has no remote.
    Gre,
    /// Another header, of the link type with this number (ARPHRD_*).
    Other(u16),
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XdpMode {
    /// In the driver, or in the device itself.
    Native,
    /// In the stack, where each packet has its full cost already.
    Generic,
}

impl Begins {
    /// By the number of a device's link type, and the far end's address if it has one. Those
    /// without a header are those of which the kernel says so (dev_is_mac_header_xmit).
    fn of(link_type: u16, far_end: &[u8]) -> Self {
        let has_far_end = far_end.iter().any(|byte| *byte != 0);
        match link_type {
            ARPHRD_ETHER | ARPHRD_LOOPBACK => Self::Ethernet,
            ARPHRD_IPGRE | ARPHRD_IP6GRE if !has_far_end || is_multicast(far_end) => Self::Gre,
            ARPHRD_IPGRE | ARPHRD_IP6GRE | ARPHRD_PPP | ARPHRD_RAWIP | ARPHRD_TUNNEL
            | ARPHRD_TUNNEL6 | ARPHRD_SIT | ARPHRD_NONE => Self::Ip,
            other => Self::Other(other),
        }
    }
}

impl Device {
    /// The device of an index. `ENODEV`: there is none.
    pub fn read(index: u32) -> io::Result<Self> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let mut found = None;
        let mut netlink = Netlink::open(NETLINK_ROUTE)?;
        let request = RouteNetlinkMessage::GetLink(message);
        netlink.ask(request, NLM_F_ACK, |answer: Answer| found = Some(answer.0))?;
        found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }
}

/// A message of RTM_NEWLINK, read as far as it matters here.
struct Answer(Device);

impl NetlinkDeserializable for Answer {
    type Error = std::convert::Infallible;

    fn deserialize(_header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        let attributes = payload.get(HEAD..).unwrap_or_default();
        let kind = attribute(attributes, IFLA_LINKINFO).and_then(|it| attribute(it, INFO_KIND));
        let kind = kind.and_then(|kind| CStr::from_bytes_until_nul(kind).ok());
        let kind = kind.map(|kind| kind.to_string_lossy().into_owned()).unwrap_or_default();
        let xdp = attribute(attributes, IFLA_XDP).and_then(|xdp| {
            let program = attribute(xdp, XDP_PROG_ID)?.try_into().ok().map(u32::from_ne_bytes)?;
            let is_generic = attribute(xdp, XDP_ATTACHED)?.first() == Some(&XDP_ATTACHED_SKB);
            let mode = if is_generic { XdpMode::Generic } else { XdpMode::Native };
            Some((program, mode))
        });
        let link_type = payload.get(LINK_TYPE).and_then(|bytes| bytes.try_into().ok());
        let far_end = attribute(attributes, IFLA_BROADCAST).unwrap_or_default();
        let begins = Begins::of(link_type.map(u16::from_ne_bytes).unwrap_or_default(), far_end);
        Ok(Self(Device { kind, begins, xdp }))
    }
}

/// Whether an address of either family is a group's.
fn is_multicast(address: &[u8]) -> bool {
    match address {
        [first, _, _, _] => (224..240).contains(first),
        [first, ..] => *first == 0xff,
        [] => false,
    }
}

/// The value of an attribute.
pub(super) fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes).flatten().find(|it| it.kind() == kind)?;
    let length = found.value_length();
    found.into_inner().get(ATTRIBUTE_HEADER..)?.get(..length)
}

/// Bytes of `struct ifinfomsg`.
const HEAD: usize = 16;
/// Where the link type is in it.
const LINK_TYPE: std::ops::Range<usize> = 2..4;
/// Bytes before an attribute's value (NLA_HDRLEN).
const ATTRIBUTE_HEADER: usize = 4;
/// `include/uapi/linux/if_link.h`.
const IFLA_BROADCAST: u16 = 2;
const IFLA_LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const XDP_ATTACHED: u16 = 2;
const XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;
/// `include/uapi/linux/if_arp.h`.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_PPP: u16 = 512;
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_TUNNEL: u16 = 768;
const ARPHRD_TUNNEL6: u16 = 769;
const ARPHRD_LOOPBACK: u16 = 772;
const ARPHRD_SIT: u16 = 776;
const ARPHRD_IPGRE: u16 = 778;
const ARPHRD_IP6GRE: u16 = 823;
const ARPHRD_NONE: u16 = 0xfffe;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_link_type_tells_what_its_packets_begin_with() {
        let v6 = |first| [first, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(Begins::of(ARPHRD_ETHER, &[0xff; 6]), Begins::Ethernet);
        assert_eq!(Begins::of(ARPHRD_NONE, &[]), Begins::Ip);
        assert_eq!(Begins::of(ARPHRD_SIT, &[0; 4]), Begins::Ip);
        assert_eq!(Begins::of(ARPHRD_IPGRE, &[192, 0, 2, 1]), Begins::Ip);
        assert_eq!(Begins::of(ARPHRD_IPGRE, &[0; 4]), Begins::Gre);
        assert_eq!(Begins::of(ARPHRD_IPGRE, &[239, 0, 0, 1]), Begins::Gre);
        assert_eq!(Begins::of(ARPHRD_IP6GRE, &v6(0xfd)), Begins::Ip);
        assert_eq!(Begins::of(ARPHRD_IP6GRE, &[0; 16]), Begins::Gre);
        assert_eq!(Begins::of(ARPHRD_IP6GRE, &v6(0xff)), Begins::Gre);
        assert_eq!(Begins::of(32, &[0; 20]), Begins::Other(32), "InfiniBand");
    }
}
