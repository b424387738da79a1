// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is left over: taken away after a grace period, and free again after that.

use std::collections::BTreeSet;

use foldhash::HashSet;
use lb_common::affinity::MemberKey;

use super::{
    backends::Hold,
    diff::{Planner, Round},
    op::Op,
    phases::Phases,
    place::{Limbo, Place},
    ranges::removal,
    restore::cleared,
};

impl Planner {
    /// Whether something waits for a grace period.
    pub fn has_leftovers(&self) -> bool {
        !self.limbo.is_empty() || self.backends.has_dying()
    }

    /// Whether indexes or ids wait for a grace period, not only regions of slots.
    pub fn has_remains(&self) -> bool {
        let limbo = &self.limbo;
        let rest = limbo.ports.is_empty() && limbo.records.is_empty() && limbo.ids.is_empty();
        !rest || self.backends.has_dying()
    }

    /// The ops that take away what no frontend and no set word leads to any more, a grace
    /// period first. Empty if nothing is left over.
    pub fn retire(&mut self) -> Vec<Op> {
        if !self.has_leftovers() {
            return Vec::new();
        }
        let limbo = std::mem::take(&mut self.limbo);
        let mut ops = vec![Op::Grace];
        let ports = limbo.ports.values();
        let records: Vec<u32> =
            limbo.records.iter().copied().chain(ports.flat_map(Place::indexes)).collect();
        ops.extend(records.iter().filter_map(|&index| self.clear_op(index)));
        let ids = limbo.ids.iter().copied().chain(limbo.ports.values().map(|place| place.id));
        ops.extend(self.member_ops(&limbo));
        ops.extend(limbo.ports.values().flat_map(|place| self.range_ops(place.id)));
        ops.extend(self.unguarded_ops(limbo.unguarded.iter().cloned()));
        for hold in limbo.ports.values().flat_map(|place| &place.holds) {
            self.backends.release(*hold);
        }
        ops.extend(ids.map(|id| Op::Name { id, text: None }));
        let mut phases = Phases::default();
        self.backends.settle(&mut phases);
        ops.extend(phases.into_ops());
        ops.extend(self.backends.bury());
        let regions = limbo.ports.values().flat_map(|place| &place.regions);
        for region in limbo.regions.iter().chain(regions) {
            self.regions.give(region.base, region.count);
        }
        for index in records {
            self.services.give(index);
        }
        self.has_new_room = true;
        ops
    }

    /// Finds what no service port has: ids and members that an earlier run, or somebody else,
    /// left behind.
    pub(super) fn sweep(&mut self, round: &mut Round<'_>) {
        let seen = round.members.take().unwrap_or_default();
        let ids: HashSet<u32> = self.places.values().map(|place| place.id).collect();
        let leaving: HashSet<u32> = self.limbo.ports.values().map(|place| place.id).collect();
        let refused: HashSet<u32> =
            self.full.keys().filter_map(|name| Some(self.places.get(name)?.id)).collect();
        let known = |id: &u32| ids.contains(id) || leaving.contains(id);
        let ranges = self.tables.source_ranges.iter().map(|(key, why)| (*key, *why));
        let ranges = ranges.filter(|(key, _)| !known(&key.guard.service_id));
        round.phases.settlement.extend(ranges.map(removal));
        let mut orphans: Vec<u32> =
            self.tables.names.keys().copied().filter(|id| !known(id)).collect();
        orphans.sort_unstable();
        self.limbo.ids.extend(orphans);
        let mut members: Vec<MemberKey> =
            self.tables.members.keys().copied().filter(|key| !seen.contains(key)).collect();
        members.retain(|key| !refused.contains(&key.service_id));
        members.sort_unstable();
        let (leaving, orphans): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|key| leaving.contains(&key.service_id));
        self.limbo.members = leaving;
        let settlement = &mut round.phases.settlement;
        let known: HashSet<_> = settlement.iter().filter_map(removed_member).collect();
        let orphans = orphans.into_iter().filter(|key| !known.contains(key));
        settlement.extend(orphans.map(|key| Op::Member { key, member: None }));
    }

    fn clear_op(&self, index: u32) -> Option<Op> {
        let record = self.tables.services.at(index);
        let clean = cleared(&record);
        (record != clean).then(|| Op::Service { index, record: Box::new(clean) })
    }

    /// Takes the members of service ports away that wait in limbo.
    fn member_ops(&self, limbo: &Limbo) -> impl Iterator<Item = Op> {
        let of_place = |place: &Place| {
            let key = |hold: &Hold| MemberKey { service_id: place.id, backend: hold.index };
            place.holds.iter().map(key).collect::<Vec<_>>()
        };
        let held = limbo.ports.values().flat_map(of_place);
        let keys: BTreeSet<_> = held.chain(limbo.members.iter().copied()).collect();
        keys.into_iter()
            .filter(|key| self.tables.members.contains_key(key))
            .map(|key| Op::Member { key, member: None })
    }
}

const fn removed_member(op: &Op) -> Option<MemberKey> {
    match op {
        Op::Member { key, member: None } => Some(*key),
        _ => None,
    }
}
