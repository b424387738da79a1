// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Next hops, as the kernel told them a moment ago: its answer costs more than all the rest of
//! a packet.
//!
//! A route or neighbour that has changed is followed [`HOP_NS`] later. Frames that programs send
//! do not keep a neighbour's entry alive, which then would be believed for ever: each
//! [`TURN`] the kernel's own sending gets one, which asks the neighbour.

use lb_common::flow::FlowWords;

use super::{
    headers::{Bytes, Frame},
    shapes::Stations,
};
use crate::{
    kernel::Live,
    maps::{self, HopWords},
};

/// Where the way of the packets that have the same ends is remembered.
#[derive(Clone, Copy)]
pub(super) struct Hop(Live<HopWords>);

/// What the kernel told of a way.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// The device that packets come in by, and the one that they leave by.
    pub(super) devices: [u32; 2],
    /// Most bytes of a packet; 0 if a program cannot send it.
    pub(super) mtu: u16,
    /// The frame's receiver and sender.
    pub(super) to: [u16; 3],
    pub(super) from: [u16; 3],
}

impl Hop {
    /// The way for a packet that is to leave with this tuple. `None` if there is none, or if the
    /// kernel is to send it.
    #[inline(always)]
    pub(super) fn on(bytes: Bytes, to: &FlowWords) -> Option<Self> {
        let (hop, now_ns) = (Self::of(to)?, maps::tick_ns());
        if !hop.is_known(to, bytes.device(), now_ns) {
            hop.take(to, bytes.device());
            ask(bytes, hop, to[4], now_ns);
        }
        if hop.device() == NOBODY_ASKED {
            // The kernel sends this one, and may be asked for the next.
            hop.0.store::<u64, TOLD_NS>(0);
        }
        (hop.mtu() != 0).then_some(hop)
    }

    /// The same for a frame, if it leads back out of the device that it came in by. One that the
    /// kernel is to send is left to [`on`](Self::on), and so are those that come before that has
    /// seen it.
    #[inline(always)]
    pub(super) fn back(frame: Frame, to: &FlowWords) -> Option<Self> {
        let (hop, now_ns) = (Self::of(to)?, maps::tick_ns());
        let device = frame.device();
        if !hop.is_known(to, device, now_ns) {
            hop.take(to, device);
            ask_early(frame, hop, to[4], now_ns);
        }
        (hop.mtu() != 0 && hop.device() == device).then_some(hop)
    }

    /// The device that packets leave by.
    #[inline(always)]
    pub(super) fn device(self) -> u32 {
        self.0.load::<u32, DEVICE>()
    }

    /// Most bytes of a packet.
    #[inline(always)]
    pub(super) fn mtu(self) -> u16 {
        self.0.load::<u16, MTU>()
    }

    /// The frame's receiver and sender.
    #[inline(always)]
    pub(super) fn stations(self) -> Stations {
        let [_, t0, t1, t2, f0, f1, f2, _]: [u16; 8] =
            bytemuck::must_cast(self.0.load::<[u64; 2], MTU>());
        Stations::new([t0, t1, t2], [f0, f1, f2])
    }

    /// The place of a tuple.
    #[inline(always)]
    fn of(to: &FlowWords) -> Option<Self> {
        let [s0, s1, d0, d1, _] = *to;
        let hash = s0 ^ s1.rotate_left(7) ^ d0.rotate_left(14) ^ d1.rotate_left(21);
        maps::hop(hash).map(Self)
    }

    /// Whether it has the way of a tuple that came in by a device.
    #[inline(always)]
    fn is_known(self, to: &FlowWords, from: u32, now_ns: u64) -> bool {
        now_ns.wrapping_sub(self.0.load::<u64, TOLD_NS>()) <= HOP_NS
            && self.0.load::<u32, FROM>() == from
            && self.is_for(to)
    }

    #[inline(always)]
    fn is_for(self, to: &FlowWords) -> bool {
        let [s0, s1, d0, d1, _] = *to;
        let [t0, t1, u0, u1] = self.0.load::<[u64; 4], ENDS>();
        (s0 ^ t0) | (s1 ^ t1) | (d0 ^ u0) | (d1 ^ u1) == 0
    }

    /// Makes it the place of a tuple and what came in by a device, of which nothing is known.
    #[inline(always)]
    fn take(self, to: &FlowWords, from: u32) {
        let [s0, s1, d0, d1, _] = *to;
        self.0.store::<[u64; 4], ENDS>([s0, s1, d0, d1]);
        self.0.store::<u64, FROM>(bytemuck::must_cast([from, NOBODY_ASKED]));
        self.0.store::<u16, MTU>(0);
    }

    /// Whether the kernel is to be asked. If not it has sent none for long, and will now.
    #[expect(clippy::cast_possible_truncation, reason = "it wraps")]
    #[inline(always)]
    fn may_ask(self, now_ns: u64) -> bool {
        self.0.store::<u64, TOLD_NS>(now_ns);
        let (now, last) = ((now_ns >> TURN_SHIFT) as u16, self.0.load::<u16, TURN_AT>());
        let is_turn = now.wrapping_sub(last) >= TURN;
        if is_turn {
            self.0.store::<u16, TURN_AT>(now);
        }
        // The first packets of a flow were the kernel's.
        !is_turn || last == 0
    }

    /// The tuple that it is for, with these ports and protocol.
    #[inline(always)]
    fn tuple(self, ports: u64) -> FlowWords {
        let [s0, s1, d0, d1] = self.0.load::<[u64; 4], ENDS>();
        [s0, s1, d0, d1, ports]
    }

    /// Notes what the kernel told.
    #[inline(always)]
    fn note(self, way: Way) {
        let Way { devices, mtu, to: [t0, t1, t2], from: [f0, f1, f2] } = way;
        self.0.store::<u64, FROM>(bytemuck::must_cast(devices));
        self.0.store::<u64, MTU>(bytemuck::must_cast([mtu, t0, t1, t2]));
        self.0.store::<u32, { MTU + 8 }>(bytemuck::must_cast([f0, f1]));
        self.0.store::<u16, { MTU + 12 }>(f2);
    }
}

/// Asks the kernel for the way of a place's tuple, with these ports and protocol, and notes it;
/// unless it is the kernel's turn to send a packet.
#[inline(never)]
fn ask(bytes: Bytes, hop: Hop, ports: u64, now_ns: u64) {
    if hop.may_ask(now_ns)
        && let Some(way) = bytes.way(&hop.tuple(ports))
    {
        hop.note(way);
    }
}

/// The same in front of the stack.
#[inline(never)]
fn ask_early(frame: Frame, hop: Hop, ports: u64, now_ns: u64) {
    if hop.may_ask(now_ns)
        && let Some(way) = frame.way(&hop.tuple(ports))
    {
        hop.note(way);
    }
}

/// Where things are in a value of HOPS: the ends of the packets that it is for, when the kernel
/// told it, and the [`Way`]; when the kernel itself last sent one, in units of
/// 2^[`TURN_SHIFT`] ns, which wraps.
const ENDS: usize = 0;
const TOLD_NS: usize = 32;
const FROM: usize = 40;
const DEVICE: usize = 44;
const MTU: usize = 48;
const TURN_AT: usize = 62;
/// How long an answer counts.
const HOP_NS: u64 = 100_000_000;
/// In place of a device: the next packet is to be sent by the kernel.
const NOBODY_ASKED: u32 = 0;
/// After 2 to 3 s it is the kernel's turn; in units of a second or so.
const TURN: u16 = 3;
const TURN_SHIFT: u32 = 30;
