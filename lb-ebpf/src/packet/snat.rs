// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The source that a new flow reaches its backend with: the reply's half in FLOWS is the
//! claim on it.
#![expect(unsafe_code, reason = "a global function has a name of its own")]

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use lb_common::{
    be::Be16,
    config::Config,
    counter::Counter,
    flow::{FlowEntry, FlowFlags, FlowKey},
    snat::{ATTEMPTS, Ports},
};

use super::{drop, outcome::TARGET, parse::Packet};
use crate::{
    kernel::{Field, Live},
    maps,
};

/// Which source port is looked for.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(8))]
struct Search {
    /// Of the flow.
    hash: u32,
    /// Those that there are.
    ports: Ports,
    /// The client's own.
    client: Be16,
    /// Whether the client's own is the first, whichever it is.
    is_local: u16,
    _pad: u32,
}

impl Field for Search {
    type Words = [u64; 3];
}

/// Gives the forward half that is put down the first source port that makes its reply unlike all
/// others: [`TARGET`], or the action. A local backend sees the client's own port unless the client
/// reaches it by another frontend with that port, too.
#[inline(never)]
pub(super) fn choose(packet: &Packet, config: Live<Config>) -> i32 {
    match chosen(packet, config) {
        Some(()) => TARGET,
        None => drop(Counter::DroppedNoPort),
    }
}

#[inline(always)]
fn chosen(packet: &Packet, config: Live<Config>) -> Option<()> {
    let FlowEntry { flags, .. } = maps::take_up()?;
    maps::put_search(Search {
        hash: packet.key.hash(),
        ports: Ports::outside(maps::local_ports(config)),
        client: packet.key.source_port,
        is_local: u16::from(flags & FlowFlags::LOCAL.bits() != 0),
        _pad: 0,
    })?;
    // What the flow's own half gives to replies.
    maps::put_aside(packet.key.reversed())?;
    for attempt in 0..ATTEMPTS {
        let [port, found]: [u16; 2] = bytemuck::must_cast(snat_try(attempt));
        if found != 0 {
            // In place of the tuple alone: the rest of the half stays.
            let to: FlowKey = maps::take_up()?;
            return maps::put_down(FlowKey { source_port: Be16::from_wire(port), ..to });
        }
    }
    None
}

/// The port of an attempt, and whether it is free. A global function: verifiers look into it
/// once, and not again for each attempt and each way that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn snat_try(attempt: u32) -> u32 {
    bytemuck::must_cast(tried(attempt).map_or([0, 0], |port| [port.to_wire(), 1]))
}

#[inline(always)]
fn tried(attempt: u32) -> Option<Be16> {
    let Search { hash, ports, client, is_local, .. } = maps::search()?;
    let port = if is_local != 0 && attempt == 0 {
        client
    } else {
        ports.candidate(client, hash, attempt)?
    };
    let to: FlowKey = maps::take_up()?;
    let Some(half) = maps::flow(&FlowKey { source_port: port, ..to }.reversed()) else {
        return Some(port);
    };
    // The flow's own is there if its forward half was lost.
    let to = half.load::<FlowKey, { offset_of!(FlowEntry, to) }>();
    to.same(&maps::aside()?).then_some(port)
}
