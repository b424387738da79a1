// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much room service ports take in the maps.

use std::ops::{AddAssign, SubAssign};

use lb_common::maps::Capacities;

use super::{
    eligible::Role,
    port::{Frontend, Port},
};

/// Elements that service ports need at most. Backends that several ports share are counted
/// for each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Demand {
    /// FRONTENDS4.
    pub frontends4: usize,
    /// FRONTENDS6.
    pub frontends6: usize,
    /// SERVICES.
    pub services: usize,
    /// SLOTS.
    pub slots: usize,
    /// BACKENDS.
    pub backends: usize,
    /// MEMBERS.
    pub members: usize,
    /// SOURCE_RANGES.
    pub source_ranges: usize,
}

impl Demand {
    /// What one service port needs.
    pub fn of(port: &Port) -> Self {
        let count = |wanted: fn(&Frontend) -> bool| {
            port.claims.iter().filter(|(frontend, _)| wanted(frontend)).count()
        };
        let mut kinds: Vec<_> = port.claims.iter().map(|(_, kind)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let slots = |set| port.slots(port.members(set).count());
        let backends = port.endpoints.candidates.len();
        Self {
            frontends4: count(|frontend| matches!(frontend, Frontend::V4(_))),
            frontends6: count(|frontend| matches!(frontend, Frontend::V6(_))),
            services: kinds.len(),
            slots: slots(Role::CLUSTER) + slots(Role::LOCAL),
            backends,
            members: if port.affinity_secs == 0 { 0 } else { backends },
            source_ranges: port.admitted.as_ref().map_or(0, |admitted| admitted.len()),
        }
    }

    /// Sizes with which maps are at most half full, and at least the smallest ones. SLOTS gets
    /// twice that: for a moment the old and the new sets stand side by side.
    pub fn capacities(&self) -> Capacities {
        let twice = |count: usize, least: u32| {
            let wanted = u32::try_from(count.saturating_mul(2)).unwrap_or(u32::MAX);
            wanted.checked_next_power_of_two().unwrap_or(1 << 31).max(least)
        };
        let least = Capacities::MINIMUM;
        Capacities {
            frontends: twice(self.frontends4.max(self.frontends6), least.frontends),
            services: twice(self.services, least.services),
            slots: twice(self.slots.saturating_mul(2), least.slots),
            backends: twice(self.backends, least.backends),
            members: twice(self.members, least.members),
            source_ranges: twice(self.source_ranges, least.source_ranges),
            ..least
        }
    }
}

impl AddAssign for Demand {
    fn add_assign(&mut self, other: Self) {
        self.frontends4 += other.frontends4;
        self.frontends6 += other.frontends6;
        self.services += other.services;
        self.slots += other.slots;
        self.backends += other.backends;
        self.members += other.members;
        self.source_ranges += other.source_ranges;
    }
}

impl SubAssign for Demand {
    fn sub_assign(&mut self, other: Self) {
        self.frontends4 -= other.frontends4;
        self.frontends6 -= other.frontends6;
        self.services -= other.services;
        self.slots -= other.slots;
        self.backends -= other.backends;
        self.members -= other.members;
        self.source_ranges -= other.source_ranges;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_many_services_with_affinity_enlarge_members_alone() {
        let demand = Demand { backends: 1000, members: 900_000, ..Demand::default() };
        let capacities = demand.capacities();
        assert_eq!(capacities.members, 1 << 21);
        assert_eq!(capacities, Capacities { members: 1 << 21, ..Capacities::MINIMUM });
    }
}
