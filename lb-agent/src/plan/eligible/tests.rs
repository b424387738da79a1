// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::plan::fixture::{Build, endpoint, node, slice};

/// A kind of endpoint and how to make one.
type Entry = (&'static str, fn() -> Build);

const BOTH: Role = Role::CLUSTER.union(Role::LOCAL);

fn join(slices: &[EndpointSlice], name: &str, protocol: Protocol) -> Endpoints {
    Join::new(slices.iter(), Family::V4).endpoints(name, protocol, BOTH, &node("here", "z1"))
}

/// `ip:port` of the candidates with a role.
fn with(endpoints: &Endpoints, role: Role) -> Vec<String> {
    let candidates = endpoints.candidates.iter().filter(|candidate| candidate.role.contains(role));
    candidates.map(|it| format!("{}:{}", it.address, it.port.to_host())).collect()
}

fn of(slices: &[EndpointSlice], role: Role) -> Vec<String> {
    with(&join(slices, "http", Protocol::TCP), role)
}

/// The two sets of one slice's endpoints.
fn sets(endpoints: Vec<Build>) -> (Vec<String>, Vec<String>, bool) {
    let all = join(&[slice("a", &["http=80"], endpoints)], "http", Protocol::TCP);
    (with(&all, Role::CLUSTER), with(&all, Role::LOCAL), all.somewhere)
}

#[test]
fn eps_04_slices_are_joined_and_may_differ_in_number_and_ports() {
    let slices = [
        slice("a", &["http=80", "admin=9000"], vec![endpoint("10.0.0.1")]),
        slice("b", &["http=8080"], vec![endpoint("10.0.0.2")]),
        slice("c", &["admin=9000"], vec![endpoint("10.0.0.3")]),
    ];
    assert_eq!(of(&slices, Role::CLUSTER), ["10.0.0.1:80", "10.0.0.2:8080"]);
}

#[test]
fn eps_05_name_and_protocol_must_match_and_the_empty_name_is_a_name() {
    let slices = [
        slice("a", &["=80", "dns=53/UDP"], vec![endpoint("10.0.0.1")]),
        slice("b", &["dns=5353"], vec![endpoint("10.0.0.2")]),
    ];
    assert_eq!(with(&join(&slices, "", Protocol::TCP), Role::CLUSTER), ["10.0.0.1:80"]);
    assert_eq!(with(&join(&slices, "dns", Protocol::UDP), Role::CLUSTER), ["10.0.0.1:53"]);
    assert_eq!(with(&join(&slices, "dns", Protocol::TCP), Role::CLUSTER), ["10.0.0.2:5353"]);
    let none = join(&slices, "http", Protocol::TCP);
    assert_eq!((with(&none, Role::empty()), none.somewhere), (vec![], false));
}

#[test]
fn eps_08_endpoints_are_unique_by_address_and_port() {
    let slices = [
        slice("a", &["http=80"], vec![endpoint("10.0.0.1"), endpoint("10.0.0.1")]),
        slice("b", &["http=81"], vec![endpoint("10.0.0.1")]),
    ];
    assert_eq!(of(&slices, Role::CLUSTER), ["10.0.0.1:80", "10.0.0.1:81"]);
}

#[test]
fn eps_09_of_two_entries_the_one_that_does_not_terminate_counts() {
    let entries: [Entry; 4] = [
        ("ready", || endpoint("10.0.0.1")),
        ("down", || endpoint("10.0.0.1").down()),
        ("draining", || endpoint("10.0.0.1").draining()),
        ("stopping", || endpoint("10.0.0.1").stopping()),
    ];
    // (first, second, in the cluster set)
    let table = [
        ("ready", "draining", true),
        ("draining", "ready", true),
        ("down", "draining", false),
        ("draining", "down", false),
        ("draining", "stopping", true),
        ("stopping", "draining", false),
        ("ready", "down", false),
        ("down", "ready", true),
    ];
    let entry = |name| entries.iter().find(|entry| entry.0 == name).unwrap().1();
    for (first, second, expected) in table {
        let slices = [
            slice("a", &["http=80"], vec![entry(first)]),
            slice("b", &["http=80"], vec![entry(second)]),
        ];
        assert_eq!(!of(&slices, Role::CLUSTER).is_empty(), expected, "{first}, then {second}");
    }
}

#[test]
fn eps_10_removing_one_slice_leaves_what_another_has() {
    let slices = [
        slice("a", &["http=80"], vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]),
        slice("b", &["http=80"], vec![endpoint("10.0.0.2")]),
    ];
    assert_eq!(of(&slices[1..], Role::CLUSTER), ["10.0.0.2:80"]);
}

