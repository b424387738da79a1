// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The source that a new flow reaches its backend with: the reply's half in FLOWS is the
//! claim on it.

use core::mem::offset_of;

use lb_common::{
    config::Config,
    flow::{FlowEntry, FlowFlags, FlowKey},
    snat::{ATTEMPTS, Ports},
};

use super::parse::Packet;
use crate::{
    kernel::Live,
    maps::{self, Occupied},
};

/// What became of a claim.
pub(super) enum Claim {
    /// The forward half is complete, and the reply's half is in FLOWS.
    Granted,
    /// No port that was tried is free.
    NoPort,
    /// FLOWS is full.
    NoRoom,
}

/// Adds the reply's half of a flow, with the first source port that makes it unlike all
/// others. A local backend sees the client's own port unless the client reaches it by
/// another frontend with that port, too.
#[inline(always)]
pub(super) fn claim(packet: &Packet, config: Live<Config>, entry: &mut FlowEntry) -> Claim {
    let client = packet.key.source_port;
    let ports = Ports::outside(maps::local_ports(config));
    let hash = packet.key.hash();
    let is_local = entry.flags & FlowFlags::LOCAL.bits() != 0;
    let mut reply = entry.other(&packet.key);
    for attempt in 0..ATTEMPTS {
        let port = if is_local && attempt == 0 {
            Some(client)
        } else {
            ports.candidate(client, hash, attempt)
        };
        // Else the verifier would follow each of the ports' ways through all attempts.
        let Some(port) = port.and_then(maps::launder) else {
            return Claim::NoPort;
        };
        entry.to.source_port = port;
        let key = entry.other_key();
        // In place: a copy of the half is an eighth of the stack.
        reply.tag = reply.tag_of(&key);
        match maps::add_flow(&key, &reply) {
            Ok(()) => return Claim::Granted,
            // The flow's own, whose forward half was lost.
            Err(Occupied::Key) if leads_to(&key, &reply.to) => return Claim::Granted,
            Err(Occupied::Key) => {}
            Err(Occupied::Map) => return Claim::NoRoom,
        }
    }
    Claim::NoPort
}

/// Whether the half with this key has packets leave with this tuple.
#[inline(always)]
fn leads_to(key: &FlowKey, to: &FlowKey) -> bool {
    maps::flow(key)
        .is_some_and(|half| half.load::<FlowKey, { offset_of!(FlowEntry, to) }>().same(to))
}
