// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets, described; etherparse turns them into bytes and judges bytes.

use std::net::{IpAddr, SocketAddr};

use crc::{CRC_32_ISCSI, Crc};
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions,
    Ipv6Header, Ipv6RawExtHeader, NetHeaders, PacketBuilder, PacketHeaders, PayloadSlice,
    TcpHeader, TransportHeader, icmpv4, icmpv6,
};
use lb_common::flow::TcpFlags;

/// A packet in an Ethernet frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) hops: u8,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
    /// What the IP header has behind it.
    pub(crate) head: Head,
    /// The stations that send and receive the frame.
    pub(crate) stations: [[u8; 6]; 2],
}

/// What is above IP.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    Udp,
    /// Without a checksum.
    BareUdp,
    Tcp(Segment),
    /// With a chunk of this type.
    Sctp(u8),
}

/// What stands between an IP header and the transport header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Head {
    /// Nothing.
    Plain,
    /// IPv4 options, or IPv6 extension headers.
    Long,
}

/// A TCP segment's own fields.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) flags: TcpFlags,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) window: u16,
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    PortUnreachable,
    TtlExpired,
    TooBig(u16),
}

impl Frame {
    /// A datagram.
    pub(crate) fn udp(from: SocketAddr, to: SocketAddr) -> Self {
        Self::new(from, to, Transport::Udp)
    }

    /// A segment.
    pub(crate) fn tcp(from: SocketAddr, to: SocketAddr, segment: Segment) -> Self {
        Self::new(from, to, Transport::Tcp(segment))
    }

    /// A packet with a chunk.
    pub(crate) fn sctp(from: SocketAddr, to: SocketAddr, chunk: u8) -> Self {
        Self::new(from, to, Transport::Sctp(chunk))
    }

    fn new(from: SocketAddr, to: SocketAddr, transport: Transport) -> Self {
        let payload = b"what is said".to_vec();
        Self { from, to, hops: 33, transport, payload, head: Head::Plain, stations: [PEER, NODE] }
    }

    /// The same with other ends.
    pub(crate) fn between(&self, from: SocketAddr, to: SocketAddr) -> Self {
        Self { from, to, ..self.clone() }
    }

    /// The same after another router.
    pub(crate) fn routed(&self) -> Self {
        Self { hops: self.hops - 1, ..self.clone() }
    }

    /// The bytes, with the right checksums.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let link = PacketBuilder::ethernet2(self.stations[0], self.stations[1]);
        let ip = link.ip(self.ip());
        let mut bytes = Vec::new();
        let (from, to) = (self.from.port(), self.to.port());
        match self.transport {
            Transport::Udp | Transport::BareUdp => {
                ip.udp(from, to).write_to_vec(&mut bytes, &self.payload).unwrap();
            }
            Transport::Tcp(segment) => {
                let header = segment.header(from, to);
                ip.tcp_header(header).write_to_vec(&mut bytes, &self.payload).unwrap();
            }
            Transport::Sctp(chunk) => {
                let packet = association(from, to, chunk, &self.payload);
                ip.write_to_vec(&mut bytes, IpNumber::SCTP, &packet).unwrap();
            }
        }
        if matches!(self.transport, Transport::BareUdp) {
            let at = bytes.len() - self.payload.len() - 2;
            bytes[at..at + 2].fill(0);
        }
        bytes
    }

    /// The IP header and what belongs to it; lengths and protocols are filled in later.
    fn ip(&self) -> IpHeaders {
        let is_long = self.head == Head::Long;
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let mut header = Ipv4Header::new(0, self.hops, IpNumber(0), from, to).unwrap();
                if is_long {
                    header.options = ROUTER_ALERT.into();
                }
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    hop_limit: self.hops,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv6Header::default()
                };
                let options =
                    is_long.then(|| Ipv6RawExtHeader::new_raw(IpNumber(0), &PADDING).unwrap());
                let extensions = Ipv6Extensions {
                    hop_by_hop_options: options.clone(),
                    destination_options: options,
                    ..Ipv6Extensions::default()
                };
                IpHeaders::Ipv6(header, extensions)
            }
            mixed => panic!("{mixed:?}"),
        }
    }

    /// The reset that answers a segment without ACK.
    pub(crate) fn reset(&self) -> Vec<u8> {
        let Transport::Tcp(segment) = self.transport else { panic!("{self:?}") };
        let len = u32::try_from(self.payload.len()).unwrap();
        let acknowledgement = segment.sequence.wrapping_add(len + 1);
        let reset =
            Segment { flags: TcpFlags::RST | TcpFlags::ACK, acknowledgement, ..Segment::default() };
        let answer = Self::tcp(self.to, self.from, reset);
        Self { hops: 64, payload: Vec::new(), stations: [NODE, PEER], ..answer }.bytes()
    }

    /// The ICMP error that answers it, with its headers.
    pub(crate) fn error(&self, said: Said) -> Vec<u8> {
        let bytes = self.bytes();
        // The headers; of SCTP all but the chunk's payload.
        self.error_quoting(said, &bytes[ETHERNET..bytes.len() - self.payload.len()])
    }

    /// The ICMP error that answers it, with this part of it.
    pub(crate) fn error_quoting(&self, said: Said, quoted: &[u8]) -> Vec<u8> {
        let link = PacketBuilder::ethernet2(NODE, PEER);
        let mut answer = Vec::new();
        match (self.to.ip(), self.from.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let ip = link.ipv4(from.octets(), to.octets(), 64);
                ip.icmpv4(said.v4()).write_to_vec(&mut answer, quoted).unwrap();
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let ip = link.ipv6(from.octets(), to.octets(), 64);
                ip.icmpv6(said.v6()).write_to_vec(&mut answer, quoted).unwrap();
            }
            mixed => panic!("{mixed:?}"),
        }
        answer
    }
}

