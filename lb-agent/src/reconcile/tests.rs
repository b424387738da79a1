// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reconciler over maps in memory: it converges, writes nothing twice, and survives
//! failing writes.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::{
    datapath::fake::Fake,
    model::{
        change::{NodeObject, Object},
        endpoint::{Conditions, Endpoint, EndpointPort, EndpointSlice},
        issue::{Lost, Problem},
        node::Node,
        service::{Choice, Service, ServicePort, TrafficPolicy},
    },
};

use lb_common::{maps, protocol::Protocol};

/// A Service on 10.96.`number`.1:80.
pub(super) fn service(number: u8) -> Change {
    let name = ObjectName::new("default", format!("web-{number}"));
    let port = ServicePort {
        name: "http".into(),
        protocol: Protocol::TCP,
        port: 80.try_into().unwrap(),
        node_port: None,
    };
    let service = Service {
        name: name.clone(),
        created_secs: 0,
        cluster_ips: vec![IpAddr::V4(Ipv4Addr::new(10, 96, number, 1))],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: None,
        choice: Choice::Random,
        health_check_node_port: None,
        ports: vec![port],
    };
    Change::Service(Object { name, value: Some(service), issues: Vec::new() })
}

/// Its slice with `count` endpoints.
pub(super) fn slice(number: u8, count: u8) -> Change {
    let name = ObjectName::new("default", format!("web-{number}-1"));
    let endpoint = |last: u8| Endpoint {
        address: IpAddr::V4(Ipv4Addr::new(10, 244, number, last)),
        conditions: Conditions::default(),
        node: None,
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    };
    let port = EndpointPort {
        name: "http".into(),
        protocol: Protocol::TCP,
        port: 8080.try_into().unwrap(),
    };
    let slice = EndpointSlice {
        name: name.clone(),
        service: ObjectName::new("default", format!("web-{number}")),
        family: crate::model::Family::V4,
        ports: vec![port],
        endpoints: (1..=count).map(endpoint).collect(),
        triggered: None,
    };
    Change::Slice(Object { name, value: Some(slice), issues: Vec::new() })
}

pub(super) fn cluster(services: u8, endpoints: u8) -> Vec<Change> {
    (1..=services).flat_map(|number| [service(number), slice(number, endpoints)]).collect()
}

/// Waits for a grace period and takes away what is left over.
fn retire(reconciler: &mut Reconciler<Fake>) -> Result<(), SyncError> {
    if let Some(Err(error)) = reconciler.part().map(|grace| grace()) {
        reconciler.distrust();
        return Err(error.into());
    }
    reconciler.take_away()
}

/// Syncs and retires until nothing is left to do; the number of failures on the way.
pub(super) fn settle(reconciler: &mut Reconciler<Fake>) -> u32 {
    let mut failures = 0;
    for _ in 0..10_000 {
        if reconciler.sync().is_err() {
            failures += 1;
        } else if !reconciler.has_leftovers() {
            return failures;
        } else if retire(reconciler).is_err() {
            failures += 1;
        }
    }
    panic!("does not settle");
}

#[test]
fn syn_02_a_restart_that_finds_no_change_writes_nothing_and_one_that_does_cleans_up() {
    let mut first = Reconciler::new(Fake::new(1));
    first.take(cluster(5, 3));
    settle(&mut first);
    assert!(first.ops() > 0);

    let mut second = Reconciler::new(first.datapath().clone());
    second.take(cluster(5, 3));
    settle(&mut second);
    assert_eq!(second.ops(), 0);

    let mut third = Reconciler::new(second.datapath().clone());
    third.take(cluster(4, 3));
    settle(&mut third);
    assert_eq!(third.datapath().tables.frontends4.len(), 4);
    assert_eq!(third.datapath().tables.check_refs(), Vec::new());
}

/// NOD-03: what is listed is served without a zone, and anew when the Node tells it.
#[test]
fn nod_03_the_zone_is_not_waited_for() {
    let mut zoned = slice(1, 3);
    if let Change::Slice(Object { value: Some(slice), .. }) = &mut zoned {
        for (endpoint, zone) in slice.endpoints.iter_mut().zip(["a", "a", "b"]) {
            endpoint.for_zones = vec![zone.into()];
        }
    }
    let mut reconciler = Reconciler::new(Fake::new(1));
    let served = |reconciler: &Reconciler<Fake>| {
        let tables = &reconciler.datapath().tables;
        tables.services.iter().map(|(_, record)| record.inside.count()).max()
    };
    reconciler.take([service(1), zoned]);
    settle(&mut reconciler);
    assert_eq!(served(&reconciler), Some(3));
    for (zone, endpoints) in [(Some("a"), 2), (Some("b"), 1), (Some("c"), 3), (None, 3)] {
        let node = Node { zone: zone.map(Into::into), ..Node::named("here") };
        reconciler.take([Change::Node(NodeObject { node, issues: Vec::new() })]);
        settle(&mut reconciler);
        assert_eq!(served(&reconciler), Some(endpoints), "zone {zone:?}");
    }
}