#[test]
fn eps_14_an_endpoint_without_node_is_remote_and_so_is_every_one_of_a_nameless_proxy() {
    let endpoints = || vec![endpoint("10.0.0.1"), endpoint("10.0.0.2").on("here")];
    assert_eq!(sets(endpoints()).1, ["10.0.0.2:80"]);
    let slices = [slice("a", &["http=80"], vec![endpoint("10.0.0.1").on("")])];
    let nameless = Join::new(slices.iter(), Family::V4).endpoints(
        "http",
        Protocol::TCP,
        BOTH,
        &node("", "z1"),
    );
    assert_eq!(with(&nameless, Role::LOCAL), Vec::<String>::new());
}

#[test]
fn fam_05_slices_of_the_other_family_and_addresses_that_lie_are_left_out() {
    let mut liar = slice("b", &["http=80"], vec![endpoint("fd00::1")]);
    liar.family = Family::V4;
    let slices = [slice("a", &["http=80"], vec![endpoint("fd00::2")]), liar];
    assert_eq!(of(&slices, Role::empty()), Vec::<String>::new());
    let v6 = Join::new(slices.iter(), Family::V6).endpoints(
        "http",
        Protocol::TCP,
        BOTH,
        &node("here", "z1"),
    );
    assert_eq!(with(&v6, Role::CLUSTER), ["fd00::2:80"]);
}

#[test]
fn ep_03_only_ready_and_draining_endpoints_are_used() {
    let (cluster, local, somewhere) = sets(vec![
        endpoint("10.0.0.1").serving().on("here"),
        endpoint("10.0.0.2").down().on("here"),
        endpoint("10.0.0.3").stopping().on("here"),
    ]);
    assert_eq!((cluster.len(), local.len(), somewhere), (0, 0, false));
}

#[test]
fn ep_02_ready_is_believed_of_an_endpoint_that_terminates() {
    let (cluster, _, somewhere) = sets(vec![endpoint("10.0.0.1").published()]);
    assert_eq!((cluster, somewhere), (vec!["10.0.0.1:80".to_owned()], true));
}

