// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::{collections::BTreeMap, num::NonZeroU16};

use lb_common::protocol::Protocol;
use proptest::prelude::*;

use super::*;
use crate::model::{
    Family,
    issue::Problem,
    service::{Choice, ServicePort, TrafficPolicy},
};

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

/// A Service of which `version` alone tells one state from another.
fn service(name: ObjectName, version: u16) -> Service {
    Service {
        name,
        created_secs: 0,
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: None,
        choice: Choice::Random,
        health_check_node_port: None,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::TCP,
            port: NonZeroU16::new(80 + version).unwrap(),
            node_port: None,
        }],
    }
}

fn slice(name: ObjectName, owner: &ObjectName, family: Family) -> EndpointSlice {
    EndpointSlice {
        name,
        service: owner.clone(),
        family,
        ports: Vec::new(),
        endpoints: Vec::new(),
        triggered: None,
    }
}

fn put<T>(name: ObjectName, value: T) -> Object<T> {
    Object { name, value: Some(value), issues: Vec::new() }
}

fn put_slice(of: &str, owner: &str) -> Change {
    Change::Slice(put(name(of), slice(name(of), &name(owner), Family::V4)))
}

fn put_service(of: &str, version: u16) -> Change {
    Change::Service(put(name(of), service(name(of), version)))
}

fn touched(names: &[&str]) -> Touched {
    Touched::Some(names.iter().map(|it| name(it)).collect())
}

fn issue(kind: ObjectKind, object: ObjectName, value: u8) -> Issue {
    Issue { kind, object, field: "x".into(), problem: Problem::Port { value: value.into() } }
}

#[test]
fn eps_13_a_slice_that_changes_its_service_touches_both_and_leaves_the_old_one() {
    let mut snapshot = Snapshot::default();
    assert_eq!(snapshot.apply(put_slice("s1", "web")), touched(&["web"]));
    assert_eq!(snapshot.apply(put_slice("s1", "api")), touched(&["api", "web"]));
    assert_eq!(snapshot.slices.keys().collect::<Vec<_>>(), [&name("api")]);
}

#[test]
fn eps_12_a_delivery_of_what_is_known_touches_nothing() {
    let mut snapshot = Snapshot::default();
    snapshot.apply(put_slice("s1", "web"));
    assert!(snapshot.apply(put_slice("s1", "web")).is_empty());
}

#[test]
fn upd_02_a_service_whose_proxied_fields_stay_touches_nothing() {
    let mut snapshot = Snapshot::default();
    assert_eq!(snapshot.apply(put_service("web", 1)), touched(&["web"]));
    assert!(snapshot.apply(put_service("web", 1)).is_empty());
    assert_eq!(snapshot.apply(put_service("web", 2)), touched(&["web"]));
}

#[test]
fn eps_03_a_deleted_service_keeps_its_slices_for_its_return() {
    let mut snapshot = Snapshot::default();
    snapshot.apply(put_slice("s1", "web"));
    snapshot.apply(put_service("web", 1));
    assert_eq!(snapshot.apply(Change::Service(Object::gone(name("web")))), touched(&["web"]));
    assert!(snapshot.slices.contains_key(&name("web")));
}

#[test]
fn eps_10_removing_one_slice_leaves_the_rest() {
    let mut snapshot = Snapshot::default();
    snapshot.apply(put_slice("s1", "web"));
    snapshot.apply(put_slice("s2", "web"));
    assert_eq!(snapshot.apply(Change::Slice(Object::gone(name("s1")))), touched(&["web"]));
    let left: Vec<_> = snapshot.slices[&name("web")].iter().map(|slice| &slice.name).collect();
    assert_eq!(left, [&name("s2")]);
    assert!(snapshot.apply(Change::Slice(Object::gone(name("s1")))).is_empty());
}

#[test]
fn nod_02_only_what_routing_reads_of_the_node_touches_anything() {
    let zone = |zone: &str, eligible| {
        let node = Node { zone: Some(zone.into()), eligible, ..Node::named("n1") };
        Change::Node(NodeObject { node, issues: Vec::new() })
    };
    let mut snapshot = Snapshot::default();
    assert_eq!(snapshot.apply(zone("a", false)), Touched::All);
    assert!(snapshot.apply(zone("a", true)).is_empty());
    assert!(snapshot.node.eligible);
    assert_eq!(snapshot.apply(zone("b", true)), Touched::All);
}

#[test]
fn syn_02_the_first_list_touches_everything_and_a_relist_what_differs() {
    let listing = |services: &[(&str, u16)]| Listing {
        services: Some(
            services
                .iter()
                .map(|(of, version)| put(name(of), service(name(of), *version)))
                .collect(),
        ),
        ..Listing::default()
    };
    let mut snapshot = Snapshot::default();
    let first = Listing {
        slices: Some(Vec::new()),
        node: Some(NodeObject::default()),
        service_cidrs: Some(Vec::new()),
        pods: Some(Vec::new()),
        ..listing(&[("a", 1), ("b", 1), ("c", 1)])
    };
    assert_eq!(snapshot.apply(Change::Replace(Box::new(first))), Touched::All);
    let second = listing(&[("b", 1), ("c", 2), ("d", 1)]);
    let second = snapshot.apply(Change::Replace(Box::new(second)));
    assert_eq!(second, touched(&["a", "c", "d"]));
    assert_eq!(snapshot.services.len(), 3);
}

