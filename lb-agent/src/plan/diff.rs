// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is desired against what the maps hold: the ops that make them equal.
//!
//! ```text
//! dump ─► Planner::restore ─► plan_all, then plan (by change) ─► ops ─► confirm
//!                                        └► part ─► a grace period ─► take_away
//! ```
//!
//! Invariant: after every prefix of the ops, in their order, `Tables::check_refs` is empty and
//! a frontend that is there before and after is served by its old set or by its new one.
//!
//! When a map is full, what is served already goes on being served, and new service ports are
//! taken in the order of their Services' age, then name, as long as there is room: all but a
//! sixteenth, so that what is served can still change. A service port whose new sets find no
//! room keeps its old ones. All are tried again when something was given back.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::{HashMap, HashSet};
use lb_common::{affinity::MemberKey, maps::Capacities};

use super::{
    alloc::{Indexes, Regions},
    backends::Backends,
    desired::{Changed, Desired},
    op::Op,
    phases::Phases,
    place::{Limbo, Place},
    port::{Frontend, PortName},
    room::Room,
    shortage::{Ceiling, Shortage},
    tables::Tables,
};
use crate::model::{
    ObjectName,
    issue::{Issue, Lost},
};

/// What the maps hold, where everything is in them, and what is free.
///
/// A plan takes its places at once; the tables follow as ops are confirmed. After a failure
/// the planner is of no use any more: restore another from a new dump.
#[derive(Clone, Debug)]
pub struct Planner {
    pub(super) tables: Tables,
    pub(super) capacities: Capacities,
    pub(super) places: HashMap<PortName, Place>,
    pub(super) services: Indexes,
    pub(super) regions: Regions,
    pub(super) backends: Backends,
    pub(super) next_id: u32,
    pub(super) limbo: Limbo,
    /// What waits for the end of the grace period that goes on.
    pub(super) leaving: Option<Limbo>,
    /// Service ports that found no room.
    pub(super) full: BTreeMap<PortName, Shortage>,
    /// How many addresses found no room in NODE_ADDRS.
    pub(super) addresses_left: usize,
    /// Prefixes that SERVICE_CIDRS had no room for.
    pub(super) cidrs_left: usize,
    /// Whether something was given back since those without room were tried.
    pub(super) has_new_room: bool,
}

/// One planning: where ops go and how much room is left.
pub(super) struct Round<'a> {
    pub(super) desired: &'a Desired,
    /// BACKEND_LOAD.
    pub(super) load: &'a dyn Fn(u32) -> u64,
    pub(super) room: Room,
    pub(super) phases: Phases,
    /// Frontends that get a value.
    pub(super) written: HashSet<Frontend>,
    /// Members that are wanted, if all are looked at.
    pub(super) members: Option<HashSet<MemberKey>>,
}

/// Everything that makes tables what is desired, in one list: the full comparison over the
/// union of keys, and what a grace period later is left over. Also says what found no room.
pub fn plan(
    actual: &Tables,
    desired: &Desired,
    capacities: &Capacities,
    load: impl Fn(u32) -> u64,
) -> (Vec<Op>, Vec<Issue>) {
    let mut planner = Planner::restore(actual.clone(), *capacities);
    let mut ops = planner.plan_all(desired, &load);
    ops.extend(planner.retire());
    let issues = planner.issues(&ObjectName::new("", ""), Ceiling::None).collect();
    (ops, issues)
}

impl Planner {
    /// The ops for what an update changed. `load` is BACKEND_LOAD.
    pub fn plan(
        &mut self,
        desired: &Desired,
        changed: &Changed,
        load: &dyn Fn(u32) -> u64,
    ) -> Vec<Op> {
        let mut round = self.round(desired, load);
        let again = std::mem::take(&mut self.has_new_room);
        let waiting: Vec<_> = self.full.keys().filter(|_| again).cloned().collect();
        let frontends = frontends_of(&waiting, desired);
        self.place_ports(changed.ports.iter().cloned().chain(waiting).collect(), &mut round);
        self.remove_frontends(changed.frontends.iter().copied().chain(frontends), &mut round);
        if changed.node_addresses || again && self.addresses_left > 0 {
            self.place_node_addresses(&mut round);
        }
        if changed.service_cidrs || again && self.cidrs_left > 0 {
            self.place_service_cidrs(&mut round);
        }
        self.backends.settle(&mut round.phases);
        round.phases.into_ops()
    }

    /// The ops for everything: the comparison of all that is desired with all that is there.
    pub fn plan_all(&mut self, desired: &Desired, load: &dyn Fn(u32) -> u64) -> Vec<Op> {
        let mut round = self.round(desired, load);
        round.members = Some(HashSet::default());
        self.has_new_room = false;
        let ports = desired.port_names().chain(self.places.keys()).cloned().collect();
        self.place_ports(ports, &mut round);
        let frontends: Vec<_> = self.tables.frontends().collect();
        self.remove_frontends(frontends.into_iter(), &mut round);
        self.place_node_addresses(&mut round);
        self.place_service_cidrs(&mut round);
        self.sweep(&mut round);
        self.backends.settle(&mut round.phases);
        round.phases.into_ops()
    }

