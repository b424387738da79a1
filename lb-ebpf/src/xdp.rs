// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The packet path's entry point in front of the stack, in devices that support it.

use aya_ebpf::{macros::xdp, programs::XdpContext};

use crate::packet;

/// A frame came in by an external device. What this program does not send back out of it goes
/// on to `tc_ingress`, which must be attached, too.
#[xdp(frags)]
fn xdp_ingress(context: XdpContext) -> u32 {
    packet::xdp::ingress(&context)
}