#[test]
fn issues_die_with_their_object() {
    let of = name("web");
    let complaint = issue(ObjectKind::Service, of.clone(), 0);
    let change =
        Change::Service(Object { name: of.clone(), value: None, issues: vec![complaint.clone()] });
    let mut snapshot = Snapshot::default();
    assert!(snapshot.apply(change.clone()).is_empty());
    assert!(snapshot.apply(change).is_empty());
    assert_eq!(snapshot.issues.values().collect::<Vec<_>>(), [&vec![complaint]]);
    snapshot.apply(Change::Service(Object::gone(of)));
    assert!(snapshot.issues.is_empty());
}

/// What a test's source does: an index of an object, and its new state or its end.
#[derive(Clone, Debug)]
enum Step {
    Service(usize, Option<u16>, Option<u8>),
    Slice(usize, Option<(usize, Family)>, Option<u8>),
    Zone(Option<&'static str>),
    RelistServices,
    RelistSlices,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn step() -> impl Strategy<Value = Step> {
    let complaint = || proptest::option::of(0..2u8);
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    prop_oneof![
        4 => (0..4usize, proptest::option::of(0..3u16), complaint())
            .prop_map(|(at, version, bad)| Step::Service(at, version, bad)),
        6 => (0..4usize, proptest::option::of((0..4usize, family)), complaint())
            .prop_map(|(at, value, bad)| Step::Slice(at, value, bad)),
        1 => prop_oneof![Just(None), Just(Some("x")), Just(Some("y"))].prop_map(Step::Zone),
        1 => Just(Step::RelistServices),
        1 => Just(Step::RelistSlices),
    ]
}

/// The final objects, kept apart from the snapshot under test.
#[derive(Default)]
struct Cluster {
    services: BTreeMap<ObjectName, Object<Service>>,
    slices: BTreeMap<ObjectName, Object<EndpointSlice>>,
    node: NodeObject,
}

impl Cluster {
    fn take(&mut self, step: &Step) -> Change {
        match *step {
            Step::Service(at, version, bad) => {
                let of = name(NAMES[at]);
                let issues = bad.map(|bad| issue(ObjectKind::Service, of.clone(), bad));
                let object = Object {
                    name: of.clone(),
                    value: version.map(|version| service(of.clone(), version)),
                    issues: issues.into_iter().collect(),
                };
                self.services.insert(of, object.clone());
                Change::Service(object)
            }
            Step::Slice(at, value, bad) => {
                let of = name(NAMES[at]);
                let issues = bad.map(|bad| issue(ObjectKind::EndpointSlice, of.clone(), bad));
                let object = Object {
                    name: of.clone(),
                    value: value.map(|(to, family)| slice(of.clone(), &name(NAMES[to]), family)),
                    issues: issues.into_iter().collect(),
                };
                self.slices.insert(of, object.clone());
                Change::Slice(object)
            }
            Step::Zone(zone) => {
                self.node.node.zone = zone.map(Into::into);
                Change::Node(self.node.clone())
            }
            Step::RelistServices => Change::Replace(Box::new(Listing {
                services: self.list().services,
                ..Listing::default()
            })),
            Step::RelistSlices => Change::Replace(Box::new(Listing {
                slices: self.list().slices,
                ..Listing::default()
            })),
        }
    }

    fn list(&self) -> Listing {
        Listing {
            services: Some(there(&self.services)),
            slices: Some(there(&self.slices)),
            node: Some(self.node.clone()),
            service_cidrs: Some(Vec::new()),
            pods: Some(Vec::new()),
        }
    }
}

/// Objects that are gone are in no list.
fn there<T: Clone>(objects: &BTreeMap<ObjectName, Object<T>>) -> Vec<Object<T>> {
    let there = |it: &&Object<T>| it.value.is_some() || !it.issues.is_empty();
    objects.values().filter(there).cloned().collect()
}

/// All that compile reads of one Service.
fn input(snapshot: &Snapshot, of: &ObjectName) -> impl PartialEq + use<> {
    (snapshot.services.get(of).cloned(), snapshot.slices.get(of).cloned())
}

proptest! {
    #[test]
    fn changes_one_by_one_equal_the_final_objects(steps in proptest::collection::vec(step(), 0..40)) {
        let mut cluster = Cluster::default();
        let mut snapshot = Snapshot::default();
        for step in steps {
            let before = snapshot.clone();
            let change = cluster.take(&step);
            let touched = snapshot.apply(change.clone());
            for of in NAMES.map(name) {
                let differs = input(&before, &of) != input(&snapshot, &of);
                match &touched {
                    Touched::Some(names) => prop_assert_eq!(names.contains(&of), differs),
                    Touched::All => prop_assert_ne!(&before.node, &snapshot.node),
                }
            }
            prop_assert!(snapshot.apply(change).is_empty());
        }
        let mut listed = Snapshot::default();
        listed.apply(Change::Replace(Box::new(cluster.list())));
        prop_assert_eq!(snapshot, listed);
    }
}
