// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a person who monitors is told of packets. Only where a flow begins, and where a packet
//! ends: packets of a flow that is known never come here.

use lb_common::{
    addr::Addr,
    be::Be16,
    counter::Counter,
    event::{Event, EventKind},
    flow::FlowEntry,
};

use super::parse::Packet;
use crate::{kernel, maps, monitor};

/// A packet began a flow: what is put down is the forward half that was decided on, with the
/// tuple that it got.
#[inline(never)]
pub(super) fn opened(packet: &Packet) {
    if monitor::wants_event()
        && let Some(entry) = maps::take_up::<FlowEntry>()
    {
        monitor::tell(&Event {
            target: entry.to.destination,
            target_port: entry.to.destination_port,
            service_id: entry.service_id,
            ..event(packet, EventKind::NewFlow, Counter::FlowBegun.index())
        });
    }
}

/// A packet ended here, for the reason that was noted: it was dropped, or its sender was told.
#[inline(never)]
pub(super) fn ended(packet: &Packet, kind: EventKind) {
    if monitor::wants_event() {
        monitor::tell(&event(packet, kind, monitor::noted()));
    }
}

#[inline(always)]
fn event(packet: &Packet, kind: EventKind, counter: u32) -> Event {
    Event {
        time_ns: kernel::now_ns(),
        key: packet.key,
        target: Addr::ZERO,
        netns: 0,
        service_id: 0,
        device: packet.bytes.device(),
        counter,
        target_port: Be16::ZERO,
        kind: kind as u8,
        _pad: 0,
    }
}