#[test]
fn it_converges_while_one_write_in_ten_fails() {
    for seed in 1..20 {
        let mut fake = Fake::new(seed);
        fake.faults_percent = 10;
        let mut reconciler = Reconciler::new(fake);
        let mut failures = 0;
        for (services, endpoints) in [(8, 3), (3, 5), (6, 1), (0, 0), (4, 2)] {
            let gone = (services + 1..=8).map(|number| {
                let name = ObjectName::new("default", format!("web-{number}"));
                Change::Service(Object::gone(name))
            });
            reconciler.take(cluster(services, endpoints).into_iter().chain(gone));
            failures += settle(&mut reconciler);
            let tables = &reconciler.datapath().tables;
            assert_eq!(tables.frontends4.len(), usize::from(services), "seed {seed}");
            assert_eq!(tables.check_refs(), Vec::new(), "seed {seed}");
        }
        assert!(failures > 0, "seed {seed} injected no fault");
    }
}

#[test]
fn an_op_that_fails_at_every_try_holds_up_its_own_service_only() {
    let mut whole = Reconciler::new(Fake::new(1));
    whole.take(cluster(5, 2));
    settle(&mut whole);
    let tables = &whole.datapath().tables;
    for refused in [
        Op::Name { id: 2, text: tables.names.get(&2).cloned() },
        tables
            .frontends4
            .iter()
            .find(|(_, value)| value.service == 2)
            .map(|(key, value)| Op::Frontend4 { key: *key, value: Some(*value) })
            .unwrap(),
    ] {
        let mut fake = Fake::new(1);
        fake.refused = vec![refused];
        let mut reconciler = Reconciler::new(fake);
        reconciler.take(cluster(5, 2));
        assert!(reconciler.sync().is_err());
        let fake = reconciler.datapath();
        assert_eq!(fake.tables.frontends4.len(), 4, "{:?}", fake.refused);
        assert_eq!(fake.tables.check_refs(), Vec::new(), "{:?}", fake.refused);
        let issues: Vec<_> = reconciler.issues().iter().map(ToString::to_string).collect();
        assert_eq!(issues, [HELD_UP], "{:?}", fake.refused);

        reconciler.datapath_mut().refused.clear();
        settle(&mut reconciler);
        assert_eq!(reconciler.datapath().tables.frontends4.len(), 5);
        assert_eq!(reconciler.issues(), Vec::new());
    }
}

const HELD_UP: &str = "Service default/web-2: service port default/web-2:http/TCP (IPv4): could \
    not be written: cannot update map refused: permission denied; tried again until it can";

#[test]
fn what_cannot_be_taken_away_is_told_by_its_name_in_the_maps() {
    let mut reconciler = Reconciler::new(Fake::new(1));
    reconciler.take(cluster(2, 1));
    settle(&mut reconciler);
    reconciler.datapath_mut().refused = vec![Op::Name { id: 2, text: None }];
    reconciler.take([Change::Service(Object::gone(ObjectName::new("default", "web-2")))]);
    reconciler.sync().unwrap();
    assert!(retire(&mut reconciler).is_err());
    let issues: Vec<_> = reconciler.issues().iter().map(ToString::to_string).collect();
    assert!(issues.len() == 1 && issues[0].starts_with("Service default/web-2:http/TCP: removal"));
}

#[test]
fn a_kill_after_any_op_is_repaired_by_the_next_start() {
    let mut whole = Reconciler::new(Fake::new(1));
    whole.take(cluster(3, 2));
    settle(&mut whole);
    for crash_after in 0..whole.datapath().ops {
        let mut fake = Fake::new(1);
        fake.crash_after = Some(crash_after);
        let mut killed = Reconciler::new(fake);
        killed.take(cluster(3, 2));
        assert!(killed.sync().is_err(), "after {crash_after}");

        let mut fake = killed.datapath().clone();
        fake.crash_after = None;
        let mut next = Reconciler::new(fake);
        next.take(cluster(2, 3));
        settle(&mut next);
        assert_eq!(next.datapath().tables.frontends4.len(), 2, "after {crash_after}");
        assert_eq!(next.datapath().tables.check_refs(), Vec::new(), "after {crash_after}");
    }
}

