// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets that go on unchanged to the node of their backend, if that is a neighbour: its
//! programs find the same backend, a local one there, and give it to them.
//!
//! ```text
//! client ─► this node ─► the backend's node ─► backend
//!    ▲                          │
//!    └──────── replies ◄────────┘
//! ```
//!
//! So the flow has no address of this node, and outlives it. What this node keeps of it, one
//! half, only spares it a change of the Maglev table.

use lb_common::{
    addr::Addr,
    backend::BackendFlags,
    be::Be32,
    checksum::Sum,
    counter::Counter,
    flow::{FlowEntry, FlowFlags, FlowKey},
};

use super::{
    drop,
    forward::{IPV4_CHECKSUM, IPV4_TTL, IPV6_HOPS},
    headers::{Bytes, NextHop, NoHop},
    outcome::{DIRECT, EXPIRED, TARGET, too_big},
    parse::Packet,
    pass,
    shapes::Ethernet,
};
use crate::{
    kernel::network,
    maps::{self, Occupied},
};

/// Why a packet cannot go on unchanged.
enum NoWay {
    /// The next hop is where it came from.
    Back,
    /// The link takes packets of so many bytes only.
    TooBig(u16),
    /// The backend's node is none that the packet can be handed to.
    Elsewhere,
}

/// Begins a flow whose forward half is put down, if that is to go on unchanged and can:
/// [`DIRECT`]. [`TARGET`] with the half put down for who begins all others; or the action, or
/// that the packet is too big.
#[inline(never)]
pub(super) fn begin(packet: &Packet) -> i32 {
    let Some(mut entry) = maps::take_up::<FlowEntry>() else {
        return pass(Counter::PassNoFlow);
    };
    if entry.flags != FlowFlags::DIRECT.bits() {
        return TARGET;
    }
    if !maps::backend_flags(entry.backend).contains(BackendFlags::LOCAL) {
        match way(packet, &entry.to) {
            Ok(_) => {
                remember(packet, &mut entry);
                return DIRECT;
            }
            Err(NoWay::TooBig(mtu)) => return too_big(mtu),
            // Its sender's table and this one differ, for a moment. A source of this node would
            // have the connection reset, silence has it tried again.
            Err(NoWay::Back) if !packet.opens() => return drop(Counter::DroppedBounced),
            Err(NoWay::Back | NoWay::Elsewhere) => maps::count(Counter::FlowNotDirect),
        }
    }
    entry.flags = FlowFlags::empty().bits();
    match maps::put_down(entry) {
        Some(()) => TARGET,
        None => pass(Counter::PassNoFlow),
    }
}

/// Sends a packet on unchanged, towards the backend of the tuple that is put down.
#[inline(never)]
pub(super) fn send(packet: &Packet, reason: Counter) -> i32 {
    if packet.hops <= 1 {
        return EXPIRED;
    }
    let Some(to) = maps::take_up::<FlowKey>() else {
        return drop(Counter::DroppedRewrite);
    };
    let lost = match way(packet, &to) {
        Ok(hop) => {
            if age(packet).is_none() {
                return drop(Counter::DroppedRewrite);
            }
            maps::count(reason);
            return hop.send(packet.bytes);
        }
        Err(NoWay::TooBig(mtu)) => return too_big(mtu),
        Err(NoWay::Back) => Counter::DroppedBounced,
        Err(NoWay::Elsewhere) => Counter::DroppedNoRoute,
    };
    // The next packet is decided on anew.
    maps::remove_flow(&packet.key);
    drop(lost)
}

/// Keeps the one half of the flow. Without it the flow follows the Maglev table.
#[inline(always)]
fn remember(packet: &Packet, entry: &mut FlowEntry) {
    entry.tag = entry.tag_of(&packet.key);
    match maps::add_flow(&packet.key, entry) {
        Ok(()) => maps::count(Counter::FlowBegun),
        Err(Occupied::Map) => maps::count(Counter::FlowUnremembered),
        // Another packet of the flow, a moment ago.
        Err(Occupied::Key) => {}
    }
}

/// The next hop of a packet that is to be given to the backend's node: the gateway of the way
/// there, at the device that the packet came in by. At other devices, tunnels among them, no
/// program may wait for it, and what came from a neighbour is not given back to it.
#[inline(always)]
fn way(packet: &Packet, to: &FlowKey) -> Result<NextHop, NoWay> {
    if network() == 0 {
        // Nothing tells who at the other end sent it.
        return Err(NoWay::Elsewhere);
    }
    let bytes = packet.bytes;
    match bytes.next_hop(to, packet.sent_len()) {
        Ok(hop) if is_sender(hop, bytes) => Err(NoWay::Back),
        Ok(hop) if hop.device == bytes.device() && !is_at(hop, to.destination) => Ok(hop),
        Err(NoHop::TooBig(mtu)) => Err(NoWay::TooBig(mtu)),
        Ok(_) | Err(NoHop::Here | NoHop::Closed) => Err(NoWay::Elsewhere),
    }
}

/// Whether a next hop is who sent a frame.
#[inline(always)]
fn is_sender(hop: NextHop, bytes: Bytes) -> bool {
    let ethernet: Option<Ethernet> = bytes.load(0);
    ethernet.is_some_and(|frame| frame.stations.are_from(hop.station))
}

/// Whether a next hop has an address itself, and is no gateway to it.
#[inline(always)]
fn is_at(hop: NextHop, address: Addr) -> bool {
    let [first, ..] = hop.address.to_words();
    match address.to_v4() {
        Some(address) => first.to_wire() == address.to_wire(),
        None => hop.address == address,
    }
}

/// Takes one of the packet's hops.
#[inline(always)]
fn age(packet: &Packet) -> Option<()> {
    let hops = packet.hops.wrapping_sub(1);
    if packet.ipv6 {
        // No header checksum makes up for it.
        return packet.bytes.store_unsummed(network() + IPV6_HOPS, &hops);
    }
    packet.bytes.store(network() + IPV4_TTL, &hops)?;
    let word = |hops: u8| Be32 { bytes: [hops, 0, 0, 0] };
    let change = Sum::ZERO.replacing(word(packet.hops), word(hops));
    packet.bytes.change_header_sum(network() + IPV4_CHECKSUM, change)
}
