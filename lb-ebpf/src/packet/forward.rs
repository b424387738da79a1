// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A packet gets another tuple, and goes on: up the stack, or to the next hop.

use lb_common::{be::Be32, checksum::Sum, counter::Counter, flow::FlowKey, protocol::Protocol};

use super::{
    direct, drop,
    headers::NoHop,
    outcome::{DIRECT, EXPIRED, TO_BACKEND, TO_CLIENT, TO_STACK, too_big},
    parse::Packet,
    pass, sctp,
};
use crate::{kernel::network, maps};

/// Does what an outcome says to do with the tuple that is put down: the next outcome.
#[inline(always)]
pub(super) fn forward(packet: &Packet, outcome: i32) -> i32 {
    // Many ways lead here, and one goes on.
    match maps::launder(outcome) {
        Some(TO_STACK) => to_stack(packet, reason(packet, Counter::FlowForward)),
        Some(TO_BACKEND) => send(packet, reason(packet, Counter::FlowForward)),
        Some(DIRECT) => direct::send(packet, reason(packet, Counter::FlowDirect)),
        Some(TO_CLIENT) => send(packet, reason(packet, Counter::FlowReply)),
        _ => outcome,
    }
}

/// What a packet that goes on is counted as.
#[inline(always)]
pub(super) fn reason(packet: &Packet, usual: Counter) -> Counter {
    if packet.is_error() { Counter::IcmpTranslated } else { usual }
}

/// Rewrites a packet and leaves it to the stack, which forwards it to the pod: redirecting it
/// there would go past the CNI's policy.
#[inline(never)]
pub(super) fn to_stack(packet: &Packet, reason: Counter) -> i32 {
    let Some(to) = maps::take_up() else {
        return drop(Counter::DroppedRewrite);
    };
    match rewrite(packet, &to, false) {
        Some(()) => pass(reason),
        None => drop(Counter::DroppedRewrite),
    }
}

/// Rewrites a packet and sends it on: its source is the node's own address, or it is for
/// the node's own, and the stack would take it for a forgery.
#[inline(never)]
fn send(packet: &Packet, reason: Counter) -> i32 {
    if packet.hops <= 1 {
        return EXPIRED;
    }
    let Some(to) = maps::take_up() else {
        return drop(Counter::DroppedRewrite);
    };
    let hop = match packet.bytes.next_hop(&to, packet.sent_len()) {
        Ok(hop) => hop,
        Err(NoHop::TooBig(mtu)) => return too_big(mtu),
        Err(NoHop::Here | NoHop::Closed) => return drop(Counter::DroppedNoRoute),
    };
    if rewrite(packet, &to, true).is_none() {
        return drop(Counter::DroppedRewrite);
    }
    maps::count(reason);
    hop.send(packet.bytes)
}

/// Gives a packet another tuple, and one hop less if it is forwarded from here.
#[inline(always)]
pub(super) fn rewrite(packet: &Packet, to: &FlowKey, forwarded: bool) -> Option<()> {
    let Packet { bytes, key, transport, .. } = packet;
    let hops = packet.hops.wrapping_sub(u8::from(forwarded));
    if packet.ipv6 {
        // No header checksum makes up for these.
        bytes.store_unsummed(network() + IPV6_SOURCE, &[to.source, to.destination])?;
        if forwarded {
            bytes.store_unsummed(network() + IPV6_HOPS, &hops)?;
        }
    } else {
        rewrite_ipv4(packet, to, hops)?;
    }
    if packet.is_later() {
        return Some(());
    }
    let (checksum, is_udp) = match key.protocol {
        Protocol::TCP => (transport + TCP_CHECKSUM, false),
        Protocol::ICMP => return Some(()),
        Protocol::ICMPV6 => (transport + ICMPV6_CHECKSUM, false),
        Protocol::SCTP => return sctp::rewrite_ports(packet, to),
        _ => (transport + UDP_CHECKSUM, true),
    };
    let addresses = Sum::ZERO
        .replacing_address(key.source, to.source)
        .replacing_address(key.destination, to.destination);
    bytes.change_pseudo_sum(checksum, addresses, is_udp)?;
    let (old, new) = (ports(key), ports(to));
    if old != new {
        bytes.store(*transport, &new)?;
        bytes.change_payload_sum(checksum, Sum::ZERO.replacing(old, new), is_udp)?;
    }
    Some(())
}

#[inline(always)]
fn rewrite_ipv4(packet: &Packet, to: &FlowKey, hops: u8) -> Option<()> {
    let Packet { bytes, key, .. } = packet;
    let words = |key: &FlowKey| Some([key.source.to_v4()?, key.destination.to_v4()?]);
    let ([old_source, old_destination], new) = (words(key)?, words(to)?);
    let [source, destination] = new;
    bytes.store(network() + IPV4_SOURCE, &new)?;
    let mut change =
        Sum::ZERO.replacing(old_source, source).replacing(old_destination, destination);
    if hops != packet.hops {
        bytes.store(network() + IPV4_TTL, &hops)?;
        let word = |hops: u8| Be32 { bytes: [hops, 0, 0, 0] };
        change = change.replacing(word(packet.hops), word(hops));
    }
    bytes.change_header_sum(network() + IPV4_CHECKSUM, change)
}

/// Both ports, as they stand in a transport header.
#[inline(always)]
pub(super) fn ports(key: &FlowKey) -> Be32 {
    let [b0, b1] = key.source_port.bytes;
    let [b2, b3] = key.destination_port.bytes;
    Be32 { bytes: [b0, b1, b2, b3] }
}

pub(super) const IPV4_TTL: u32 = 8;
/// Where fields are in their headers.
pub(super) const IPV4_CHECKSUM: u32 = 10;
pub(super) const IPV4_SOURCE: u32 = 12;
pub(super) const IPV6_HOPS: u32 = 7;
pub(super) const IPV6_SOURCE: u32 = 8;
pub(super) const TCP_CHECKSUM: u32 = 16;
pub(super) const UDP_CHECKSUM: u32 = 6;
const ICMPV6_CHECKSUM: u32 = 2;
