// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The packet path: packets that reach the node from outside, and their replies.
//!
//! ```text
//! ingress ─► parse ─► FLOWS ─┬─ known ──────────────────────► rewrite ─┬─ local: the stack
//!                            └─ new ─► translate ─► source ─► FLOWS ─┘ └─ else: the next hop
//! egress  ─► parse ─► FLOWS ─── a local backend's reply ────► rewrite ─── the device
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `fast`, `plain` | the short way: plain headers, read and written in place |
//! | `parse` | tells a packet's tuple |
//! | `flow` | finds, keeps up and forgets flows |
//! | `dnat` | decides what becomes of a packet to a frontend |
//! | `direct` | sends packets on unchanged to the node of their backend |
//! | `snat` | gives a flow its source |
//! | `forward` | rewrites and sends |
//! | `answer` | tells a client what it is not given: resets and ICMP errors |
//! | `icmp` | has ICMP errors say which packet their receiver sent |
//! | `fragment` | tells a fragment's ports |
//! | `sctp` | changes ports under a CRC |
//! | `outcome` | what one step says to the next |
//! | `xdp`, `hops` | sends frames of known flows back before the stack sees them; where to |
//! | `seen` | tells whoever monitors |
//! | `headers`, `shapes` | reads and writes bytes, asks for routes; the headers' fields |

mod answer;
mod direct;
mod dnat;
mod fast;
mod flow;
mod forward;
mod fragment;
mod headers;
mod hops;
mod icmp;
mod outcome;
mod parse;
mod plain;
mod sctp;
mod seen;
mod shapes;
mod snat;
pub(crate) mod xdp;

use aya_ebpf::programs::TcContext;
use lb_common::{counter::Counter, event::EventKind, flow::FlowFlags};

use self::{flow::Flow, outcome::TO_STACK, parse::Packet};
use crate::{maps, monitor};

/// A packet that came in by an external device: the action.
#[inline(always)]
pub(crate) fn ingress(context: &TcContext) -> i32 {
    match fast::ingress(context) {
        outcome::UNKNOWN => {}
        action => return action,
    }
    match Packet::parse(context) {
        Ok(packet) => end(&packet, dnat::ingress(&packet)),
        Err(Counter::FragmentWaited) => fragment::wait(context),
        Err(reason) => pass(reason),
    }
}

/// A packet that leaves by an external device: the action. Only replies of this node's
/// backends are met here; what is sent to other nodes has its tuple already.
#[inline(always)]
pub(crate) fn egress(context: &TcContext) -> i32 {
    match fast::egress(context) {
        outcome::UNKNOWN => {}
        action => return action,
    }
    let packet = match Packet::parse(context) {
        Ok(packet) => packet,
        // The kernel sends pieces in their order.
        Err(Counter::FragmentWaited) => return pass(Counter::PassFragment),
        Err(reason) => return pass(reason),
    };
    let outcome = if packet.is_error() { icmp::egress(&packet) } else { reply(&packet) };
    match outcome {
        TO_STACK => {
            let reason = forward::reason(&packet, Counter::FlowReply);
            end(&packet, forward::to_stack(&packet, reason))
        }
        action => action,
    }
}

/// Puts down the tuple that a local backend's reply leaves with: [`TO_STACK`], or the action.
#[inline(never)]
fn reply(packet: &Packet) -> i32 {
    let Some(flow) = Flow::find(&packet.key) else {
        return pass(Counter::PassNoReply);
    };
    if !flow.flags.contains(FlowFlags::REPLY.union(FlowFlags::LOCAL)) {
        return pass(Counter::PassNoReply);
    }
    if flow.is_anothers(packet) {
        flow.forget(packet);
        return pass(Counter::PassNoReply);
    }
    if !flow.keep(packet) {
        return pass(Counter::PassNoReply);
    }
    match maps::put_down(flow.to()) {
        Some(()) => TO_STACK,
        None => pass(Counter::PassNoReply),
    }
}

/// Tells of a packet that is dropped: the action.
#[inline(always)]
fn end(packet: &Packet, action: i32) -> i32 {
    if action == TC_ACT_SHOT {
        seen::ended(packet, EventKind::Dropped);
    }
    action
}

/// Leaves the packet to the next program and the stack.
#[inline(always)]
fn pass(reason: Counter) -> i32 {
    maps::count(reason);
    TC_ACT_UNSPEC
}

/// Drops the packet.
#[inline(always)]
fn drop(reason: Counter) -> i32 {
    maps::count(reason);
    monitor::note(reason);
    TC_ACT_SHOT
}

/// TCX_NEXT is the same number.
const TC_ACT_UNSPEC: i32 = -1;
/// TCX_DROP is the same number.
const TC_ACT_SHOT: i32 = 2;
