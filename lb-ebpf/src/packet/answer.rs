// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a client is told: a TCP reset, or an ICMP error with the head of its packet. The
//! packet itself becomes the answer and goes back where it came from, to the frame's sender,
//! from the address that was dialled.

use lb_common::{
    be::{Be16, Be32},
    checksum::Sum,
    counter::Counter,
    event::EventKind,
    flow::TcpFlags,
    protocol::Protocol,
};

use super::{
    drop,
    headers::Bytes,
    outcome::{EXPIRED, REFUSE, is_too_big, mtu},
    parse::{self, IPV4_LEN, IPV6_LEN, Packet, TCP_LEN, UDP_LEN},
    seen,
    shapes::{Icmp, Ipv4, Ipv6, Tcp, Udp},
};
use crate::{
    kernel::{self, network},
    maps, monitor,
};

/// An ICMP error.
#[derive(Clone, Copy)]
pub(super) enum Error {
    /// Nobody serves there.
    PortUnreachable,
    /// The packet was at the end of its hops.
    TtlExpired,
    /// The next link takes packets of so many bytes only.
    TooBig(u16),
}

/// Tells the sender of a packet what an outcome says: the action.
#[inline(always)]
pub(super) fn answer(packet: &Packet, outcome: i32) -> i32 {
    // RFC 1122 3.2.2.
    if packet.is_error() || packet.is_later() {
        return drop(Counter::DroppedUnanswered);
    }
    let is_tcp = packet.key.protocol == Protocol::TCP;
    if outcome == REFUSE && is_tcp {
        return if reset(packet) {
            seen::ended(packet, EventKind::Refused);
            sent(packet, Counter::AnsweredReset)
        } else {
            drop(Counter::AnswerFailed)
        };
    }
    let (error, reason) = match outcome {
        REFUSE => (Error::PortUnreachable, Counter::AnsweredUnreachable),
        EXPIRED => (Error::TtlExpired, Counter::TtlExpired),
        _ if is_too_big(outcome) => (Error::TooBig(mtu(outcome)), Counter::TooBig),
        _ => return drop(Counter::DroppedRace),
    };
    // As in the kernel, whoever looks for a path's limit is always told.
    let is_limited = !matches!(error, Error::TooBig(_));
    if is_limited && !maps::admit_answer(kernel::coarse_now_ns()) {
        return drop(Counter::AnswerSuppressed);
    }
    if icmp(packet, error.header(packet.ipv6)) {
        if outcome == REFUSE {
            seen::ended(packet, EventKind::Refused);
        } else {
            monitor::note(reason);
            seen::ended(packet, EventKind::Answered);
        }
        sent(packet, reason)
    } else {
        drop(Counter::AnswerFailed)
    }
}

#[inline(always)]
fn sent(packet: &Packet, reason: Counter) -> i32 {
    maps::count(reason);
    packet.bytes.send_back()
}

/// Turns a segment without ACK into its reset (RFC 9293 3.10.7.1): whether it is one
/// now.
#[inline(never)]
fn reset(packet: &Packet) -> bool {
    reset_in_place(packet).is_some()
}

#[inline(always)]
fn reset_in_place(packet: &Packet) -> Option<()> {
    let Packet { bytes, key, transport, .. } = *packet;
    let segment: Tcp = bytes.load(transport)?;
    let len = parse::end(packet)?.checked_sub(transport)?;
    let data_len = len.checked_sub(u32::from(segment.offset >> 4) * 4)?;
    let is_partial = segment.checksum == pseudo(packet, len).folded();
    let at = network() + if packet.ipv6 { IPV6_LEN } else { IPV4_LEN };
    if is_partial && at != transport {
        // The device would look for the checksum where the old header was.
        return None;
    }
    bytes.cut(at + TCP_LEN)?;
    let next = segment.sequence.to_host().wrapping_add(data_len + 1);
    let mut reset = Tcp {
        source: key.destination_port,
        destination: key.source_port,
        sequence: Be32::ZERO,
        acknowledgement: Be32::from_host(next),
        offset: 5 << 4,
        flags: TcpFlags::RST.union(TcpFlags::ACK).bits(),
        window: Be16::ZERO,
        checksum: Be16::ZERO,
        urgent: Be16::ZERO,
    };
    let pseudo = pseudo(packet, TCP_LEN);
    reset.checksum = if is_partial {
        pseudo.folded()
    } else {
        let words: [Be32; 5] = bytemuck::must_cast(reset);
        words.into_iter().fold(pseudo, Sum::with).checksum()
    };
    store_network(packet, Protocol::TCP, TCP_LEN)?;
    bytes.store_unsummed(at, &reset)?;
    swap_stations(bytes)
}

/// Puts an ICMP error in front of a packet's head: whether it is one now.
#[inline(never)]
fn icmp(packet: &Packet, error: Icmp) -> bool {
    icmp_in_place(packet, error).is_some()
}

