// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::Arc;

use lb_common::backend::State;

use super::*;
use crate::{
    model::{
        service::{Service, TrafficPolicy},
        snapshot::{Snapshot, Touched},
    },
    plan::fixture::{Build, endpoint, service, slice},
};

mod maglev;

/// A cluster, its tables, and a planner that goes on.
struct World {
    snapshot: Snapshot,
    desired: Desired,
    planner: Planner,
    loads: BTreeMap<u32, u64>,
}

impl World {
    fn new(capacities: Capacities) -> Self {
        Self {
            snapshot: Snapshot {
                node: crate::plan::fixture::node("here", ""),
                ..Snapshot::default()
            },
            desired: Desired::default(),
            planner: Planner::restore(Tables::default(), capacities),
            loads: BTreeMap::new(),
        }
    }

    /// Service `default/web` at 10.96.0.1:80 with these endpoints.
    fn web(endpoints: Vec<Build>) -> Self {
        let mut world = Self::new(Capacities::MINIMUM);
        world.put(service("web", &["10.96.0.1"], &["http=80"]));
        world.endpoints(endpoints);
        world.step();
        world
    }

    fn put(&mut self, service: Service) {
        self.snapshot.services.insert(service.name.clone(), Arc::new(service));
    }

    fn remove(&mut self, name: &str) {
        self.snapshot.services.remove(&ObjectName::new("default", name));
    }

    /// The one slice of `default/web`.
    fn endpoints(&mut self, endpoints: Vec<Build>) {
        let slice = slice("web-1", &["http=8080"], endpoints);
        let of = self.snapshot.slices.entry(slice.service.clone()).or_default();
        of.insert(Arc::new(slice));
    }

    /// Plans what changed, without what a grace period is waited for.
    fn change(&mut self) -> Vec<Op> {
        let changed = self.desired.update(&self.snapshot, &Touched::All);
        let loads = self.loads.clone();
        let load = move |index| loads.get(&index).copied().unwrap_or(0);
        let ops = self.planner.plan(&self.desired, &changed, &load);
        self.planner.confirm(&ops);
        ops
    }

    fn step(&mut self) -> Vec<Op> {
        let mut ops = self.change();
        let rest = self.planner.retire();
        self.planner.confirm(&rest);
        ops.extend(rest);
        ops
    }

    /// Index, state and generation of the backend at an address; the last one if it had several.
    fn backend(&self, address: [u8; 4]) -> Option<(u32, State, u32)> {
        let address = std::net::IpAddr::from(address).into();
        let found = self.planner.tables.backends.iter().filter(|(_, it)| it.address == address);
        found.last().map(|(index, it)| (index, it.life.state(), it.life.generation))
    }

    /// The records in use, by index.
    fn records(&self) -> Vec<u32> {
        let named: BTreeSet<_> =
            self.planner.tables.named_services().map(|(index, _)| index).collect();
        named.into_iter().collect()
    }
}

/// A letter an op: what was written, in order.
fn letters(ops: &[Op]) -> String {
    ops.iter()
        .map(|op| match op {
            Op::Backend { .. } => 'B',
            Op::Life { .. } => 'L',
            Op::BackendFlags { .. } => 'f',
            Op::Slots { .. } => 'S',
            Op::Name { text: Some(_), .. } => 'N',
            Op::Name { text: None, .. } => 'n',
            Op::Member { member: Some(_), .. } => 'M',
            Op::Member { member: None, .. } => 'm',
            Op::SourceRange { admission: Some(_), .. } | Op::ServiceCidr { rule: Some(_), .. } => {
                'W'
            }
            Op::SourceRange { .. } | Op::ServiceCidr { .. } => 'w',
            Op::Service { .. } => 'R',
            Op::Rules { .. } => 'r',
            Op::Inside { .. } => 'I',
            Op::Outside { .. } => 'O',
            Op::Frontend4 { value: None, .. }
            | Op::Frontend6 { value: None, .. }
            | Op::NodePort { service: 0, .. } => '-',
            Op::Frontend4 { .. } | Op::Frontend6 { .. } | Op::NodePort { .. } => 'F',
            Op::NodeAddress { .. } => 'A',
            Op::Grace => '|',
        })
        .collect()
}

