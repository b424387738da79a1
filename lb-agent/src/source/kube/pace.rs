// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How fast a watch tries again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use kube::runtime::watcher::Event;

/// The pace of one watch: it slows down with each attempt that comes to nothing.
pub(super) struct Pace {
    delays: ExponentialBackoff,
    /// Whether a list runs.
    listing: bool,
    /// Whether the last error was that the watch is too old.
    was_gone: bool,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { delays: delays(), listing: false, was_gone: false }
    }

    /// Whether a list runs.
    pub(super) fn is_listing(&self) -> bool {
        self.listing
    }

    /// Notes an event; false if the next must wait: the server closed a list before its end
    /// and begins it anew, which the watcher takes for no error.
    pub(super) fn event<K>(&mut self, event: &Event<K>) -> bool {
        let broken_off = self.listing && matches!(event, Event::Init);
        self.listing = matches!(event, Event::Init | Event::InitApply(_));
        if !self.listing {
            *self = Self::new();
        }
        !broken_off
    }

    /// Notes an error. That the watch is too old says that the server works: the first time,
    /// there is no reason to wait as long as while it did not.
    pub(super) fn error(&mut self, gone: bool) {
        if gone && !self.was_gone {
            self.delays = delays();
        }
        self.was_gone = gone;
    }

    /// The wait before the next attempt.
    pub(super) fn delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(MAX_DELAY)
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(MIN_DELAY)
        .with_max_delay(MAX_DELAY)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// The first wait after an error; jitter makes it up to twice as long.
pub(super) const MIN_DELAY: Duration = Duration::from_millis(200);

/// The longest wait, without its jitter.
const MAX_DELAY: Duration = Duration::from_secs(5);
