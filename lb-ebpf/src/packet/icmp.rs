// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ICMP errors about packets of flows. An error quotes the packet that it is about as it left
//! here; who sent that packet knows it as it came.
//!
//! ```text
//! about a request   quotes source → backend    becomes client → frontend    to the client
//! about a reply     quotes frontend → client   becomes backend → source     to the backend
//! ```
//!
//! Either way the half of the flow that the quoted tuple leads to, reversed, holds the tuple that
//! the quoted one becomes, reversed. Flows are only read: an error neither begins nor keeps one.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use lb_common::{
    be::{Be16, Be32},
    checksum::Sum,
    counter::Counter,
    flow::{FlowEntry, FlowFlags, FlowKey},
    protocol::Protocol,
};

use super::{
    drop,
    forward::{self, IPV4_CHECKSUM, IPV4_SOURCE, IPV6_SOURCE, TCP_CHECKSUM, UDP_CHECKSUM},
    outcome::{DIRECT, TO_BACKEND, TO_CLIENT, TO_STACK, is_action},
    parse::{self, Packet},
    pass,
};
use crate::{kernel::Field, maps};

/// The packet that an error quotes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(8))]
struct Quoted {
    /// Its tuple.
    key: FlowKey,
    /// Where its IP header is.
    network: u32,
    /// Where its transport header is.
    transport: u32,
    /// Where the quotation ends.
    end: u32,
    pad: u32,
}

impl Field for Quoted {
    type Words = [u64; 7];
}

/// What becomes of an error that came in: an outcome with the tuple of the error itself put down,
/// after what it quotes was rewritten; or an action.
#[inline(always)]
pub(super) fn ingress(packet: &Packet) -> i32 {
    outcome(packet, INGRESS)
}

/// The same for one that leaves: only those about requests to local backends are met here.
#[inline(always)]
pub(super) fn egress(packet: &Packet) -> i32 {
    outcome(packet, EGRESS)
}

#[inline(always)]
fn outcome(packet: &Packet, side: u32) -> i32 {
    if !quoted(packet) {
        return pass(Counter::PassIcmpMalformed);
    }
    let outcome = find(side);
    // What goes on unchanged quotes what its receiver has to look for.
    if is_action(outcome) || outcome == DIRECT {
        return outcome;
    }
    if outcome != TO_STACK && packet.hops <= 1 {
        return drop(Counter::DroppedUnanswered);
    }
    if requote(packet) { outcome } else { drop(Counter::DroppedRewrite) }
}

/// Puts the quoted packet aside: whether there is one that says which flow it was of.
#[inline(never)]
fn quoted(packet: &Packet) -> bool {
    read(packet).and_then(maps::put_aside).is_some()
}

#[inline(always)]
fn read(packet: &Packet) -> Option<Quoted> {
    let Packet { bytes, key, ipv6, transport, .. } = *packet;
    if ipv6 != (key.protocol == Protocol::ICMPV6) {
        return None;
    }
    let end = parse::end(packet)?;
    let network = transport + ICMP_LEN;
    let header =
        if ipv6 { parse::ipv6(bytes, network) } else { parse::ipv4(bytes, network) }.ok()?;
    // The error goes to who sent what it quotes; as nf_conntrack_inet_error has it.
    if header.piece.offset != 0 || header.source != key.destination {
        return None;
    }
    // Neither the quotation nor the packet may end before the ports do (RFC 792).
    let least = header.transport + QUOTED_LEN;
    if least > end || header.end < least {
        return None;
    }
    let [source, destination]: [Be16; 2] = bytes.load(header.transport)?;
    let key =
        FlowKey::new((header.source, source), (header.destination, destination), header.protocol);
    Some(Quoted { key, network, transport: header.transport, end, pad: 0 })
}

/// Puts down the tuple of the half that the quoted packet leads to: where the error goes, or the
/// action.
#[inline(never)]
fn find(side: u32) -> i32 {
    found(side).unwrap_or_else(|| pass(Counter::PassIcmp))
}

#[inline(always)]
fn found(side: u32) -> Option<i32> {
    let Quoted { key, .. } = maps::aside()?;
    let half = maps::flow(&key.reversed())?;
    let to = half.load::<FlowKey, { offset_of!(FlowEntry, to) }>();
    let flags = half.load::<FlowFlags, { offset_of!(FlowEntry, flags) }>();
    if flags.contains(FlowFlags::DIRECT) {
        maps::put_down(to)?;
        return (side == INGRESS).then_some(DIRECT);
    }
    // An element that has become another flow's under our eyes does not lead back.
    if let Some(other) = maps::flow(&to.reversed())
        && !other.load::<FlowKey, { offset_of!(FlowEntry, to) }>().same(&key)
    {
        return None;
    }
    let is_reply = flags.contains(FlowFlags::REPLY);
    let outcome = match (side, is_reply, flags.contains(FlowFlags::LOCAL)) {
        (EGRESS, true, true) | (INGRESS, false, true) => TO_STACK,
        (INGRESS, true, false) => TO_CLIENT,
        (INGRESS, false, false) => TO_BACKEND,
        // From outside, about what went to a local backend.
        _ => return None,
    };
    maps::put_down(to)?;
    Some(outcome)
}