    /// Notes that ops have been executed.
    pub fn confirm(&mut self, ops: &[Op]) {
        for op in ops {
            self.tables.apply(op);
        }
    }

    /// What the maps hold, as far as ops were confirmed.
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Whether something waits that could be tried again now.
    pub fn has_retry(&self) -> bool {
        self.has_new_room && self.is_full()
    }

    fn round<'a>(&self, desired: &'a Desired, load: &'a dyn Fn(u32) -> u64) -> Round<'a> {
        let room = Room::of(&self.tables, &self.capacities);
        let (phases, written) = (Phases::default(), HashSet::default());
        Round { desired, load, room, phases, written, members: None }
    }

    /// Places service ports: first those that are there, then new ones by age and name.
    fn place_ports(&mut self, names: BTreeSet<PortName>, round: &mut Round<'_>) {
        let (known, mut new): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| self.places.contains_key(name) || self.waits(name));
        new.sort_by_cached_key(|name| {
            let port = round.desired.port(name);
            port.map(|port| (port.owner.created_secs, port.owner.service.clone()))
        });
        self.places.reserve(new.len());
        for name in known.into_iter().chain(new) {
            self.place_port(name, round);
        }
    }

    fn place_port(&mut self, name: PortName, round: &mut Round<'_>) {
        self.full.remove(&name);
        let placed = self.places.remove(&name);
        let is_placed = placed.is_some();
        let old = placed.or_else(|| self.come_back(&name));
        let room = round.room;
        let outcome = match round.desired.port(&name) {
            Some(port) => self.try_port(port, old.as_ref().unwrap_or(&Place::NONE), round),
            None => Ok(None),
        };
        match (outcome, old) {
            (Ok(Some(place)), _) => {
                if let Some(port) = round.desired.port(&name).filter(|_| !is_placed) {
                    self.keep_members(port, &place, round);
                }
                self.places.insert(name, place);
            }
            (Ok(None), Some(old)) => {
                self.limbo.ports.insert(name, old);
            }
            (Ok(None), None) => {}
            (Err(map), old) => {
                round.room = room;
                let lost = if is_placed { Lost::Change } else { Lost::Port };
                self.refuse(&name, map, lost, round.desired);
                match old {
                    Some(old) if is_placed => self.places.insert(name, old),
                    Some(old) => self.limbo.ports.insert(name, old),
                    None => None,
                };
            }
        }
    }

    /// Removes those of the frontends that nobody has, or whose owner found no room for them.
    fn remove_frontends(
        &mut self,
        frontends: impl Iterator<Item = Frontend>,
        round: &mut Round<'_>,
    ) {
        let frontends: BTreeSet<_> = frontends.collect();
        for frontend in frontends {
            let winner = round.desired.winner(&frontend);
            let place = winner.and_then(|winner| self.places.get(&winner.owner.name));
            // A record of its owner is good enough, even of another kind: one for this kind
            // may have found no room.
            let leads_to = |index| place.is_some_and(|place| place.records.contains(&index));
            let held = self.tables.frontend(&frontend).map(|value| value.service);
            if held.is_some_and(|index| !leads_to(index)) && !round.written.contains(&frontend) {
                round.phases.removals.push(frontend.op(None));
                self.has_new_room = true;
            }
        }
    }

    fn place_node_addresses(&mut self, round: &mut Round<'_>) {
        let (wanted, held) = (round.desired.node_addresses(), &self.tables.node_addresses);
        let added = wanted.difference(held);
        let ops = added.clone().take(round.room.node_addresses);
        let ops = ops.map(|&address| Op::NodeAddress { address, present: true });
        round.phases.node_ports.extend(ops);
        let removed = held.difference(wanted);
        let ops = removed.map(|&address| Op::NodeAddress { address, present: false });
        let before = round.phases.removals.len();
        round.phases.removals.extend(ops);
        self.has_new_room |= round.phases.removals.len() > before;
        self.addresses_left = added.count().saturating_sub(round.room.node_addresses);
    }
}

impl Planner {
    /// New prefixes come after frontends, so that no ClusterIP is taken for a free address.
    fn place_service_cidrs(&mut self, round: &mut Round<'_>) {
        let (wanted, held) = (round.desired.service_cidrs(), &self.tables.service_cidrs);
        let added = wanted.iter().filter(|(key, rule)| held.get(key) != Some(rule));
        let room = round.room.service_cidrs;
        let ops = added.clone().take(room);
        let ops = ops.map(|(&key, &rule)| Op::ServiceCidr { key, rule: Some(rule) });
        round.phases.node_ports.extend(ops);
        let removed = held.keys().filter(|key| !wanted.contains_key(key));
        let before = round.phases.removals.len();
        round.phases.removals.extend(removed.map(|&key| Op::ServiceCidr { key, rule: None }));
        self.has_new_room |= round.phases.removals.len() > before;
        self.cidrs_left = added.count().saturating_sub(room);
    }
}

/// The frontends that service ports want.
fn frontends_of(names: &[PortName], desired: &Desired) -> Vec<Frontend> {
    let ports = names.iter().filter_map(|name| desired.port(name));
    ports.flat_map(|port| port.claims.iter().map(|(frontend, _)| *frontend)).collect()
}

#[cfg(test)]
mod interleaved;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