impl Segment {
    /// What opens a connection.
    pub(crate) fn syn() -> Self {
        Self { flags: TcpFlags::SYN, sequence: 0xdead_0001, window: 64_000, ..Self::default() }
    }

    /// What answers that.
    pub(crate) fn syn_ack() -> Self {
        Self {
            flags: TcpFlags::SYN | TcpFlags::ACK,
            sequence: 77,
            acknowledgement: 0xdead_0002,
            ..Self::syn()
        }
    }

    /// What follows.
    pub(crate) fn data() -> Self {
        Self { flags: TcpFlags::ACK, ..Self::syn_ack() }
    }

    fn header(self, from: u16, to: u16) -> TcpHeader {
        let mut header = TcpHeader::new(from, to, self.sequence, self.window);
        header.syn = self.flags.contains(TcpFlags::SYN);
        header.ack = self.flags.contains(TcpFlags::ACK);
        header.fin = self.flags.contains(TcpFlags::FIN);
        header.rst = self.flags.contains(TcpFlags::RST);
        header.acknowledgment_number = self.acknowledgement;
        header
    }
}

impl Said {
    fn v4(self) -> Icmpv4Type {
        match self {
            Self::PortUnreachable => {
                Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port)
            }
            Self::TtlExpired => {
                Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit)
            }
            Self::TooBig(next_hop_mtu) => Icmpv4Type::DestinationUnreachable(
                icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu },
            ),
        }
    }

    fn v6(self) -> Icmpv6Type {
        match self {
            Self::PortUnreachable => {
                Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port)
            }
            Self::TtlExpired => {
                Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded)
            }
            Self::TooBig(mtu) => Icmpv6Type::PacketTooBig { mtu: mtu.into() },
        }
    }
}

/// An SCTP packet: the common header, the head of a chunk and its first field, and a payload.
fn association(from: u16, to: u16, chunk: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 8).unwrap();
    let mut packet = [
        &from.to_be_bytes()[..],
        &to.to_be_bytes(),
        &[0xca, 0xfe, 0, 1, 0, 0, 0, 0, chunk, 0],
        &len.to_be_bytes(),
        &[0xbe, 0xef, 0, 2],
        payload,
    ]
    .concat();
    let crc = crc32c(&packet);
    packet[8..12].copy_from_slice(&crc);
    packet
}

/// As SCTP has it, of a packet whose field is zero (RFC 9260 appendix A).
fn crc32c(packet: &[u8]) -> [u8; 4] {
    Crc::<u32>::new(&CRC_32_ISCSI).checksum(packet).to_le_bytes()
}

/// Whether an SCTP packet has another checksum than it should.
fn is_crc_wrong(packet: &[u8]) -> bool {
    let mut blank = packet.to_vec();
    let Some(field) = blank.get_mut(8..12) else { return false };
    field.fill(0);
    packet[8..12] != crc32c(&blank)
}

/// What is wrong with a packet's checksums; `None` for a packet that has none.
pub(crate) fn wrong_checksum(bytes: &[u8]) -> Option<String> {
    let packet = PacketHeaders::from_ethernet_slice(bytes).ok()?;
    let payload = packet.payload.slice();
    let (net, transport) = (packet.net?, packet.transport);
    if let NetHeaders::Ipv4(header, _) = &net
        && header.header_checksum != header.calc_header_checksum()
    {
        return Some(format!("IPv4 header: {:#x}", header.header_checksum));
    }
    if let PayloadSlice::Ip(ip) = &packet.payload
        && ip.ip_number == IpNumber::SCTP
        && !ip.fragmented
        && is_crc_wrong(payload)
    {
        return Some("SCTP".to_owned());
    }
    let transport = transport?;
    let mut right = transport.clone();
    match &net {
        NetHeaders::Ipv4(header, _) => right.update_checksum_ipv4(header, payload).ok()?,
        NetHeaders::Ipv6(header, _) => right.update_checksum_ipv6(header, payload).ok()?,
        NetHeaders::Arp(_) => return None,
    }
    let is_bare = matches!(&transport, TransportHeader::Udp(header) if header.checksum == 0);
    (transport != right && !is_bare).then(|| format!("{transport:?} instead of {right:?}"))
}

/// The station that sends what comes in.
pub(crate) const PEER: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// The node's: test runs go over its loopback.
pub(crate) const NODE: [u8; 6] = [0; 6];
/// The node's uplink.
pub(crate) const UPLINK: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The way to other nodes and to clients.
pub(crate) const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// An IPv4 option that is in use (RFC 2113), and IPv6 options that say nothing (RFC 8200 4.2).
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