#[test]
fn maps_grow_before_they_are_full_and_what_does_not_fit_is_an_issue_until_it_does() {
    for (growth, remedy) in
        [(Growth::AtLimit, "raise --max-entries services"), (Growth::Refused, "memory limit")]
    {
        let mut fake = Fake::new(1);
        fake.capacities.services = 4;
        fake.growth = growth;
        let mut reconciler = Reconciler::new(fake);
        reconciler.take(cluster(6, 1));
        settle(&mut reconciler);
        assert_eq!(reconciler.datapath().tables.frontends4.len(), 3, "index 0 is never used");
        let issues: Vec<_> = reconciler.issues().iter().map(ToString::to_string).collect();
        assert_eq!(issues.len(), 3);
        assert!(issues.iter().all(|issue| issue.contains(remedy)), "{issues:?}");

        reconciler.datapath_mut().growth = Growth::Grown;
        reconciler.take([slice(1, 2)]);
        settle(&mut reconciler);
        assert_eq!(reconciler.issues().len(), 3, "not asked again for the same sizes at once");
        reconciler.distrust();
        settle(&mut reconciler);
        assert_eq!(reconciler.datapath().tables.frontends4.len(), 6);
        assert_eq!(reconciler.issues(), Vec::new());
    }
}

#[test]
fn what_is_served_follows_its_endpoints_although_the_maps_are_full() {
    let mut fake = Fake::new(1);
    (fake.capacities.slots, fake.capacities.backends) = (256, 256);
    fake.growth = Growth::AtLimit;
    let mut reconciler = Reconciler::new(fake);
    reconciler.take(cluster(250, 1));
    settle(&mut reconciler);
    let served = reconciler.datapath().tables.frontends4.len();
    assert!((230..250).contains(&served), "{served}");
    for round in 2..20 {
        reconciler.take((1..=3).map(|number| slice(number, 1 + (number + round) % 3)));
        settle(&mut reconciler);
        let lost = reconciler.issues().into_iter().filter(
            |issue| matches!(issue.problem, Problem::Full { lost, .. } if lost != Lost::Port),
        );
        assert_eq!(lost.count(), 0, "round {round}");
        assert_eq!(reconciler.datapath().tables.frontends4.len(), served);
    }
    assert_eq!(reconciler.datapath().tables.check_refs(), Vec::new());
}

/// A node with more addresses than NODE_ADDRS has room for: one issue of the Node says so, all
/// else is served, and what waited gets in when others go, also those that go with the same
/// change.
#[test]
fn np_02_a_node_with_too_many_addresses_is_told_so_and_all_else_is_served() {
    let addresses = |from: u32, to: u32| {
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0));
        Change::NodeAddresses((from..to).map(|it| IpAddr::V4((base + it).into())).collect())
    };
    let mut reconciler = Reconciler::new(Fake::new(1));
    let node = NodeObject { node: Node::named("n1"), issues: Vec::new() };
    let all = cluster(3, 2).into_iter().chain([Change::Node(node), addresses(0, LEN + 6)]);
    reconciler.take(all);
    assert_eq!(settle(&mut reconciler), 0, "nothing fails");
    let held = |reconciler: &Reconciler<Fake>| {
        let tables = &reconciler.datapath().tables;
        (tables.node_addresses.len(), tables.frontends4.len())
    };
    assert_eq!(held(&reconciler), (LEN as usize, 3));
    let issues: Vec<_> = reconciler.issues().iter().map(ToString::to_string).collect();
    assert_eq!(issues, [TOO_MANY_ADDRESSES]);
    let usage = reconciler.planner().unwrap().usage();
    let usage = usage.iter().find(|usage| usage.map == maps::NODE_ADDRS).unwrap();
    assert_eq!((usage.used, usage.waiting), (LEN as usize, 6));

    // Services still change, and a restart writes nothing.
    reconciler.take([slice(1, 3), service(4), slice(4, 1)]);
    assert_eq!(settle(&mut reconciler), 0);
    assert_eq!(held(&reconciler), (LEN as usize, 4));

    // As many go as wait: those that waited get in.
    reconciler.take([addresses(6, LEN + 6)]);
    assert_eq!(settle(&mut reconciler), 0);
    let last = IpAddr::V4((u32::from(Ipv4Addr::new(198, 18, 0, 0)) + LEN + 5).into());
    assert_eq!(held(&reconciler), (LEN as usize, 4));
    assert!(reconciler.datapath().tables.node_addresses.contains(&last.into()));
    assert_eq!(reconciler.issues(), Vec::new());
}

const LEN: u32 = maps::NODE_ADDRS_LEN;

const TOO_MANY_ADDRESSES: &str = "Node n1: node addresses: map NODE_ADDRS is full: NodePorts do \
    not answer on some of them until there is room; give fewer --nodeport-addresses";
