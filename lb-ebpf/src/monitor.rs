// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Events for whoever monitors: whether one more is wanted, and telling it. Only where something
//! begins or fails; a look costs a load while nobody asks.

use core::mem::offset_of;

use lb_common::{
    counter::Counter,
    event::{Event, Told, WINDOW_BITS, WINDOW_EVENTS},
};

use crate::{kernel, maps};

/// Whether somebody wants to be told of one more event.
#[inline(always)]
pub(crate) fn wants_event() -> bool {
    let Some(lease) = maps::lease().filter(|lease| !lease.is_none()) else {
        return false;
    };
    let now_ns = kernel::coarse_now_ns();
    if lease.is_over(now_ns) || !lease.picks(kernel::random()) {
        return false;
    }
    let Some(told) = maps::told() else {
        return false;
    };
    let window = now_ns >> WINDOW_BITS;
    let mut events = told.load::<u64, { offset_of!(Told, count) }>();
    if told.load::<u64, { offset_of!(Told, window) }>() != window {
        told.store::<u64, { offset_of!(Told, window) }>(window);
        events = 0;
    }
    if events >= WINDOW_EVENTS {
        maps::count(Counter::EventsLost);
        return false;
    }
    told.store::<u64, { offset_of!(Told, count) }>(events + 1);
    true
}

/// Tells whoever monitors.
#[inline(always)]
pub(crate) fn tell(event: &Event) {
    if !maps::put_event(event) {
        maps::count(Counter::EventsLost);
    }
}

/// Keeps the reason for what becomes of a packet, for [`noted`] where its tuple is at hand.
#[inline(always)]
pub(crate) fn note(reason: Counter) {
    if let Some(told) = maps::told() {
        told.store::<u32, { offset_of!(Told, noted) }>(reason.index());
    }
}

/// The index of the reason that was kept last.
#[inline(always)]
pub(crate) fn noted() -> u32 {
    maps::told().map_or(0, kernel::Live::load::<u32, { offset_of!(Told, noted) }>)
}
