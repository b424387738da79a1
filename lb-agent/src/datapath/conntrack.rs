// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the kernel's connection tracking sends a socket's datagrams: ctnetlink.
//!
//! What another proxy's NAT rules have translated goes on being translated without them, packet
//! by packet, as long as the kernel keeps the connection's entry.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lb_common::{addr::Addr, be::Be16, protocol::Protocol};
use rtnetlink::{
    packet_core::{
        DefaultNla, Emitable as _, NLA_F_NESTED, NLM_F_ACK, NetlinkDeserializable, NetlinkHeader,
        NetlinkSerializable,
    },
    sys::protocols::NETLINK_NETFILTER,
};

use super::{device::attribute, netlink::Netlink};

/// A conversation about the connections of the namespace in which it was opened.
pub struct Conntrack(Netlink);

/// An address and a port.
pub type End = (Addr, Be16);

impl Conntrack {
    /// Opens a conversation in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        Netlink::open(NETLINK_NETFILTER).map(Self)
    }

    /// Where datagrams from one end to another really go, if connection tracking knows the flow
    /// and has changed its destination. An error is none that matters: a kernel without
    /// ctnetlink translates nothing that it could be asked for.
    pub fn translated(&mut self, source: End, destination: End) -> Option<End> {
        let mut found = None;
        let question = Question::new(source, destination);
        // Its one answer ends what the kernel says, unless an acknowledgement is asked for too.
        let asked = self.0.ask(question, NLM_F_ACK, |Answer(body): Answer| {
            found = found.or_else(|| replier(&body));
        });
        asked.ok().and(found).filter(|backend| *backend != destination)
    }
}

/// IPCTNL_MSG_CT_GET for a UDP flow, by what its first packet had: `struct nfgenmsg` and the tuple.
struct Question(Vec<u8>);

impl Question {
    fn new(source: End, destination: End) -> Self {
        let (source_address, destination_address) = (source.0.to_ip(), destination.0.to_ip());
        let is_v4 = source_address.is_ipv4();
        let family = if is_v4 { libc::AF_INET } else { libc::AF_INET6 };
        let [from, to] = if is_v4 { V4 } else { V6 };
        let addresses = [(from, bytes(source_address)), (to, bytes(destination_address))];
        let ports = [
            (CTA_PROTO_NUM, vec![Protocol::UDP.number]),
            (CTA_PROTO_SRC_PORT, source.1.bytes.to_vec()),
            (CTA_PROTO_DST_PORT, destination.1.bytes.to_vec()),
        ];
        let tuple = [
            (CTA_TUPLE_IP | NLA_F_NESTED, attributes(addresses)),
            (CTA_TUPLE_PROTO | NLA_F_NESTED, attributes(ports)),
        ];
        let mut body = vec![u8::try_from(family).unwrap_or_default(), 0, 0, 0];
        body.extend(attributes([(CTA_TUPLE_ORIG | NLA_F_NESTED, attributes(tuple))]));
        Self(body)
    }
}

impl NetlinkSerializable for Question {
    fn message_type(&self) -> u16 {
        IPCTNL_MSG_CT_GET
    }

    fn buffer_len(&self) -> usize {
        self.0.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}

/// A connection: what follows its `struct nfgenmsg`.
struct Answer(Vec<u8>);

impl NetlinkDeserializable for Answer {
    type Error = Infallible;

    fn deserialize(_header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(payload.get(HEAD..).unwrap_or_default().to_vec()))
    }
}

/// Who sends the replies of a connection.
fn replier(connection: &[u8]) -> Option<End> {
    let tuple = attribute(connection, CTA_TUPLE_REPLY)?;
    let addresses = attribute(tuple, CTA_TUPLE_IP)?;
    let v4 = |value: &[u8]| value.try_into().ok().map(|it: [u8; 4]| Ipv4Addr::from(it).into());
    let v6 = |value: &[u8]| value.try_into().ok().map(|it: [u8; 16]| Ipv6Addr::from(it).into());
    let [v4_source, v6_source] = [V4[0], V6[0]].map(|kind| attribute(addresses, kind));
    let address = v4_source.and_then(v4).or_else(|| v6_source.and_then(v6))?;
    let port = attribute(attribute(tuple, CTA_TUPLE_PROTO)?, CTA_PROTO_SRC_PORT)?;
    Some((address, Be16 { bytes: port.try_into().ok()? }))
}

/// Attributes, one after the other.
fn attributes(all: impl IntoIterator<Item = (u16, Vec<u8>)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, value) in all {
        let attribute = DefaultNla::new(kind, value);
        let start = bytes.len();
        bytes.resize(start + attribute.buffer_len(), 0);
        attribute.emit(bytes.get_mut(start..).unwrap_or_default());
    }
    bytes
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// NFNL_SUBSYS_CTNETLINK and its message 1 (`include/uapi/linux/netfilter/nfnetlink*.h`).
const IPCTNL_MSG_CT_GET: u16 = 1 << 8 | 1;
/// Bytes of `struct nfgenmsg`: family, version, and an id of two bytes.
const HEAD: usize = 4;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
/// CTA_IP_V4_SRC and CTA_IP_V4_DST.
const V4: [u16; 2] = [1, 2];
/// CTA_IP_V6_SRC and CTA_IP_V6_DST.
const V6: [u16; 2] = [3, 4];
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// As `nfnetlink_conntrack` answers: the reply's tuple is that of the pod.
    #[test]
    fn who_replies_is_read_from_the_second_tuple() {
        let client = (Addr::from(Ipv4Addr::new(10, 0, 0, 2)), Be16::from_host(5353));
        let pod = (Addr::from(Ipv4Addr::new(10, 1, 0, 9)), Be16::from_host(8053));
        let mut body = Question::new(pod, client).0;
        let head: Vec<u8> = body.drain(..HEAD).collect();
        assert_eq!(head[0], 2, "AF_INET");
        body[2] = CTA_TUPLE_REPLY.to_ne_bytes()[0];
        assert_eq!(replier(&body), Some(pod));
        assert_eq!(replier(&body[..20]), None);
        assert_eq!(replier(&[]), None);
    }

    #[test]
    fn a_flow_that_nobody_translated_goes_where_it_says() {
        let nobody = (Addr::from(Ipv6Addr::LOCALHOST), Be16::from_host(9));
        let mut conntrack = Conntrack::open().unwrap();
        assert_eq!(conntrack.translated(nobody, nobody), None);
    }
}
