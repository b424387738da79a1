// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::Arc;

use lb_common::{maps::Capacities, service::ServiceFlags};

use super::*;
use crate::{
    model::{
        ObjectName,
        snapshot::{Snapshot, Touched},
    },
    plan::{desired::Desired, fixture::service, shortage::Ceiling, tables::Tables},
};

/// A planner, and `default/web` with a VIP.
struct World {
    snapshot: Snapshot,
    desired: Desired,
    planner: Planner,
}

impl World {
    fn new(source_ranges: u32) -> Self {
        let capacities = Capacities { source_ranges, ..Capacities::MINIMUM };
        Self {
            snapshot: Snapshot::default(),
            desired: Desired::default(),
            planner: Planner::restore(Tables::default(), capacities),
        }
    }

    /// The ops that give the Service these ranges; not what comes a grace period later.
    fn set(&mut self, ranges: &[&str]) -> Vec<Op> {
        let mut web = service("web", &["10.96.0.1"], &["http=80"]);
        web.load_balancer_ips = vec!["198.51.100.1".parse().unwrap()];
        web.source_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        self.snapshot.services.insert(web.name.clone(), Arc::new(web));
        self.plan()
    }

    fn plan(&mut self) -> Vec<Op> {
        let changed = self.desired.update(&self.snapshot, &Touched::All);
        let ops = self.planner.plan(&self.desired, &changed, &|_| 0);
        self.planner.confirm(&ops);
        ops
    }

    fn retire(&mut self) -> Vec<Op> {
        let ops = self.planner.retire();
        self.planner.confirm(&ops);
        ops
    }

    fn ranges(&self) -> usize {
        self.planner.tables().source_ranges.len()
    }
}

/// Where in a plan the flag of source ranges changes, ranges come, and ranges go.
fn order(ops: &[Op]) -> String {
    let letter = |op: &Op| match op {
        Op::SourceRange { admission: Some(_), .. } => Some('+'),
        Op::SourceRange { .. } => Some('-'),
        Op::Rules { flags, .. } => {
            Some(if flags.contains(ServiceFlags::SOURCE_RANGES) { 'G' } else { 'o' })
        }
        Op::Grace => Some('|'),
        _ => None,
    };
    ops.iter().filter_map(letter).collect()
}

#[test]
fn lb_06_ranges_come_before_their_flag_and_go_a_grace_period_after_it() {
    let mut world = World::new(16);
    assert_eq!(order(&world.set(&[])), "");
    assert_eq!(order(&world.set(&["10.0.0.0/8", "192.0.2.0/24"])), "++G");
    assert_eq!(order(&world.set(&["10.0.0.0/8", "192.0.3.0/24"])), "+-");
    assert_eq!(order(&world.set(&[])), "o");
    assert_eq!(order(&world.retire()), "|--");
    assert_eq!(world.ranges(), 0);
}

#[test]
fn ranges_that_are_wanted_again_in_time_stay() {
    let mut world = World::new(16);
    world.set(&["10.0.0.0/8", "192.0.2.0/24"]);
    world.set(&[]);
    assert_eq!(order(&world.set(&["10.0.0.0/8"])), "-G");
    assert_eq!(order(&world.retire()), "");
    assert_eq!(world.ranges(), 1);
}

#[test]
fn the_ranges_of_a_service_go_with_it() {
    let mut world = World::new(16);
    world.set(&["10.0.0.0/8"]);
    world.snapshot.services.clear();
    assert_eq!(order(&world.plan()), "");
    assert_eq!(order(&world.retire()), "|-");
}

#[test]
fn a_range_that_finds_no_room_admits_nobody_and_is_told() {
    let mut world = World::new(2);
    assert_eq!(order(&world.set(&["10.0.0.0/8", "192.0.2.0/24", "192.0.3.0/24"])), "++");
    let record = |world: &World| {
        let tables = world.planner.tables();
        let records = tables.services.iter().map(|(_, record)| record.flags());
        records.filter(|flags| flags.contains(ServiceFlags::SOURCE_RANGES)).count()
    };
    assert_eq!(record(&world), 1, "guarded all the same");
    let issues: Vec<_> = world.planner.issues(&ObjectName::new("", "n"), Ceiling::None).collect();
    assert!(issues[0].to_string().contains("map SOURCE_RANGES is full"), "{issues:?}");
    assert_eq!(order(&world.set(&["10.0.0.0/8", "192.0.3.0/24"])), "-");
    assert!(world.planner.has_retry());
    assert_eq!(order(&world.plan()), "+");
    assert!(!world.planner.is_full());
}

#[test]
fn ranges_that_are_asked_for_again_during_the_grace_period_stay() {
    let mut world = World::new(16);
    world.set(&["10.0.0.0/8"]);
    world.set(&[]);
    assert!(world.planner.part());
    world.set(&["10.0.0.0/8"]);
    assert_eq!(world.planner.take_away(), Vec::new());
    world.set(&[]);
    assert!(world.planner.part());
    let ops = world.planner.take_away();
    world.planner.confirm(&ops);
    assert_eq!(world.ranges(), 0);
}
