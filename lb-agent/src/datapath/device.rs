// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel says about a network device: its kind, and the XDP program at it.

use std::{ffi::CStr, io};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NetlinkDeserializable, NetlinkHeader, NlasIterator},
    packet_route::{RouteNetlinkMessage, link::LinkMessage},
    sys::protocols::NETLINK_ROUTE,
};

use super::netlink::Netlink;

/// A device of the caller's network namespace, as far as it matters to XDP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Device {
    /// What made it, as `ip -d link` says; empty for hardware.
    pub kind: String,
    /// The XDP program at it, and how it runs.
    pub xdp: Option<(u32, XdpMode)>,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XdpMode {
    /// In the driver, or in the device itself.
    Native,
    /// In the stack, where each packet has its full cost already.
    Generic,
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
        Ok(Self(Device { kind, xdp }))
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
/// Bytes before an attribute's value (NLA_HDRLEN).
const ATTRIBUTE_HEADER: usize = 4;
/// `include/uapi/linux/if_link.h`.
const IFLA_LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const XDP_ATTACHED: u16 = 2;
const XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;
