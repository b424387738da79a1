// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a packet is: its tuple, and where its headers are.

use aya_ebpf::programs::TcContext;
use bytemuck::{Pod, Zeroable};
use lb_common::{
    addr::Addr,
    be::{Be16, Be32},
    counter::Counter,
    flow::{FlowKey, TcpFlags},
    protocol::Protocol,
};

use super::{
    fragment,
    headers::Bytes,
    shapes::{Extension, Fragment, Icmp, Ipv4, Ipv6, Sctp, Tcp, Udp},
};
use crate::{
    kernel::{Field, network},
    maps,
};

/// A packet of a flow, or a piece of one, or an ICMP error.
pub(super) struct Packet {
    /// Its bytes.
    pub(super) bytes: Bytes,
    /// Where it comes from and goes to; an ICMP error has no ports.
    pub(super) key: FlowKey,
    /// Whether it is IPv6.
    pub(super) ipv6: bool,
    /// Where the transport header is, from the packet's first byte on; 0 if it was in an earlier
    /// fragment.
    pub(super) transport: u32,
    /// A segment's flags, or what an SCTP packet says in their words; none of a datagram.
    pub(super) tcp: TcpFlags,
    /// Hops that are left.
    pub(super) hops: u8,
}

/// A packet but its bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(8))]
pub(super) struct Parsed {
    /// Where it comes from and goes to.
    pub(super) key: FlowKey,
    transport: u32,
    ipv6: u8,
    tcp: u8,
    hops: u8,
    pad: u8,
}

impl Field for Parsed {
    type Words = [u64; 6];
}

/// The IP header's part.
pub(super) struct Network {
    /// Whether it is IPv6.
    pub(super) ipv6: bool,
    /// The sender's address.
    pub(super) source: Addr,
    /// The receiver's address.
    pub(super) destination: Addr,
    /// What follows.
    pub(super) protocol: Protocol,
    /// Where that is.
    pub(super) transport: u32,
    /// Where the packet ends; 0 for a segment of more than 64 kB that the kernel has not cut yet.
    pub(super) end: u32,
    /// Hops that are left.
    pub(super) hops: u8,
    /// Which part of the packet it is.
    pub(super) piece: Piece,
}

/// A packet's part; all zero for the whole, but for the identification.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// The same in all parts.
    pub(super) id: Be32,
    /// Where the part begins, in units of 8 bytes.
    pub(super) offset: u16,
    /// Whether others follow.
    pub(super) more: bool,
}

impl Packet {
    /// Reads a packet's headers, or says why it is none of ours.
    #[inline(always)]
    pub(super) fn parse(context: &TcContext) -> Result<Self, Counter> {
        let bytes = Bytes(context.skb.skb);
        let mut reason = read(bytes);
        if reason == Counter::PassFragment.index() {
            reason = fragment::read(bytes);
        }
        if reason != READ {
            return Err(passed(reason));
        }
        let Parsed { key, transport, ipv6, tcp, hops, .. } =
            maps::take_up().ok_or(Counter::PassMalformed)?;
        let tcp = TcpFlags::from_bits_retain(tcp);
        Ok(Self { bytes, key, ipv6: ipv6 != 0, transport, tcp, hops })
    }

    /// Whether it may begin a flow.
    #[inline(always)]
    pub(super) fn opens(&self) -> bool {
        !self.is_later() && (self.key.protocol == Protocol::UDP || self.tcp.opens())
    }

    /// Whether it is a fragment without a transport header.
    #[inline(always)]
    pub(super) const fn is_later(&self) -> bool {
        self.transport == 0
    }

    /// Whether it is an ICMP error.
    #[inline(always)]
    pub(super) fn is_error(&self) -> bool {
        matches!(self.key.protocol, Protocol::ICMP | Protocol::ICMPV6)
    }

    /// Bytes of the IP packet; of a train, those of the largest packet that it is cut into.
    #[inline(always)]
    pub(super) fn sent_len(&self) -> u16 {
        let cut_len = self.bytes.cut_len();
        let end = if cut_len == 0 {
            self.bytes.len()
        } else {
            self.transport + self.transport_len() + cut_len
        };
        u16::try_from(end.saturating_sub(network())).unwrap_or(u16::MAX)
    }

    /// Bytes of the transport header of a segment or datagram.
    #[inline(always)]
    fn transport_len(&self) -> u32 {
        if self.key.protocol != Protocol::TCP {
            return UDP_LEN;
        }
        let offset = self.bytes.load::<u8>(self.transport + TCP_OFFSET).unwrap_or_default();
        u32::from(offset >> 4) * 4
    }
}

/// The reason that a number stands for.
#[inline(always)]
fn passed(reason: u32) -> Counter {
    const NOT_IP: u32 = Counter::PassNotIp.index();
    const FRAGMENT: u32 = Counter::PassFragment.index();
    const WAITED: u32 = Counter::FragmentWaited.index();
    const PROTOCOL: u32 = Counter::PassProtocol.index();
    match reason {
        NOT_IP => Counter::PassNotIp,
        FRAGMENT => Counter::PassFragment,
        WAITED => Counter::FragmentWaited,
        PROTOCOL => Counter::PassProtocol,
        _ => Counter::PassMalformed,
    }
}