#[inline(always)]
fn icmp_in_place(packet: &Packet, mut icmp: Icmp) -> Option<()> {
    let Packet { bytes, transport, .. } = *packet;
    let whole = parse::end(packet)?.checked_sub(transport)?;
    let seed = pseudo(packet, whole).folded();
    let is_partial = is_partial(packet, seed)?;
    let head_len = head_len(packet.key.protocol);
    let quoted = transport + head_len - network();
    if quoted > MAX_QUOTED || head_len > whole {
        return None;
    }
    bytes.cut(network() + quoted)?;
    // What the device fills in makes the sum of all from the transport header on the seed's
    // complement.
    let mut sum = if is_partial {
        words(bytes, network(), transport - network())?.with_low(Be16::from_wire(!seed.to_wire()))
    } else {
        words(bytes, network(), quoted)?
    };
    let protocol = if packet.ipv6 { Protocol::ICMPV6 } else { Protocol::ICMP };
    let len = ICMP_LEN + quoted;
    if packet.ipv6 {
        let next = Be32 { bytes: [0, 0, 0, protocol.number] };
        let (source, destination) = (packet.key.destination, packet.key.source);
        sum = sum
            .with_address(source)
            .with_address(destination)
            .with(Be32::from_host(len))
            .with(next);
    }
    let words: [Be32; 2] = bytemuck::must_cast(icmp);
    icmp.checksum = words.into_iter().fold(sum, Sum::with).checksum();
    let header_len = if packet.ipv6 { IPV6_LEN } else { IPV4_LEN };
    bytes.make_room(header_len + ICMP_LEN)?;
    store_network(packet, protocol, len)?;
    bytes.store_unsummed(network() + header_len, &icmp)?;
    swap_stations(bytes)
}

impl Error {
    /// The header without its checksum.
    #[inline(always)]
    fn header(self, ipv6: bool) -> Icmp {
        let (kind, code, rest) = match (self, ipv6) {
            (Self::PortUnreachable, false) => (3, 3, 0),
            (Self::PortUnreachable, true) => (1, 4, 0),
            (Self::TtlExpired, false) => (11, 0, 0),
            (Self::TtlExpired, true) => (3, 0, 0),
            (Self::TooBig(mtu), false) => (3, 4, mtu),
            (Self::TooBig(mtu), true) => (2, 0, mtu),
        };
        Icmp { kind, code, checksum: Be16::ZERO, rest: Be32::from_host(u32::from(rest)) }
    }
}

/// The sum of the pseudo header of a segment of that length.
#[inline(always)]
fn pseudo(packet: &Packet, len: u32) -> Sum {
    let protocol = Be32 { bytes: [0, 0, 0, packet.key.protocol.number] };
    Sum::ZERO
        .with_address(packet.key.source)
        .with_address(packet.key.destination)
        .with(Be32::from_host(len))
        .with(protocol)
}

/// Whether the device is to fill in the transport checksum: then it holds the pseudo header's sum.
/// SCTP's covers no pseudo header.
#[inline(always)]
fn is_partial(packet: &Packet, seed: Be16) -> Option<bool> {
    Some(match packet.key.protocol {
        Protocol::TCP => packet.bytes.load::<Tcp>(packet.transport)?.checksum == seed,
        Protocol::UDP => packet.bytes.load::<Udp>(packet.transport)?.checksum == seed,
        _ => false,
    })
}

/// How much of a transport header an error quotes: of SCTP as much as Linux looks for, the
/// initiate tag of an INIT.
#[inline(always)]
fn head_len(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::TCP => TCP_LEN,
        Protocol::SCTP => SCTP_QUOTED_LEN,
        _ => UDP_LEN,
    }
}

/// The sum of a part of the packet, whose length is a multiple of 4.
#[inline(always)]
fn words(bytes: Bytes, from: u32, len: u32) -> Option<Sum> {
    let mut sum = Sum::ZERO;
    let mut at = 0;
    for _ in 0..MAX_QUOTED / 4 {
        if at >= len {
            break;
        }
        sum = sum.with(bytes.load(from + at)?);
        at += 4;
    }
    // Each length led to a sum of its own.
    maps::launder(sum)
}

/// The answer's IP header.
#[inline(always)]
fn store_network(packet: &Packet, protocol: Protocol, len: u32) -> Option<()> {
    let (source, destination) = (packet.key.destination, packet.key.source);
    if packet.ipv6 {
        let header = Ipv6 {
            version: Be32::from_host(6 << 28),
            payload_len: Be16::from_host(u16::try_from(len).ok()?),
            next: protocol,
            hop_limit: HOPS,
            source,
            destination,
        };
        return packet.bytes.store_unsummed(network(), &header);
    }
    let mut header = Ipv4 {
        version: 0x45,
        traffic_class: 0,
        total_len: Be16::from_host(u16::try_from(len + IPV4_LEN).ok()?),
        id: Be16::ZERO,
        fragment: DONT_FRAGMENT,
        ttl: HOPS,
        protocol,
        checksum: Be16::ZERO,
        source: source.to_v4()?,
        destination: destination.to_v4()?,
    };
    let words: [Be32; 5] = bytemuck::must_cast(header);
    header.checksum = words.into_iter().fold(Sum::ZERO, Sum::with).checksum();
    packet.bytes.store_unsummed(network(), &header)
}

/// The frame goes back to its sender, if it is one.
#[inline(always)]
fn swap_stations(bytes: Bytes) -> Option<()> {
    if network() == 0 {
        return Some(());
    }
    let [to, from]: [[u8; 6]; 2] = bytes.load(0)?;
    bytes.store(0, &[from, to])
}

/// Bytes of an ICMP header.
const ICMP_LEN: u32 = 8;
const _: () = assert!(size_of::<Icmp>() == 8);
/// SCTP's common header, and the head and the first field of a chunk.
const SCTP_QUOTED_LEN: u32 = 20;
/// The usual TTL and hop limit (RFC 1700).
const HOPS: u8 = 64;
const DONT_FRAGMENT: Be16 = Be16::from_host(0x4000);
/// Most bytes of a packet that an error carries: more than its headers, but for long chains
/// of IPv6 extension headers.
const MAX_QUOTED: u32 = 160;
