// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The packet path's entry points on devices: tcx, or clsact before Linux 6.6.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::packet;

/// A packet came in by an external device.
#[classifier]
fn tc_ingress(context: TcContext) -> i32 {
    packet::ingress(&context)
}

/// A packet leaves by an external device.
#[classifier]
fn tc_egress(context: TcContext) -> i32 {
    packet::egress(&context)
}
