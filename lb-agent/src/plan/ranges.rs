// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A service port's source ranges in the maps.
//!
//! Invariant: after every prefix of a plan a client is admitted only if it was before, or
//! will be. Ranges come before the flag that asks for them; the flag goes first, and ranges
//! that no flag asks for go a grace period later. What finds no room is not admitted.

use std::collections::BTreeMap;

use lb_common::{
    range::{Admission, CidrKey, RangeKey},
    service::FrontendKind,
};

use super::{
    diff::{Planner, Round},
    op::Op,
    place::Place,
    port::{Port, PortName},
};
use crate::model::issue::Lost;

impl Planner {
    /// Plans the ranges of a service port.
    pub(super) fn write_ranges(&mut self, port: &Port, place: &Place, round: &mut Round<'_>) {
        let guarded = place.record(FrontendKind::LoadBalancer) != 0;
        let admitted = port.admitted.iter().filter(|_| guarded).flat_map(|admitted| &**admitted);
        let key =
            |network: &CidrKey| RangeKey::range(place.id, network.address, network.prefix_len);
        let wanted: BTreeMap<_, _> = admitted.map(|(network, why)| (key(network), *why)).collect();
        for (&key, &admission) in &wanted {
            let room = match self.tables.source_ranges.get(&key) {
                Some(held) if *held == admission => continue,
                Some(_) => Ok(()),
                None => round.room.take_range(),
            };
            match room {
                Ok(()) => {
                    round.phases.ranges.push(Op::SourceRange { key, admission: Some(admission) });
                }
                Err(map) => self.refuse(&port.owner.name, map, Lost::Ranges, round.desired),
            }
        }
        if wanted.is_empty() {
            if self.tables.ranges_of(place.id).next().is_some() {
                self.limbo.unguarded.insert(port.owner.name.clone());
            }
            return;
        }
        // Guarded again before the grace period was over.
        for limbo in [Some(&mut self.limbo), self.leaving.as_mut()].into_iter().flatten() {
            limbo.unguarded.remove(&port.owner.name);
        }
        let gone = self.tables.ranges_of(place.id).filter(|(key, _)| !wanted.contains_key(key));
        // Before frontends: one that is new to the port must not meet its old ranges.
        let before = round.phases.ranges.len();
        round.phases.ranges.extend(gone.map(removal));
        self.has_new_room |= round.phases.ranges.len() > before;
    }

    /// Takes away the ranges of service ports that are not guarded any more.
    pub(super) fn unguarded_ops(&self, names: impl Iterator<Item = PortName>) -> Vec<Op> {
        let places = names.filter_map(|name| self.places.get(&name));
        places.flat_map(|place| self.range_ops(place.id)).collect()
    }

    /// Takes away all ranges of a service id.
    pub(super) fn range_ops(&self, id: u32) -> impl Iterator<Item = Op> {
        self.tables.ranges_of(id).map(removal)
    }
}

/// Takes a range away.
pub(super) fn removal((key, _): (RangeKey, Admission)) -> Op {
    Op::SourceRange { key, admission: None }
}

#[cfg(test)]
mod tests;
