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
    port::{Port, PortName},
    ranges::removal,
    restore::cleared,
};

impl Planner {
    /// Whether something waits for a grace period, or for the end of one.
    pub fn has_leftovers(&self) -> bool {
        self.leaving.is_some() || !self.limbo.is_empty() || self.backends.has_dying()
    }

    /// Whether a grace period goes on after which something is to be taken away.
    pub const fn is_parting(&self) -> bool {
        self.leaving.is_some()
    }

    /// Notes that a grace period begins now, for what no frontend and no set word leads to any
    /// more. `false`: nothing is left over, or one goes on already. Plans may be made and
    /// executed meanwhile; what they leave over waits for the next one.
    pub fn part(&mut self) -> bool {
        if self.is_parting() || !self.has_leftovers() {
            return false;
        }
        self.leaving = Some(std::mem::take(&mut self.limbo));
        self.backends.part();
        true
    }

    /// The ops that take away what no frontend and no set word leads to any more, a grace
    /// period first. Empty if nothing is left over.
    pub fn retire(&mut self) -> Vec<Op> {
        if let Some(leaving) = self.leaving.take() {
            self.limbo.merge(leaving);
        }
        let mut ops = Vec::new();
        if self.part() {
            ops.push(Op::Grace);
            ops.extend(self.take_away());
        }
        ops
    }

    /// The ops for what was left over when [`Planner::part`] was called, and that nothing uses
    /// again: to be executed when the grace period is over.
    pub fn take_away(&mut self) -> Vec<Op> {
        let Some(leaving) = self.leaving.take() else { return Vec::new() };
        let ports = leaving.ports.values();
        let records: Vec<u32> =
            leaving.records.iter().copied().chain(ports.flat_map(Place::indexes)).collect();
        let mut ops: Vec<_> = records.iter().filter_map(|&index| self.clear_op(index)).collect();
        let ids = leaving.ids.iter().copied().chain(leaving.ports.values().map(|place| place.id));
        ops.extend(self.member_ops(&leaving));
        ops.extend(leaving.ports.values().flat_map(|place| self.range_ops(place.id)));
        ops.extend(self.unguarded_ops(leaving.unguarded.iter().cloned()));
        for hold in leaving.ports.values().flat_map(|place| &place.holds) {
            self.backends.let_go(*hold);
        }
        ops.extend(ids.map(|id| Op::Name { id, text: None }));
        let mut phases = Phases::default();
        self.backends.settle(&mut phases);
        ops.extend(phases.into_ops());
        ops.extend(self.backends.bury());
        let regions = leaving.ports.values().flat_map(|place| &place.regions);
        for region in leaving.regions.iter().chain(regions) {
            self.regions.give(region.base, region.count);
        }
        for index in records {
            self.services.give(index);
        }
        self.has_new_room = true;
        ops
    }

    /// The place of a service port that waits, which takes it up again.
    pub(super) fn come_back(&mut self, name: &PortName) -> Option<Place> {
        let leaving = self.leaving.as_mut().and_then(|leaving| leaving.ports.remove(name));
        leaving.or_else(|| self.limbo.ports.remove(name))
    }

    /// Whether a service port waits.
    pub(super) fn waits(&self, name: &PortName) -> bool {
        let leaving = self.leaving.as_ref().is_some_and(|leaving| leaving.ports.contains_key(name));
        leaving || self.limbo.ports.contains_key(name)
    }

    /// A service port has come back of which a dump had members that nobody wanted: the wanted
    /// ones stay.
    pub(super) fn keep_members(&mut self, port: &Port, place: &Place, round: &mut Round<'_>) {
        let is_own = |key: &MemberKey| key.service_id == place.id;
        let mut found = Vec::new();
        for limbo in [Some(&mut self.limbo), self.leaving.as_mut()].into_iter().flatten() {
            found.extend(limbo.members.iter().copied().filter(is_own));
            limbo.members.retain(|key| !is_own(key));
        }
        if found.is_empty() {
            return;
        }
        let settlement = &mut round.phases.settlement;
        let known: HashSet<_> = settlement.iter().filter_map(removed_member).collect();
        let is_wanted = |key: &MemberKey| {
            port.affinity_secs != 0 && place.holds.iter().any(|hold| hold.index == key.backend)
        };
        let stale = found.into_iter().filter(|key| !is_wanted(key) && !known.contains(key));
        settlement.extend(stale.map(|key| Op::Member { key, member: None }));
    }

    /// Finds what no service port has: ids and members that an earlier run, or somebody else,
    /// left behind.
    pub(super) fn sweep(&mut self, round: &mut Round<'_>) {
        let seen = round.members.take().unwrap_or_default();
        let ids: HashSet<u32> = self.places.values().map(|place| place.id).collect();
        let waiting = self.leaving.iter().chain([&self.limbo]).flat_map(|limbo| &limbo.ports);
        let leaving: HashSet<u32> = waiting.map(|(_, place)| place.id).collect();
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