/// Has the error quote the packet as its sender knows it, and puts down the error's own tuple:
/// whether it could be done.
#[inline(never)]
fn requote(packet: &Packet) -> bool {
    rewritten(packet).is_some()
}

#[inline(always)]
fn rewritten(packet: &Packet) -> Option<()> {
    let quoted: Quoted = maps::aside()?;
    let to: FlowKey = maps::take_up()?;
    let known = to.reversed();
    let addresses = Sum::ZERO
        .replacing_address(quoted.key.source, known.source)
        .replacing_address(quoted.key.destination, known.destination);
    let mut change = if packet.ipv6 {
        let at = quoted.network + IPV6_SOURCE;
        packet.bytes.store(at, &[known.source, known.destination])?;
        addresses
    } else {
        addresses.with_sum(requote_ipv4(packet, &quoted, &known, addresses)?)
    };
    let (old, new) = (forward::ports(&quoted.key), forward::ports(&known));
    packet.bytes.store(quoted.transport, &new)?;
    change = change.replacing(old, new);
    change = change.with_sum(requote_checksum(packet, &quoted, addresses.replacing(old, new))?);
    packet.bytes.change_payload_sum(packet.transport + ICMP_CHECKSUM, change, false)?;
    maps::put_down(error_tuple(packet, &quoted, &to))
}

/// Rewrites the quoted IPv4 header: what its checksum changes by.
#[inline(always)]
fn requote_ipv4(packet: &Packet, quoted: &Quoted, known: &FlowKey, change: Sum) -> Option<Sum> {
    let addresses: [Be32; 2] = [known.source.to_v4()?, known.destination.to_v4()?];
    packet.bytes.store(quoted.network + IPV4_SOURCE, &addresses)?;
    replace_checksum(packet, quoted.network + IPV4_CHECKSUM, change)
}

/// Changes the quoted transport checksum, if it is quoted and there is one: what it changes by.
/// That of SCTP is left: who gets the error looks for the verification tag.
#[inline(always)]
fn requote_checksum(packet: &Packet, quoted: &Quoted, change: Sum) -> Option<Sum> {
    let at = match quoted.key.protocol {
        Protocol::TCP => quoted.transport + TCP_CHECKSUM,
        Protocol::UDP => quoted.transport + UDP_CHECKSUM,
        _ => return Some(Sum::ZERO),
    };
    let is_udp = quoted.key.protocol == Protocol::UDP;
    if at + 2 > quoted.end || is_udp && packet.bytes.load::<Be16>(at)? == Be16::ZERO {
        return Some(Sum::ZERO);
    }
    replace_checksum(packet, at, change)
}

#[inline(always)]
fn replace_checksum(packet: &Packet, at: u32, change: Sum) -> Option<Sum> {
    let old: Be16 = packet.bytes.load(at)?;
    let new = match change.applied(old) {
        // A datagram's zero says that there is none (RFC 768), and is a segment's other zero.
        Be16::ZERO => Be16::from_host(u16::MAX),
        new => new,
    };
    packet.bytes.store(at, &new)?;
    Some(Sum::ZERO.replacing_low(old, new))
}

/// The error's tuple: to who sent what it quotes. Its sender becomes, as the kernel's NAT has it
/// (nf_nat_icmp_reply_translation), who that packet went to, unless that address is the same on
/// both sides: then it may be a router's and stays.
#[inline(always)]
fn error_tuple(packet: &Packet, quoted: &Quoted, to: &FlowKey) -> FlowKey {
    let reporter = if to.source == quoted.key.destination { packet.key.source } else { to.source };
    let nobody = Be16::ZERO;
    FlowKey::new((reporter, nobody), (to.destination, nobody), packet.key.protocol)
}

const INGRESS: u32 = 0;
const EGRESS: u32 = 1;
/// Bytes of an ICMP header, and where its checksum is.
const ICMP_LEN: u32 = 8;
const ICMP_CHECKSUM: u32 = 2;
/// What of the quoted transport header is always there.
const QUOTED_LEN: u32 = 8;