#[test]
fn a_new_service_is_written_from_its_backends_up_to_its_frontend() {
    let mut world = World::new(Capacities::MINIMUM);
    world.put(service("web", &["10.96.0.1"], &["http=80"]));
    world.endpoints(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    assert_eq!(letters(&world.step()), "BBSNRF");
}

#[test]
fn a_changed_endpoint_is_one_region_and_two_stores() {
    let mut world = World::web(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    world.endpoints(vec![endpoint("10.0.0.1"), endpoint("10.0.0.3")]);
    assert_eq!(letters(&world.step()), "BSIO|L");
}

#[test]
fn upd_01_what_comes_and_goes_between_two_plans_is_nothing() {
    let mut world = World::web(vec![endpoint("10.0.0.1")]);
    let web = world.snapshot.services.values().next().unwrap().clone();
    world.put(service("brief", &["10.96.0.2"], &["http=80"]));
    let mut changed = world.desired.update(&world.snapshot, &Touched::All);
    world.remove("brief");
    world.remove("web");
    changed.merge(world.desired.update(&world.snapshot, &Touched::All));
    world.put(Service::clone(&web));
    changed.merge(world.desired.update(&world.snapshot, &Touched::All));
    assert_eq!(world.planner.plan(&world.desired, &changed, &|_| 0), vec![]);
}

#[test]
fn upd_04_and_lb_05_external_frontends_come_and_go_and_the_cluster_ip_is_not_touched() {
    let mut world = World::web(vec![endpoint("10.0.0.1")]);
    let cluster_ip = service("web", &["10.96.0.1"], &["http=80"]);
    let mut node_port = cluster_ip.clone();
    node_port.ports[0].node_port = std::num::NonZeroU16::new(30080);
    let mut balanced = node_port.clone();
    balanced.load_balancer_ips = vec!["198.51.100.1".parse().unwrap()];
    world.put(node_port.clone());
    assert_eq!(letters(&world.step()), "RF", "its own record, the same region");
    world.put(balanced.clone());
    assert_eq!(letters(&world.step()), "RF");
    balanced.load_balancer_ips = vec!["198.51.100.2".parse().unwrap()];
    world.put(balanced);
    assert_eq!(letters(&world.step()), "F-", "the new address before the old one goes");
    world.put(node_port);
    assert_eq!(letters(&world.step()), "-|R");
    world.put(cluster_ip);
    assert_eq!(letters(&world.step()), "-|R");
    assert_eq!(world.records(), [1]);
}

#[test]
fn upd_05_and_upd_11_a_service_that_stops_being_served_leaves_no_frontend() {
    let mut web = service("web", &["10.96.0.1"], &["http=80"]);
    web.ports[0].node_port = std::num::NonZeroU16::new(30080);
    let mut world = World::new(Capacities::MINIMUM);
    world.put(web.clone());
    world.step();
    // ExternalName and headless Services never reach the model (SVC-04, SVC-05).
    world.remove("web");
    world.step();
    let tables = &world.planner.tables;
    assert_eq!((tables.frontends().count(), tables.names.len()), (0, 0));
    web.cluster_ips = vec!["10.96.0.7".parse().unwrap()];
    world.put(web);
    world.step();
    let frontends: BTreeSet<_> =
        world.planner.tables.frontends().map(|it| it.to_string()).collect();
    assert_eq!(
        frontends.into_iter().collect::<Vec<_>>(),
        ["10.96.0.7:80/TCP", "IPv4 NodePort 30080/TCP"]
    );
}

#[test]
fn upd_08_a_shared_backend_lives_as_long_as_one_service_has_it() {
    let mut world = World::web(vec![endpoint("10.0.0.1")]);
    let mut other = slice("other-1", &["http=8080"], vec![endpoint("10.0.0.1")]);
    other.service = ObjectName::new("default", "other");
    let of = other.service.clone();
    world.snapshot.slices.entry(of).or_default().insert(Arc::new(other));
    world.put(service("other", &["10.96.0.2"], &["http=80"]));
    assert_eq!(letters(&world.step()), "SNRF", "the backend is there");
    world.remove("web");
    assert_eq!(letters(&world.step()), "-|Rn");
    assert_eq!(world.backend([10, 0, 0, 1]).unwrap().1, State::Active);
    world.remove("other");
    assert_eq!(letters(&world.step()), "-|RnL");
    assert_eq!(world.backend([10, 0, 0, 1]), Some((1, State::Dead, 2)));
}

#[test]
fn an_endpoint_that_drains_keeps_what_it_has_and_may_come_back() {
    let mut world = World::web(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    let (index, _, generation) = world.backend([10, 0, 0, 2]).unwrap();
    world.endpoints(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2").draining()]);
    assert_eq!(letters(&world.step()), "SIOL|", "it leaves the set first");
    assert_eq!(world.backend([10, 0, 0, 2]), Some((index, State::Terminating, generation)));
    world.endpoints(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    assert_eq!(letters(&world.step()), "LSIO|", "it is active before it is in the set");
    assert_eq!(world.backend([10, 0, 0, 2]), Some((index, State::Active, generation)));
    world.endpoints(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2").stopping()]);
    assert_eq!(letters(&world.step()), "SIO|L");
    assert_eq!(world.backend([10, 0, 0, 2]), Some((index, State::Dead, generation + 1)));
}

#[test]
fn trp_02_endpoints_that_drain_serve_when_nothing_else_does() {
    let mut world = World::web(vec![endpoint("10.0.0.1")]);
    world.endpoints(vec![endpoint("10.0.0.1").draining()]);
    assert_eq!(letters(&world.step()), "L", "the set is the same");
    assert_eq!(world.backend([10, 0, 0, 1]).unwrap().1, State::Terminating);
}

#[test]
fn an_index_is_not_given_away_while_sockets_use_it() {
    let mut world = World::web(vec![endpoint("10.0.0.1")]);
    world.loads.insert(1, 3);
    world.endpoints(vec![endpoint("10.0.0.2")]);
    world.step();
    world.endpoints(vec![endpoint("10.0.0.2"), endpoint("10.0.0.3")]);
    world.step();
    assert_eq!(world.backend([10, 0, 0, 1]), Some((1, State::Dead, 2)));
    assert_eq!(world.backend([10, 0, 0, 3]).unwrap().0, 3);
    world.loads.clear();
    world.endpoints(vec![endpoint("10.0.0.2"), endpoint("10.0.0.4")]);
    world.step();
    assert_eq!(world.backend([10, 0, 0, 4]), Some((1, State::Active, 2)), "a life of its own");
}

#[test]
fn nothing_that_was_freed_is_used_before_the_grace_period() {
    let mut world = World::web(vec![endpoint("10.0.0.1")]);
    let record = world.records();
    world.remove("web");
    world.put(service("new", &["10.96.0.1"], &["http=80"]));
    let ops = world.change();
    assert_eq!(letters(&ops), "NRF", "the frontend is led over, and never gone");
    assert_ne!(world.records(), record);
    let ids = |world: &World| world.planner.tables.names.keys().copied().max().unwrap();
    assert_eq!(ids(&world), 2);
    world.planner.retire();
    world.put(service("next", &["10.96.0.2"], &["http=80"]));
    world.change();
    assert_eq!(world.records(), [1, 2], "the index is free now");
    assert_eq!(ids(&world), 3, "but the id is not");
}

#[test]
fn ids_are_not_reused_after_a_restart_either() {
    let mut world = World::web(vec![]);
    world.remove("web");
    world.step();
    assert!(world.planner.tables.names.is_empty());
    world.planner = Planner::restore(world.planner.tables.clone(), Capacities::MINIMUM);
    world.put(service("new", &["10.96.0.1"], &["http=80"]));
    world.step();
    let record = world.planner.tables.services.at(1);
    assert_eq!((record.id, record.generation), (2, 2));
}

#[test]
fn a_service_that_comes_back_before_the_grace_period_has_its_place() {
    let mut world = World::web(vec![endpoint("10.0.0.1")]);
    let web = world.snapshot.services.values().next().unwrap().clone();
    world.remove("web");
    assert_eq!(letters(&world.change()), "-");
    world.put(Service::clone(&web));
    assert_eq!(letters(&world.change()), "F");
    assert_eq!(letters(&world.planner.retire()), "");
}

#[test]
fn what_is_used_again_during_the_grace_period_waits_for_one_of_its_own() {
    let mut world = World::web(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    world.endpoints(vec![endpoint("10.0.0.2")]);
    assert_eq!(letters(&world.change()), "SIO");
    assert!(world.planner.part() && !world.planner.part());
    world.endpoints(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    world.change();
    world.endpoints(vec![endpoint("10.0.0.2")]);
    world.change();
    assert_eq!(letters(&world.planner.take_away()), "", "it was in a set meanwhile");
    assert!(world.planner.part());
    assert_eq!(letters(&world.planner.take_away()), "L");
    assert!(!world.planner.has_leftovers());
}

#[test]
fn members_of_a_service_that_comes_back_after_a_restart_stay() {
    let mut world = World::web(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    let web = service("web", &["10.96.0.1"], &["http=80"]);
    world.put(Service { affinity_secs: Some(60), ..web.clone() });
    world.step();
    world.planner = Planner::restore(world.planner.tables.clone(), Capacities::MINIMUM);
    world.remove("web");
    world.desired.update(&world.snapshot, &Touched::All);
    let ops = world.planner.plan_all(&world.desired, &|_| 0);
    world.planner.confirm(&ops);
    world.put(Service { affinity_secs: Some(60), ..web });
    world.endpoints(vec![endpoint("10.0.0.2")]);
    world.step();
    assert_eq!(world.planner.tables.check_refs(), Vec::new());
    assert_eq!(world.planner.tables.members.len(), 1);
}

#[test]
fn aff_08_affinity_is_on_while_all_members_are_there() {
    let mut world = World::web(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    let plain = service("web", &["10.96.0.1"], &["http=80"]);
    world.put(Service { affinity_secs: Some(60), ..plain.clone() });
    assert_eq!(letters(&world.step()), "MMr");
    world.put(Service { affinity_secs: Some(90), ..plain.clone() });
    assert_eq!(letters(&world.step()), "r");
    world.endpoints(vec![endpoint("10.0.0.2"), endpoint("10.0.0.3")]);
    assert_eq!(letters(&world.step()), "BSMIOm|L");
    world.put(plain);
    assert_eq!(letters(&world.step()), "rmm");
}

#[test]
fn equal_sets_share_a_region() {
    let mut web = service("web", &["10.96.0.1"], &["http=80"]);
    web.external_ips = vec!["192.0.2.1".parse().unwrap()];
    web.external_policy = TrafficPolicy::Local;
    let mut world = World::new(Capacities::MINIMUM);
    world.put(web);
    world.endpoints(vec![endpoint("10.0.0.1").on("here")]);
    assert_eq!(letters(&world.step()), "BSNRRFF");
    world.endpoints(vec![endpoint("10.0.0.1").on("here"), endpoint("10.0.0.2").on("there")]);
    assert_eq!(letters(&world.step()), "BSIOI", "the local set stays where it is");
}

#[test]
fn upd_06_a_policy_is_one_store() {
    let mut world = World::web(vec![endpoint("10.0.0.1").on("there")]);
    let web = service("web", &["10.96.0.1"], &["http=80"]);
    world.put(Service { internal_policy: TrafficPolicy::Local, ..web });
    assert_eq!(letters(&world.step()), "rIOL|");
}

#[test]
fn a_full_map_takes_the_eldest_first_and_the_rest_when_there_is_room() {
    let mut world = World::new(Capacities { services: 3, ..Capacities::MINIMUM });
    for (name, address, created_secs) in
        [("young", "10.96.0.1", 3), ("old", "10.96.0.2", 1), ("middle", "10.96.0.3", 2)]
    {
        world.put(Service { created_secs, ..service(name, &[address], &["http=80"]) });
    }
    world.step();
    let issues = |world: &World| {
        let node = ObjectName::new("", "here");
        let issues = world.planner.issues(&node, Ceiling::Limit).map(|issue| issue.to_string());
        issues.collect::<Vec<_>>()
    };
    assert_eq!(
        issues(&world),
        ["Service default/young: service port default/young:http/TCP (IPv4): \
          map SERVICES is full: not served until there is room; raise --max-entries services, or \
          remove Services"]
    );
    world.remove("old");
    world.step();
    assert!(world.planner.has_retry());
    world.step();
    assert!(issues(&world).is_empty());
    assert_eq!(world.planner.tables.frontends4.len(), 2);
}

#[test]
fn a_set_that_finds_no_room_leaves_the_old_one() {
    let mut world = World::new(Capacities { slots: 4, ..Capacities::MINIMUM });
    world.put(service("web", &["10.96.0.1"], &["http=80"]));
    world.endpoints(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    world.step();
    world.endpoints((1..6).map(|last| endpoint(&format!("10.0.0.{last}"))).collect());
    assert_eq!(letters(&world.step()), "");
    assert!(world.planner.is_full());
    assert_eq!(world.planner.tables.backends.iter().count(), 2);
    world.endpoints(vec![endpoint("10.0.0.3")]);
    assert_eq!(letters(&world.step()), "BSIO|LL");
    assert!(!world.planner.is_full());
}

#[test]
fn node_addresses_follow() {
    let mut world = World::new(Capacities::MINIMUM);
    world.snapshot.node_addresses = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse().unwrap()).into();
    assert_eq!(letters(&world.step()), "AA");
    world.snapshot.node_addresses = ["192.0.2.2", "192.0.2.3"].map(|it| it.parse().unwrap()).into();
    assert_eq!(letters(&world.step()), "AA");
    assert_eq!(world.planner.tables.node_addresses.len(), 2);
}