/// Puts down what a packet is: [`READ`], or the number of the reason why it is none of ours.
#[inline(never)]
fn read(bytes: Bytes) -> u32 {
    put_down(parsed(bytes))
}

/// Puts down a packet: [`READ`], or the number of the reason why there is none.
#[inline(always)]
pub(super) fn put_down(parsed: Result<Parsed, Counter>) -> u32 {
    match parsed.and_then(|parsed| maps::put_down(parsed).ok_or(Counter::PassMalformed)) {
        Ok(()) => READ,
        Err(reason) => reason.index(),
    }
}

#[inline(always)]
fn parsed(bytes: Bytes) -> Result<Parsed, Counter> {
    if bytes.is_for_others() {
        return Err(Counter::PassNotIp);
    }
    let header = header(bytes)?;
    if header.piece.is_fragment() {
        return Err(Counter::PassFragment);
    }
    header.with_transport(bytes)
}

/// Reads the IP header and what is between it and the transport header.
#[inline(always)]
pub(super) fn header(bytes: Bytes) -> Result<Network, Counter> {
    let ether_type = bytes.ether_type();
    if ether_type == ETHER_IPV4 {
        ipv4(bytes, network())
    } else if ether_type == ETHER_IPV6 {
        ipv6(bytes, network())
    } else {
        Err(Counter::PassNotIp)
    }
}

impl Piece {
    /// Of a packet that is in one piece.
    const WHOLE: Self = Self { id: Be32::ZERO, offset: 0, more: false };

    /// Whether it is not the whole packet. An IPv6 packet with a fragment header may be whole
    /// (RFC 6946).
    #[inline(always)]
    pub(super) const fn is_fragment(self) -> bool {
        self.offset != 0 || self.more
    }
}

impl Network {
    /// The packet with this header, if its transport header is there, too.
    #[inline(always)]
    pub(super) fn with_transport(&self, bytes: Bytes) -> Result<Parsed, Counter> {
        let Self { ipv6, source, destination, protocol, transport, hops, .. } = *self;
        let least = match protocol {
            Protocol::TCP => TCP_LEN,
            Protocol::SCTP => SCTP_LEN,
            _ => UDP_LEN,
        };
        self.check_len(bytes, least)?;
        let (ports, tcp) = transport_header(bytes, protocol, transport)?;
        let key = FlowKey::new((source, ports.0), (destination, ports.1), protocol);
        Ok(Parsed { key, transport, ipv6: u8::from(ipv6), tcp: tcp.bits(), hops, pad: 0 })
    }

    /// A packet whose transport header is in another fragment, with the ports there.
    #[inline(always)]
    pub(super) fn later(&self, ports: (Be16, Be16)) -> Parsed {
        let Self { ipv6, source, destination, protocol, hops, .. } = *self;
        let key = FlowKey::new((source, ports.0), (destination, ports.1), protocol);
        let tcp = TcpFlags::ACK.bits();
        Parsed { key, transport: 0, ipv6: u8::from(ipv6), tcp, hops, pad: 0 }
    }

    /// Whether the packet has the bytes that its IP header promises, and those hold so much of
    /// what follows.
    #[inline(always)]
    pub(super) fn check_len(&self, bytes: Bytes, least: u32) -> Result<(), Counter> {
        if self.end != 0 && (self.end > bytes.len() || self.transport + least > self.end) {
            return Err(Counter::PassMalformed);
        }
        Ok(())
    }
}

/// Where the packet ends by its IP header: frames are padded.
#[inline(always)]
pub(super) fn end(packet: &Packet) -> Option<u32> {
    Some(
        network()
            + if packet.ipv6 {
                let header: Ipv6 = packet.bytes.load(network())?;
                IPV6_LEN + u32::from(header.payload_len.to_host())
            } else {
                let header: Ipv4 = packet.bytes.load(network())?;
                u32::from(header.total_len.to_host())
            },
    )
}

/// Reads an IPv4 header that is there.
#[inline(always)]
pub(super) fn ipv4(bytes: Bytes, at: u32) -> Result<Network, Counter> {
    let header: Ipv4 = bytes.load(at).ok_or(Counter::PassMalformed)?;
    let header_len = u32::from(header.version & 0xf) * 4;
    if header.version >> 4 != 4 || header_len < IPV4_LEN {
        return Err(Counter::PassMalformed);
    }
    let fragment = header.fragment.to_host();
    let [high, low] = header.id.bytes;
    let total_len = u32::from(header.total_len.to_host());
    Ok(Network {
        ipv6: false,
        source: Addr::from_v4(header.source),
        destination: Addr::from_v4(header.destination),
        protocol: header.protocol,
        transport: at + header_len,
        end: if total_len == 0 { 0 } else { at + total_len },
        hops: header.ttl,
        piece: Piece {
            id: Be32 { bytes: [0, 0, high, low] },
            offset: fragment & IPV4_OFFSET,
            more: fragment & IPV4_MORE != 0,
        },
    })
}

