// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The packet path: packets that reach the node from outside, and their replies.
//!
//! | file | what it does |
//! |---|---|
//! | `parse` | tells a packet's tuple |
//! | `headers` | reads and writes bytes, asks for routes, sends |
//! | `shapes` | the headers' fields |

mod headers;
mod parse;
mod shapes;

use aya_ebpf::programs::TcContext;
use lb_common::counter::Counter;

use self::parse::Packet;
use crate::maps;

/// A packet that came in by an external device: the action.
#[inline(always)]
pub(crate) fn ingress(context: &TcContext) -> i32 {
    match Packet::parse(context) {
        Ok(_) => pass(Counter::PassNoFrontend),
        Err(reason) => pass(reason),
    }
}

/// A packet that leaves by an external device: the action.
#[inline(always)]
pub(crate) fn egress(context: &TcContext) -> i32 {
    match Packet::parse(context) {
        Ok(_) => pass(Counter::PassNoReply),
        Err(reason) => pass(reason),
    }
}

/// Leaves the packet to the next program and the stack.
#[inline(always)]
fn pass(reason: Counter) -> i32 {
    maps::count(reason);
    TC_ACT_UNSPEC
}

/// TCX_NEXT is the same number.
const TC_ACT_UNSPEC: i32 = -1;
