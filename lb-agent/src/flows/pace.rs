// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When FLOWS is read again, and how long flows that only pass may stay: pure.
//!
//! Reading costs by what is there. So it is worth it only when enough of that may be over: an
//! eighth of all flows, as a census and the number of flows begun since tell. What a reading
//! costs is then in proportion to what it takes out, whatever the table's size.

use std::time::Duration;

use super::Census;

/// The last census, and what has happened since.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Elements that FLOWS holds at most.
    capacity: u64,
    census: Census,
    /// Flows that had begun by then, since whenever the counter began.
    begun: u64,
    /// Since then.
    age: Duration,
    /// How long it took.
    cost: Duration,
}

/// How full FLOWS is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Tightness {
    /// There is room.
    #[default]
    Calm,
    /// Three quarters are in use.
    Tight,
    /// Nine tenths are.
    Critical,
}

impl Tightness {
    /// Of so many elements in use.
    pub(super) const fn of(used: u64, capacity: u64) -> Self {
        if used * 10 >= capacity * 9 {
            Self::Critical
        } else if used * 4 >= capacity * 3 {
            Self::Tight
        } else {
            Self::Calm
        }
    }

    /// What the phases that pass get at most, in seconds. The shortest is longer than a client
    /// waits before it sends its SYN again (RFC 6298: 1 s), and leaves of a flood what came in
    /// three seconds.
    pub(super) const fn passing_secs(self) -> u32 {
        match self {
            Self::Calm => u32::MAX,
            Self::Tight => 10,
            Self::Critical => 3,
        }
    }
}

impl Pace {
    /// After a census of FLOWS, which holds so many elements at most.
    pub(super) const fn new(capacity: u64, census: Census, begun: u64, cost: Duration) -> Self {
        Self { capacity, census, begun, age: Duration::ZERO, cost }
    }

    /// So much later.
    pub(super) fn pass(&mut self, time: Duration) {
        self.age += time;
    }

    /// The last census.
    pub(super) const fn census(&self) -> &Census {
        &self.census
    }

    /// Elements that are in use by now, at most.
    pub(super) const fn used(&self, begun: u64) -> u64 {
        self.census.halves.saturating_add(self.new_flows(begun).saturating_mul(2))
    }

    /// How full FLOWS is by now.
    pub(super) const fn tightness(&self, begun: u64) -> Tightness {
        Tightness::of(self.used(begun), self.capacity)
    }

    /// Whether to read again.
    pub(super) fn is_due(&self, begun: u64) -> bool {
        let (used, new) = (self.used(begun), self.new_flows(begun));
        let age = self.age.as_secs();
        if used == 0 {
            return false;
        }
        let tightness = self.tightness(begun);
        let over = match tightness {
            Tightness::Calm => self.census.due_after(age) + if age < YOUNGEST { 0 } else { new },
            // What passes has less time now than the census knew.
            Tightness::Tight | Tightness::Critical => self.census.passing() + new,
        };
        let (least, part) = match tightness {
            Tightness::Calm => (5, 8),
            // As soon as it can be, and half of a processor's time at most.
            Tightness::Tight | Tightness::Critical => (1, 64),
        };
        let longest = if used * 2 >= self.capacity { 60 } else { 300 };
        let is_worth_it = over > 0 && (over * 2 * part >= used || used <= FEW);
        self.age >= self.cost && (age >= least && is_worth_it || age >= longest)
    }

    const fn new_flows(&self, begun: u64) -> u64 {
        begun.saturating_sub(self.begun)
    }
}

/// The shortest time-out, in seconds.
const YOUNGEST: u64 = 10;
/// Elements that are read in no time.
const FEW: u64 = 1 << 14;

#[cfg(test)]
mod tests;
