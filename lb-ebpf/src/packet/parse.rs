// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a packet is: its tuple, and where its headers are.

use aya_ebpf::programs::TcContext;
use bytemuck::{Pod, Zeroable};
use lb_common::{
    addr::Addr,
    be::Be16,
    counter::Counter,
    flow::{FlowKey, TcpFlags},
    protocol::Protocol,
};

use super::{
    headers::Bytes,
    shapes::{Extension, Ipv4, Ipv6, Tcp, Udp},
};
use crate::{kernel::Field, maps};

/// A TCP segment or UDP datagram, whole.
pub(super) struct Packet {
    /// Its bytes.
    pub(super) bytes: Bytes,
    /// Where it comes from and goes to.
    pub(super) key: FlowKey,
    /// Whether it is IPv6.
    pub(super) ipv6: bool,
    /// Where the transport header is, from the Ethernet header on.
    pub(super) transport: u32,
    /// A segment's flags; none of a datagram.
    pub(super) tcp: TcpFlags,
    /// Hops that are left.
    pub(super) hops: u8,
}

/// A packet but its bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(8))]
struct Parsed {
    key: FlowKey,
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
struct Network {
    source: Addr,
    destination: Addr,
    protocol: Protocol,
    transport: u32,
    hops: u8,
}

impl Packet {
    /// Reads a packet's headers, or says why it is none of ours.
    #[inline(always)]
    pub(super) fn parse(context: &TcContext) -> Result<Self, Counter> {
        let bytes = Bytes(context.skb.skb);
        let reason = read(bytes);
        if reason != READ {
            return Err(passed(reason));
        }
        let Parsed { key, transport, ipv6, tcp, hops, .. } =
            maps::take_up().ok_or(Counter::PassMalformed)?;
        let tcp = TcpFlags::from_bits_retain(tcp);
        Ok(Self { bytes, key, ipv6: ipv6 != 0, transport, tcp, hops })
    }
}

/// The reason that a number stands for.
#[inline(always)]
fn passed(reason: u32) -> Counter {
    const NOT_IP: u32 = Counter::PassNotIp.index();
    const FRAGMENT: u32 = Counter::PassFragment.index();
    const PROTOCOL: u32 = Counter::PassProtocol.index();
    match reason {
        NOT_IP => Counter::PassNotIp,
        FRAGMENT => Counter::PassFragment,
        PROTOCOL => Counter::PassProtocol,
        _ => Counter::PassMalformed,
    }
}

/// Puts down what a packet is: [`READ`], or the number of the reason why it is none of ours.
#[inline(never)]
fn read(bytes: Bytes) -> u32 {
    match parsed(bytes).and_then(|parsed| maps::put_down(parsed).ok_or(Counter::PassMalformed)) {
        Ok(()) => READ,
        Err(reason) => reason.index(),
    }
}

#[inline(always)]
fn parsed(bytes: Bytes) -> Result<Parsed, Counter> {
    if bytes.is_for_others() {
        return Err(Counter::PassNotIp);
    }
    let ether_type = bytes.ether_type();
    let (ipv6, network) = if ether_type == ETHER_IPV4 {
        (false, ipv4(bytes)?)
    } else if ether_type == ETHER_IPV6 {
        (true, ipv6_header(bytes)?)
    } else {
        return Err(Counter::PassNotIp);
    };
    let Network { source, destination, protocol, transport, hops } = network;
    let (ports, tcp) = transport_header(bytes, protocol, transport)?;
    let key = FlowKey::new((source, ports.0), (destination, ports.1), protocol);
    Ok(Parsed { key, transport, ipv6: u8::from(ipv6), tcp: tcp.bits(), hops, pad: 0 })
}

#[inline(always)]
fn ipv4(bytes: Bytes) -> Result<Network, Counter> {
    let header: Ipv4 = bytes.load(NETWORK).ok_or(Counter::PassMalformed)?;
    let header_len = u32::from(header.version & 0xf) * 4;
    if header.version >> 4 != 4 || header_len < IPV4_LEN {
        return Err(Counter::PassMalformed);
    }
    if header.fragment.to_host() & MORE_OR_OFFSET != 0 {
        return Err(Counter::PassFragment);
    }
    let transport = NETWORK + header_len;
    // 0 is a segment of more than 64 kB that the kernel has not cut yet.
    let total_len = u32::from(header.total_len.to_host());
    if total_len != 0 {
        check_len(bytes, NETWORK + total_len, transport, header.protocol)?;
    }
    Ok(Network {
        source: Addr::from_v4(header.source),
        destination: Addr::from_v4(header.destination),
        protocol: header.protocol,
        transport,
        hops: header.ttl,
    })
}

#[inline(always)]
fn ipv6_header(bytes: Bytes) -> Result<Network, Counter> {
    let header: Ipv6 = bytes.load(NETWORK).ok_or(Counter::PassMalformed)?;
    if header.version.to_host() >> 28 != 6 || header.source.to_v4().is_some() {
        return Err(Counter::PassMalformed);
    }
    let (protocol, transport) = behind_extensions(bytes, header.next)?;
    let payload_len = u32::from(header.payload_len.to_host());
    if payload_len != 0 {
        check_len(bytes, NETWORK + IPV6_LEN + payload_len, transport, protocol)?;
    }
    Ok(Network {
        source: header.source,
        destination: header.destination,
        protocol,
        transport,
        hops: header.hop_limit,
    })
}

/// Walks over the extension headers that may stand before a transport header.
#[inline(always)]
fn behind_extensions(bytes: Bytes, first: Protocol) -> Result<(Protocol, u32), Counter> {
    let mut protocol = first;
    let mut at = NETWORK + IPV6_LEN;
    for _ in 0..MAX_EXTENSIONS {
        match protocol.number {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let header: Extension = bytes.load(at).ok_or(Counter::PassMalformed)?;
                protocol = header.next;
                at += (u32::from(header.len) + 1) * 8;
            }
            FRAGMENT => return Err(Counter::PassFragment),
            _ => return Ok((protocol, at)),
        }
    }
    Err(Counter::PassMalformed)
}

