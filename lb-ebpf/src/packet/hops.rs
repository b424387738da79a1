// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Next hops, as the kernel told them a moment ago: its answer costs more than all the rest of
//! a packet.
//!
//! A route or neighbour that has changed is followed [`HOP_NS`] later. Frames that are sent back
//! do not keep a neighbour's entry alive, which then would be believed for ever: one in
//! [`PROBES`] of those that ask goes on to the stack, which asks the neighbour.

use bytemuck::{Pod, Zeroable};
use lb_common::flow::FlowWords;

use super::{headers::Frame, shapes::Stations};
use crate::{
    kernel::{self, Field, Live},
    maps::{self, HopWords},
};

/// The way back out of the device that a frame came in by.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(8))]
pub(super) struct Way {
    /// The device.
    device: u32,
    /// Most bytes of a packet; 0 if there is no way back out of this device.
    pub(super) mtu: u16,
    /// The frame's receiver and sender.
    pub(super) stations: Stations,
    /// Always 0.
    _pad: [u16; 3],
}

/// Sender and receiver of a packet, as a [`FlowKey`](lb_common::flow::FlowKey) has them.
type Ends = [u64; 4];

impl Field for Way {
    type Words = [u64; 3];
}

impl Way {
    /// A way, by a device of so many bytes a packet.
    #[inline(always)]
    pub(super) const fn new(device: u32, mtu: u16, stations: Stations) -> Self {
        Self { device, mtu, stations, _pad: [0; 3] }
    }

    /// The way back for a packet with this tuple. `None` if there is none, or if the stack is
    /// to see the packet.
    #[inline(always)]
    pub(super) fn back(frame: Frame, to: &FlowWords) -> Option<Self> {
        let [s0, s1, d0, d1, _] = *to;
        let place = maps::hop(s0 ^ s1.rotate_left(7) ^ d0.rotate_left(14) ^ d1.rotate_left(21))?;
        let [t0, t1, u0, u1] = place.load::<Ends, ENDS>();
        let is_other = (s0 ^ t0) | (s1 ^ t1) | (d0 ^ u0) | (d1 ^ u1) != 0;
        let told_ns = place.load::<u64, TOLD_NS>();
        let device = frame.device();
        let is_old = maps::tick_ns().wrapping_sub(told_ns) > HOP_NS;
        let way = place.load::<Self, WAY>();
        if is_other || is_old || way.device != device {
            if !ask(frame, to, place) {
                return None;
            }
            return Some(place.load::<Self, WAY>());
        }
        (way.mtu != 0).then_some(way)
    }
}

/// Asks the kernel for the way of a tuple, and notes it. `false` if there is none, or if it is
/// the stack's turn to see a packet of it.
#[inline(never)]
fn ask(frame: Frame, to: &FlowWords, place: Live<HopWords>) -> bool {
    let way = frame.way_back(bytemuck::must_cast_ref(to));
    let [s0, s1, d0, d1, _] = *to;
    place.store::<Ends, ENDS>([s0, s1, d0, d1]);
    place.store::<u64, TOLD_NS>(maps::tick_ns());
    place.store::<Way, WAY>(way);
    way.mtu != 0 && !kernel::random().is_multiple_of(PROBES)
}

/// Where things are in a value of HOPS: the ends of the packets that it is for, when the kernel
/// told it, and the [`Way`].
const ENDS: usize = 0;
const TOLD_NS: usize = 32;
const WAY: usize = 40;
/// How long an answer counts.
const HOP_NS: u64 = 100_000_000;
/// One in so many that ask goes to the stack.
const PROBES: u32 = 32;