/// Reads an IPv6 header that is there, and its extension headers.
#[inline(always)]
pub(super) fn ipv6(bytes: Bytes, at: u32) -> Result<Network, Counter> {
    let header: Ipv6 = bytes.load(at).ok_or(Counter::PassMalformed)?;
    if header.version.to_host() >> 28 != 6 || header.source.to_v4().is_some() {
        return Err(Counter::PassMalformed);
    }
    let payload_len = u32::from(header.payload_len.to_host());
    let mut network = Network {
        ipv6: true,
        source: header.source,
        destination: header.destination,
        protocol: header.next,
        transport: at + IPV6_LEN,
        end: if payload_len == 0 { 0 } else { at + IPV6_LEN + payload_len },
        hops: header.hop_limit,
        piece: Piece::WHOLE,
    };
    skip_extensions(bytes, &mut network)?;
    Ok(network)
}

/// Walks over the extension headers that may stand before a transport header. Behind the
/// fragment header of a later fragment there is none.
#[inline(always)]
fn skip_extensions(bytes: Bytes, network: &mut Network) -> Result<(), Counter> {
    for _ in 0..MAX_EXTENSIONS {
        match network.protocol.number {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let header: Extension =
                    bytes.load(network.transport).ok_or(Counter::PassMalformed)?;
                network.protocol = header.next;
                network.transport += (u32::from(header.len) + 1) * 8;
            }
            FRAGMENT => {
                let header: Fragment =
                    bytes.load(network.transport).ok_or(Counter::PassMalformed)?;
                let place = header.place.to_host();
                network.protocol = header.next;
                network.transport += 8;
                network.piece =
                    Piece { id: header.id, offset: place >> 3, more: place & IPV6_MORE != 0 };
                if network.piece.offset != 0 {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
    }
    Err(Counter::PassMalformed)
}

/// The ports in a transport header, and what it says of the flow.
#[inline(always)]
fn transport_header(
    bytes: Bytes,
    protocol: Protocol,
    at: u32,
) -> Result<((Be16, Be16), TcpFlags), Counter> {
    match protocol {
        Protocol::TCP => {
            let header: Tcp = bytes.load(at).ok_or(Counter::PassMalformed)?;
            let flags = TcpFlags::from_bits_retain(header.flags);
            Ok(((header.source, header.destination), flags))
        }
        Protocol::UDP => {
            let header: Udp = bytes.load(at).ok_or(Counter::PassMalformed)?;
            Ok(((header.source, header.destination), TcpFlags::empty()))
        }
        Protocol::SCTP => {
            let header: Sctp = bytes.load(at).ok_or(Counter::PassMalformed)?;
            Ok(((header.source, header.destination), TcpFlags::of_chunk(header.chunk)))
        }
        Protocol::ICMP | Protocol::ICMPV6 => {
            let header: Icmp = bytes.load(at).ok_or(Counter::PassMalformed)?;
            if !header.is_error(protocol) {
                return Err(Counter::PassProtocol);
            }
            Ok(((Be16::ZERO, Be16::ZERO), TcpFlags::empty()))
        }
        _ => Err(Counter::PassProtocol),
    }
}

/// No reason: the packet is read.
pub(super) const READ: u32 = Counter::COUNT;
/// An Ethernet header without tags.
pub(super) const ETHERNET_LEN: u32 = 14;
/// An IPv4 header without options.
pub(super) const IPV4_LEN: u32 = 20;
/// An IPv6 header without extension headers.
pub(super) const IPV6_LEN: u32 = 40;
/// A TCP header without options.
pub(super) const TCP_LEN: u32 = 20;
/// A UDP header.
pub(super) const UDP_LEN: u32 = 8;
/// Where a segment says how long its header is.
const TCP_OFFSET: u32 = 12;
/// SCTP's common header and the head of a chunk.
const SCTP_LEN: u32 = 16;

const _: () = {
    assert!(size_of::<Ipv4>() == 20 && size_of::<Ipv6>() == 40);
    assert!(size_of::<Tcp>() == 20 && size_of::<Udp>() == 8);
};

/// IPv4, as an EtherType.
pub(super) const ETHER_IPV4: Be16 = Be16::from_host(0x0800);
/// IPv6, as an EtherType.
pub(super) const ETHER_IPV6: Be16 = Be16::from_host(0x86dd);
/// In the IPv4 fragment field (RFC 791 3.1): more fragments, or an offset.
pub(super) const MORE_OR_OFFSET: u16 = 0x3fff;
const IPV4_MORE: u16 = 0x2000;
const IPV4_OFFSET: u16 = 0x1fff;
/// In that of the IPv6 header (RFC 8200 4.5).
const IPV6_MORE: u16 = 1;
/// Extension headers by number (RFC 8200 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// More than any packet needs: each kind comes once, destination options twice (RFC 8200 4.1),
/// and the transport header ends the walk.
const MAX_EXTENSIONS: u32 = 7;
