// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Placing one service port: all of it finds room, or nothing changes.

use std::collections::BTreeMap;

use lb_common::{
    affinity::{Member, MemberKey},
    maps,
    service::{Algorithm, FrontendKind, Service, ServiceFlags, SetWord},
    slot::Slot,
};

use super::{
    backends::{BackendKey, Hold},
    diff::{Planner, Round},
    eligible::Role,
    maglev,
    op::Op,
    place::{Place, Region},
    port::{Frontend, Port},
};
use crate::model::{issue::Lost, service::Choice};

/// What was taken for a service port, and not published yet.
#[derive(Default)]
struct Taken {
    holds: Vec<Hold>,
    sets: Vec<Set>,
    /// New service indexes by kind.
    records: Vec<(FrontendKind, u32)>,
    /// Whether a set has no room for its Maglev table.
    lacks_table: bool,
}

/// A set of a service port.
struct Set {
    role: Role,
    word: SetWord,
    /// What is to be written to its region, if that is a new one.
    fresh: Option<Box<[Slot]>>,
}

/// The frontends of a service port that are served, and the map that had no room for the rest.
struct Served {
    frontends: Vec<(Frontend, FrontendKind)>,
    kinds: Vec<FrontendKind>,
    full: Option<&'static str>,
}

impl Planner {
    /// Plans one service port that has `old` in the maps. `None`: it has no frontend. The
    /// error is the map that is full; then nothing was taken or planned.
    pub(super) fn try_port(
        &mut self,
        port: &Port,
        old: &Place,
        round: &mut Round<'_>,
    ) -> Result<Option<Place>, &'static str> {
        let served = self.served(port, round);
        if served.frontends.is_empty() {
            return served.full.map_or(Ok(None), Err);
        }
        let mut taken = Taken::default();
        let outcome = self.take(port, old, &served.kinds, round, &mut taken);
        let outcome = outcome.and_then(|()| if old.id == 0 { self.spare() } else { Ok(()) });
        if let Err(map) = outcome {
            self.give_back(taken);
            return Err(map);
        }
        let place = self.placed(old, &served.kinds, &mut taken);
        if let Some(map) = served.full {
            self.refuse(&port.owner.name, map, Lost::Frontends, round.desired);
        }
        if taken.lacks_table {
            self.refuse(&port.owner.name, maps::SLOTS, Lost::Maglev, round.desired);
        }
        write_sets(port, old, &place, &mut taken.sets, round);
        let sticky = self.write_members(port, old, &place, &served.kinds, round);
        self.write_ranges(port, &place, round);
        for &kind in &served.kinds {
            self.write_record(port, &place, kind, sticky, &taken, round);
        }
        self.write_frontends(&place, &served.frontends, round);
        self.abandon(old, &place);
        Ok(Some(place))
    }

    /// The frontends that the port has won and that fit.
    fn served(&self, port: &Port, round: &mut Round<'_>) -> Served {
        let mut full = None;
        let mut frontends = Vec::with_capacity(port.claims.len());
        for (frontend, kind) in round.desired.won(port) {
            let room = match self.tables.frontend(&frontend) {
                Some(_) => Ok(()),
                None => round.room.take_frontend(&frontend),
            };
            match room {
                Ok(()) => frontends.push((frontend, kind)),
                Err(map) => full = Some(map),
            }
        }
        let mut kinds: Vec<_> = frontends.iter().map(|(_, kind)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        Served { frontends, kinds, full }
    }

    fn take(
        &mut self,
        port: &Port,
        old: &Place,
        kinds: &[FrontendKind],
        round: &mut Round<'_>,
        taken: &mut Taken,
    ) -> Result<(), &'static str> {
        let used = kinds.iter().map(|&kind| port.sets(kind));
        let used = used.fold(Role::empty(), |used, (inside, outside)| used | inside | outside);
        let mut earlier = old.holds.iter();
        for candidate in &port.endpoints.candidates {
            let (address, number) = (candidate.address, candidate.port);
            let key = BackendKey { address, port: number, protocol: port.protocol };
            let role = candidate.role & (used | Role::READY | Role::HERE);
            let found = self.backends.find(&key, &mut earlier);
            if role.intersects(used) {
                let hold = self.backends.hold(found, key, role, &self.tables, round.load);
                taken.holds.push(hold.ok_or(maps::BACKENDS)?);
            } else {
                taken.holds.extend(found.map(|index| self.backends.keep(index)));
            }
        }
        for role in [Role::CLUSTER, Role::LOCAL] {
            if used.contains(role) {
                let set = self.take_set(port, old, role, taken)?;
                taken.sets.push(set);
            }
        }
        for &kind in kinds.iter().filter(|&&kind| old.record(kind) == 0) {
            taken.records.push((kind, self.services.take().ok_or(maps::SERVICES)?));
        }
        if old.id == 0 { round.room.take_name() } else { Ok(()) }
    }

    /// A set: in the region that holds the same slots already, or in a new one.
    fn take_set(
        &mut self,
        port: &Port,
        old: &Place,
        role: Role,
        taken: &mut Taken,
    ) -> Result<Set, &'static str> {
        let members = taken.holds.iter().filter(|hold| hold.role.contains(role));
        let members: Vec<_> = members.map(|hold| hold.index).collect();
        if members.is_empty() {
            return Ok(Set { role, word: port.empty(role), fresh: None });
        }
        if let Choice::Maglev { length, .. } = port.choice {
            if let Some(set) = self.take_table(&members, length, old, role, taken) {
                return Ok(set);
            }
            taken.lacks_table = true;
        }
        let slots = members.iter().map(|&index| self.backends.slot(index)).collect();
        self.take_slots(slots, Algorithm::Random, old, role, taken)
    }

    /// A set as a Maglev table; `None` if there is none for so many backends, or it would leave
    /// too little for other service ports.
    fn take_table(
        &mut self,
        members: &[u32],
        length: Option<u32>,
        old: &Place,
        role: Role,
        taken: &Taken,
    ) -> Option<Set> {
        let length = maglev::length(members.len(), length)?;
        let found: Vec<_> = members.iter().filter_map(|&it| self.backends.named(it)).collect();
        let keys: Vec<_> = found.iter().map(|(key, _)| *key).collect();
        let table = maglev::table(&keys, length);
        let slots: Box<[_]> =
            table.iter().filter_map(|&place| found.get(place)).map(|(_, slot)| *slot).collect();
        let set = self.take_slots(slots, Algorithm::Maglev, old, role, taken).ok()?;
        if set.fresh.is_some() && self.spare().is_err() {
            self.regions.give(set.word.base, set.word.count());
            return None;
        }
        Some(set)
    }

    /// A set of these slots.
    fn take_slots(
        &mut self,
        slots: Box<[Slot]>,
        algorithm: Algorithm,
        old: &Place,
        role: Role,
        taken: &Taken,
    ) -> Result<Set, &'static str> {
        let fresh = taken.sets.iter().find(|set| set.fresh.as_ref() == Some(&slots));
        if let Some(twin) = fresh {
            return Ok(Set { role, word: twin.word, fresh: None });
        }
        let count = u32::try_from(slots.len()).map_err(|_| maps::SLOTS)?;
        let word = |base| SetWord::new(base, count, algorithm).ok_or(maps::SLOTS);
        let same = old.regions.iter().find(|region| {
            region.count == count && self.tables.slots.range(region.base, count) == Some(&*slots)
        });
        if let Some(region) = same {
            return Ok(Set { role, word: word(region.base)?, fresh: None });
        }
        let word = word(self.regions.take(count).ok_or(maps::SLOTS)?)?;
        Ok(Set { role, word, fresh: Some(slots) })
    }

    /// Gives back what was taken: nothing has been published, so it is free at once.
    fn give_back(&mut self, taken: Taken) {
        for hold in taken.holds {
            self.backends.undo(hold);
        }
        for set in taken.sets.iter().filter(|set| set.fresh.is_some()) {
            self.regions.give(set.word.base, set.word.count());
        }
        for (_, index) in taken.records {
            self.services.give(index);
        }
    }

    fn placed(&mut self, old: &Place, kinds: &[FrontendKind], taken: &mut Taken) -> Place {
        let mut place = Place { id: old.id, ..Place::default() };
        if place.id == 0 {
            place.id = self.next_id;
            self.next_id += 1;
        }
        for &kind in kinds {
            place.put_record(kind, old.record(kind));
        }
        for &(kind, index) in &taken.records {
            place.put_record(kind, index);
        }
        for word in taken.sets.iter().map(|set| set.word).filter(|word| word.count() > 0) {
            let region = Region { base: word.base, count: word.count() };
            if !place.regions.contains(&region) {
                place.regions.push(region);
            }
        }
        place.holds = std::mem::take(&mut taken.holds);
        place.holds.shrink_to_fit();
        place
    }

    /// Members before the sets need them, and away after. `false`: there is no affinity, or no
    /// room for it.
    fn write_members(
        &mut self,
        port: &Port,
        old: &Place,
        place: &Place,
        kinds: &[FrontendKind],
        round: &mut Round<'_>,
    ) -> bool {
        let mut members = BTreeMap::new();
        for hold in &old.holds {
            members.insert(hold.index, Member::default());
        }
        let had = !members.is_empty() && old.indexes().any(|index| self.is_sticky(index));
        if port.affinity_secs == 0 && !had {
            return false;
        }
        let mut sticky = port.affinity_secs != 0;
        for hold in place.holds.iter().filter(|_| sticky) {
            members.insert(hold.index, member(port, kinds, hold.role));
        }
        let key = |backend| MemberKey { service_id: place.id, backend };
        let is_new = |&(backend, member): &(&u32, &Member)| {
            *member != Member::default() && !self.tables.members.contains_key(&key(*backend))
        };
        if let Err(map) = round.room.take_members(members.iter().filter(is_new).count()) {
            self.refuse(&port.owner.name, map, Lost::Affinity, round.desired);
            sticky = false;
            for member in members.values_mut() {
                *member = Member::default();
            }
        }
        for (backend, member) in members {
            self.write_member(key(backend), member, round);
        }
        sticky
    }

    fn write_member(&self, key: MemberKey, wanted: Member, round: &mut Round<'_>) {
        let held = self.tables.members.get(&key).copied();
        let known = held.unwrap_or_default();
        let inside = known.inside | wanted.inside;
        let both = Member { inside, outside: known.outside | wanted.outside };
        if wanted == Member::default() {
            let gone = held.map(|_| Op::Member { key, member: None });
            round.phases.settlement.extend(gone);
            return;
        }
        if let Some(seen) = round.members.as_mut() {
            seen.insert(key);
        }
        if both != known {
            round.phases.members.push(Op::Member { key, member: Some(both) });
        }
        if wanted != both {
            round.phases.settlement.push(Op::Member { key, member: Some(wanted) });
        }
    }

    /// A whole record that nothing names yet, or the words and rules of one in use. Affinity
    /// goes before the sets change and comes after: while it is on, both sets have members.
    fn write_record(
        &self,
        port: &Port,
        place: &Place,
        kind: FrontendKind,
        sticky: bool,
        taken: &Taken,
        round: &mut Round<'_>,
    ) {
        let index = place.record(kind);
        let before = self.tables.services.at(index);
        let (inside, outside) = port.sets(kind);
        let mut wanted = Service {
            inside: word(taken, inside),
            outside: word(taken, outside),
            flags: port.flags(kind).bits(),
            affinity_secs: port.affinity_secs,
            id: place.id,
            ..before
        };
        if !sticky {
            wanted.flags &= !ServiceFlags::AFFINITY.bits();
            wanted.affinity_secs = 0;
        }
        let records = &mut round.phases.records;
        if taken.records.contains(&(kind, index)) {
            wanted.generation = before.generation.wrapping_add(1);
            records.push(Op::Service { index, record: Box::new(wanted) });
            return;
        }
        let (flags, affinity_secs) = (wanted.flags(), wanted.affinity_secs);
        let rules = (flags, affinity_secs) != (before.flags(), before.affinity_secs);
        let rules = rules.then_some(Op::Rules { index, flags, affinity_secs });
        let (early, late) = if sticky { (None, rules) } else { (rules, None) };
        records.extend(early);
        if wanted.inside != before.inside {
            records.push(Op::Inside { index, set: wanted.inside });
        }
        if wanted.outside != before.outside {
            records.push(Op::Outside { index, set: wanted.outside });
        }
        records.extend(late);
    }

    fn write_frontends(
        &self,
        place: &Place,
        frontends: &[(Frontend, FrontendKind)],
        round: &mut Round<'_>,
    ) {
        for (frontend, kind) in frontends {
            let value = frontend.value(place.record(*kind));
            if self.tables.frontend(frontend) != Some(value) {
                let phase = match frontend {
                    Frontend::V4(_) => &mut round.phases.frontends4,
                    Frontend::V6(_) => &mut round.phases.frontends6,
                    Frontend::NodePort { .. } => &mut round.phases.node_ports,
                };
                phase.push(frontend.op(Some(value)));
                round.written.insert(*frontend);
            }
        }
    }

    /// What the port had and has no more goes after a grace period.
    fn abandon(&mut self, old: &Place, place: &Place) {
        for hold in &old.holds {
            self.backends.release(*hold);
        }
        let kept = |index: &u32| place.records.contains(index);
        self.limbo.records.extend(old.indexes().filter(|index| !kept(index)));
        let gone = old.regions.iter().copied().filter(|region| !place.regions.contains(region));
        self.limbo.regions.extend(gone);
    }

    pub(super) fn is_sticky(&self, index: u32) -> bool {
        self.tables.services.at(index).flags().contains(ServiceFlags::AFFINITY)
    }
}

fn write_sets(port: &Port, old: &Place, place: &Place, sets: &mut [Set], round: &mut Round<'_>) {
    for set in sets {
        if let Some(slots) = set.fresh.take() {
            round.phases.slots.push(Op::Slots { base: set.word.base, slots });
        }
    }
    if old.id == 0 {
        let text = Some(port.owner.name.text.clone());
        round.phases.names.push(Op::Name { id: place.id, text });
    }
}

/// The kinds of frontend that lead to a backend with this role.
fn member(port: &Port, kinds: &[FrontendKind], role: Role) -> Member {
    let mut member = Member::default();
    for &kind in kinds {
        let (inside, outside) = port.sets(kind);
        member.inside |= u32::from(role.contains(inside)) << kind as u32;
        member.outside |= u32::from(role.contains(outside)) << kind as u32;
    }
    member
}

fn word(taken: &Taken, role: Role) -> SetWord {
    taken.sets.iter().find(|set| set.role == role).map_or(SetWord::REFUSE, |set| set.word)
}