/// Whether the packet has the bytes that its IP header promises, and those hold the transport
/// header.
#[inline(always)]
fn check_len(bytes: Bytes, end: u32, transport: u32, protocol: Protocol) -> Result<(), Counter> {
    let least = if protocol == Protocol::TCP { TCP_LEN } else { UDP_LEN };
    if end > bytes.len() || transport + least > end {
        return Err(Counter::PassMalformed);
    }
    Ok(())
}

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
        _ => Err(Counter::PassProtocol),
    }
}

/// No reason: the packet is read.
const READ: u32 = Counter::COUNT;
/// Where the IP header is: behind an Ethernet header, VLAN tags are stripped.
pub(super) const NETWORK: u32 = 14;
/// An IPv4 header without options.
pub(super) const IPV4_LEN: u32 = 20;
/// An IPv6 header without extension headers.
pub(super) const IPV6_LEN: u32 = 40;
/// A TCP header without options.
pub(super) const TCP_LEN: u32 = 20;
/// A UDP header.
pub(super) const UDP_LEN: u32 = 8;

const _: () = {
    assert!(size_of::<Ipv4>() == 20 && size_of::<Ipv6>() == 40);
    assert!(size_of::<Tcp>() == 20 && size_of::<Udp>() == 8);
};

/// IPv4, as an EtherType.
pub(super) const ETHER_IPV4: Be16 = Be16::from_host(0x0800);
/// IPv6, as an EtherType.
pub(super) const ETHER_IPV6: Be16 = Be16::from_host(0x86dd);
/// In the IPv4 fragment field: more fragments, or an offset.
pub(super) const MORE_OR_OFFSET: u16 = 0x3fff;
/// Extension headers by number (RFC 8200 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// More than any packet needs: each kind comes once, destination options twice (RFC 8200 4.1).
const MAX_EXTENSIONS: u32 = 6;