#[test]
fn ct_05_what_serves_is_a_candidate_even_outside_the_sets() {
    let slices = [slice(
        "a",
        &["http=80"],
        vec![
            endpoint("10.0.0.1"),
            endpoint("10.0.0.2").draining(),
            endpoint("10.0.0.3").serving(),
            endpoint("10.0.0.4").stopping(),
            endpoint("10.0.0.5").down(),
        ],
    )];
    assert_eq!(of(&slices, Role::empty()), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(of(&slices, Role::READY), ["10.0.0.1:80"]);
    assert_eq!(of(&slices, Role::CLUSTER), ["10.0.0.1:80"]);
}

#[test]
fn trp_02_the_cluster_set_is_ready_endpoints_else_all_draining_ones() {
    let (cluster, ..) = sets(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2").draining()]);
    assert_eq!(cluster, ["10.0.0.1:80"]);
    let (cluster, ..) = sets(vec![
        endpoint("10.0.0.1").down().for_zones(&["z1"]),
        endpoint("10.0.0.2").draining().for_zones(&["z1"]),
        endpoint("10.0.0.3").draining().for_zones(&["z2"]),
    ]);
    assert_eq!(cluster, ["10.0.0.2:80", "10.0.0.3:80"], "topology is ignored");
}

#[test]
fn trp_04_the_local_set_falls_back_alone() {
    let (cluster, local, _) =
        sets(vec![endpoint("10.0.0.1").on("there"), endpoint("10.0.0.2").on("here").draining()]);
    assert_eq!(local, ["10.0.0.2:80"], "even when ready endpoints exist on other nodes");
    assert_eq!(cluster, ["10.0.0.1:80"]);
    let (_, local, _) =
        sets(vec![endpoint("10.0.0.1").on("here"), endpoint("10.0.0.2").on("here").draining()]);
    assert_eq!(local, ["10.0.0.1:80"]);
}

#[test]
fn trp_03_the_local_set_ignores_hints_and_top_10_the_cluster_set_follows_them() {
    let (cluster, local, _) = sets(vec![
        endpoint("10.0.0.1").on("here").for_zones(&["z2"]),
        endpoint("10.0.0.2").on("there").for_zones(&["z1"]),
    ]);
    assert_eq!(cluster, ["10.0.0.2:80"]);
    assert_eq!(local, ["10.0.0.1:80"]);
}

#[test]
fn trp_05_somewhere_is_ready_or_draining_anywhere() {
    assert!(sets(vec![endpoint("10.0.0.1").on("there")]).2);
    assert!(sets(vec![endpoint("10.0.0.1").on("there").draining()]).2);
    assert!(!sets(vec![endpoint("10.0.0.1").on("there").down()]).2);
}

#[test]
fn trp_01_a_set_that_no_frontend_needs_is_not_made() {
    let slices = [slice("a", &["http=80"], vec![endpoint("10.0.0.1").on("here")])];
    let join = Join::new(slices.iter(), Family::V4);
    let local = join.endpoints("http", Protocol::TCP, Role::LOCAL, &node("here", ""));
    assert_eq!(local.candidates[0].role, Role::LOCAL | Role::READY | Role::HERE);
    let cluster = join.endpoints("http", Protocol::TCP, Role::CLUSTER, &node("here", ""));
    assert_eq!(cluster.candidates[0].role, Role::CLUSTER | Role::READY | Role::HERE);
}

#[test]
fn top_02_unready_endpoints_take_no_part_in_the_decision() {
    let (cluster, ..) = sets(vec![
        endpoint("10.0.0.1").for_zones(&["z1"]),
        endpoint("10.0.0.2").for_zones(&["z2"]),
        endpoint("10.0.0.3").down(),
        endpoint("10.0.0.4").draining(),
    ]);
    assert_eq!(cluster, ["10.0.0.1:80"]);
}

#[test]
fn top_09_hints_are_judged_over_all_slices_of_the_family() {
    let slices = [
        slice("a", &["http=80"], vec![endpoint("10.0.0.1").for_zones(&["z1"])]),
        slice("b", &["http=80"], vec![endpoint("10.0.0.2")]),
    ];
    assert_eq!(of(&slices, Role::CLUSTER), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(of(&slices[..1], Role::CLUSTER), ["10.0.0.1:80"]);
}

#[test]
fn candidates_are_in_order_whatever_order_they_came_in() {
    let one = slice("a", &["http=80"], vec![endpoint("10.0.0.9"), endpoint("10.0.0.2")]);
    let two = slice("b", &["http=80"], vec![endpoint("10.0.0.10")]);
    let forward = join(&[one.clone(), two.clone()], "http", Protocol::TCP);
    assert_eq!(forward, join(&[two, one], "http", Protocol::TCP));
    assert_eq!(with(&forward, Role::CLUSTER), ["10.0.0.2:80", "10.0.0.9:80", "10.0.0.10:80"]);
}
