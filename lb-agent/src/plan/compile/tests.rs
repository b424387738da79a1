// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::{net::IpAddr, num::NonZeroU16};

use lb_common::service::{ServiceFlags, SetWord};

use super::*;
use crate::{
    model::endpoint::EndpointSlice,
    plan::fixture::{Build, endpoint, node, service, slice},
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn compiled(service: &Service, slices: &[EndpointSlice]) -> Vec<Port> {
    let slices = slices.iter().cloned().collect();
    compile_service(service, &slices, &node("here", "z1"), Rules::default())
}

/// One TCP port `http=80` with every kind of frontend.
fn full() -> Service {
    let mut service = service("web", &["10.96.0.1"], &["http=80"]);
    service.external_ips = vec![ip("192.0.2.1")];
    service.load_balancer_ips = vec![ip("198.51.100.1")];
    service.ports[0].node_port = NonZeroU16::new(30080);
    service
}

/// Kinds and frontends as text.
fn claims_of(port: &Port) -> Vec<String> {
    let mut claims: Vec<_> =
        port.claims.iter().map(|(frontend, kind)| format!("{} {frontend}", kind.name())).collect();
    claims.sort();
    claims
}

fn sets(port: &Port, kind: FrontendKind) -> [Vec<String>; 2] {
    let (inside, outside) = port.sets(kind);
    [inside, outside].map(|set| {
        port.members(set).map(|candidate| candidate.address.to_ip().to_string()).collect()
    })
}

fn spread() -> Vec<Build> {
    vec![endpoint("10.0.0.1").on("here"), endpoint("10.0.0.2").on("there")]
}

const KINDS: [FrontendKind; 4] = [
    FrontendKind::ClusterIp,
    FrontendKind::NodePort,
    FrontendKind::ExternalIp,
    FrontendKind::LoadBalancer,
];

#[test]
fn np_01_xip_01_lb_01_every_address_and_node_port_is_a_frontend() {
    let ports = compiled(&full(), &[]);
    assert_eq!(
        claims_of(&ports[0]),
        [
            "ClusterIP 10.96.0.1:80/TCP",
            "ExternalIP 192.0.2.1:80/TCP",
            "LoadBalancer 198.51.100.1:80/TCP",
            "NodePort IPv4 NodePort 30080/TCP",
        ]
    );
}

#[test]
fn np_11_one_node_port_number_serves_several_protocols() {
    let mut service = service("dns", &["10.96.0.10"], &["dns=53/UDP", "dns-tcp=53", "s=53/SCTP"]);
    for port in &mut service.ports {
        port.node_port = NonZeroU16::new(30053);
    }
    let ports = compiled(&service, &[]);
    let node_ports: Vec<_> =
        ports.iter().flat_map(claims_of).filter(|claim| claim.starts_with("NodePort")).collect();
    assert_eq!(
        node_ports,
        [
            "NodePort IPv4 NodePort 30053/UDP",
            "NodePort IPv4 NodePort 30053/TCP",
            "NodePort IPv4 NodePort 30053/SCTP",
        ]
    );
}

#[test]
fn fam_02_a_family_without_cluster_ip_is_not_served() {
    let mut service = full();
    service.external_ips.push(ip("2001:db8::1"));
    let ports = compiled(&service, &[]);
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0].owner.name.family, Family::V4);
}

#[test]
fn fam_03_addresses_go_to_their_family_and_fam_04_a_node_port_to_both() {
    let mut service = full();
    service.cluster_ips.push(ip("fd00::1"));
    service.external_ips.push(ip("2001:db8::1"));
    let ports = compiled(&service, &[]);
    assert_eq!(claims_of(&ports[0]).len(), 4);
    assert_eq!(
        claims_of(&ports[1]),
        [
            "ClusterIP [fd00::1]:80/TCP",
            "ExternalIP [2001:db8::1]:80/TCP",
            "NodePort IPv6 NodePort 30080/TCP",
        ]
    );
}

#[test]
fn fam_05_a_family_without_endpoints_refuses() {
    let service = service("web", &["10.96.0.1", "fd00::1"], &["http=80"]);
    let ports = compiled(&service, &[slice("a", &["http=80"], spread())]);
    assert_eq!(sets(&ports[0], FrontendKind::ClusterIp)[0], ["10.0.0.1", "10.0.0.2"]);
    assert!(sets(&ports[1], FrontendKind::ClusterIp)[0].is_empty());
    assert_eq!(ports[1].empty(Role::CLUSTER), SetWord::REFUSE);
}

#[test]
fn svc_09_a_service_without_ports_is_nothing() {
    assert!(compiled(&service("web", &["10.96.0.1"], &[]), &[]).is_empty());
}

#[test]
fn trp_06_xip_02_policies_do_not_leak_and_trp_10_to_13_give_each_kind_its_sets() {
    use TrafficPolicy::{Cluster, Local};
    let all = ["10.0.0.1", "10.0.0.2"].map(String::from).to_vec();
    let here = vec!["10.0.0.1".to_owned()];
    // (internal, external, ClusterIP's sets, other kinds' sets)
    let table = [
        (Cluster, Cluster, [&all, &all], [&all, &all]),
        (Local, Cluster, [&here, &here], [&all, &all]),
        (Cluster, Local, [&all, &all], [&all, &here]),
        (Local, Local, [&here, &here], [&all, &here]),
    ];
    for (internal, external, cluster_ip, others) in table {
        let service = Service { internal_policy: internal, external_policy: external, ..full() };
        let ports = compiled(&service, &[slice("a", &["http=80"], spread())]);
        for kind in KINDS {
            let expected = if kind == FrontendKind::ClusterIp { cluster_ip } else { others };
            assert_eq!(
                sets(&ports[0], kind),
                expected.map(Clone::clone),
                "{internal:?} {external:?} {kind:?}"
            );
        }
    }
}

#[test]
fn trp_01_and_trp_03_only_sets_that_some_frontend_needs_are_made() {
    let mut service = service("web", &["10.96.0.1"], &["http=80"]);
    service.internal_policy = TrafficPolicy::Local;
    service.external_policy = TrafficPolicy::Local;
    let slices = [slice("a", &["http=80"], spread())];
    let ports = compiled(&service, &slices);
    assert_eq!(ports[0].members(Role::CLUSTER).count(), 0, "nothing leads to it");
    service.internal_policy = TrafficPolicy::Cluster;
    let ports = compiled(&service, &slices);
    assert_eq!(ports[0].members(Role::LOCAL).count(), 0, "there is no external frontend");
}

#[test]
fn noep_01_to_04_an_empty_set_refuses_unless_the_policy_hides_endpoints_elsewhere() {
    let table: [(&str, Vec<Build>, SetWord, SetWord); 5] = [
        ("noep_01 none", vec![], SetWord::REFUSE, SetWord::REFUSE),
        (
            "noep_02, 03 elsewhere",
            vec![endpoint("10.0.0.2").on("there")],
            SetWord::REFUSE,
            SetWord::DROP,
        ),
        (
            "draining elsewhere",
            vec![endpoint("10.0.0.2").draining()],
            SetWord::REFUSE,
            SetWord::DROP,
        ),
        ("noep_04 unready", vec![endpoint("10.0.0.2").down()], SetWord::REFUSE, SetWord::REFUSE),
        ("noep_04 serving", vec![endpoint("10.0.0.2").serving()], SetWord::REFUSE, SetWord::REFUSE),
    ];
    for (what, endpoints, cluster, local) in table {
        let service = Service { external_policy: TrafficPolicy::Local, ..full() };
        let port = compiled(&service, &[slice("a", &["http=80"], endpoints)]).remove(0);
        assert_eq!(
            (port.empty(Role::CLUSTER), port.empty(Role::LOCAL)),
            (cluster, local),
            "{what}"
        );
    }
}

#[test]
fn lb_06_an_address_under_two_headings_is_the_load_balancers() {
    let mut service = full();
    service.external_ips = vec![ip("198.51.100.1"), ip("10.96.0.1")];
    let ports = compiled(&service, &[]);
    assert_eq!(
        claims_of(&ports[0]),
        [
            "ClusterIP 10.96.0.1:80/TCP",
            "LoadBalancer 198.51.100.1:80/TCP",
            "NodePort IPv4 NodePort 30080/TCP",
        ]
    );
}

#[test]
fn a_mapped_address_is_nobodys() {
    let mut service = service("web", &["fd00::1"], &["http=80"]);
    service.external_ips = vec![ip("::ffff:192.0.2.1")];
    assert_eq!(claims_of(&compiled(&service, &[])[0]), ["ClusterIP [fd00::1]:80/TCP"]);
}

#[test]
fn the_flags_say_kind_family_affinity_and_policy() {
    let mut service = Service { external_policy: TrafficPolicy::Local, ..full() };
    service.affinity_secs = Some(10800);
    let port = compiled(&service, &[]).remove(0);
    let affinity = ServiceFlags::AFFINITY;
    assert_eq!(port.flags(FrontendKind::ClusterIp), affinity);
    assert_eq!(
        port.flags(FrontendKind::NodePort),
        ServiceFlags::from(FrontendKind::NodePort) | affinity | ServiceFlags::LOCAL
    );
    service.cluster_ips = vec![ip("fd00::1")];
    assert!(compiled(&service, &[])[0].flags(FrontendKind::ClusterIp).contains(ServiceFlags::IPV6));
}

#[test]
fn names_are_unique_and_fit() {
    let text = |namespace: &str, name: &str, port: &str| {
        let mut service = service(name, &["10.96.0.1"], &[&format!("{port}=80")]);
        service.name = ObjectName::new(namespace, name);
        compiled(&service, &[])[0].owner.name.text.to_string()
    };
    assert_eq!(text("default", "web", "http"), "default/web:http/TCP");
    assert_eq!(text("default", "web", ""), "default/web/TCP");
    assert_ne!(text("a", "b:c", ""), text("a", "b", "c"));
    assert_ne!(text("a", "b/c", ""), text("a/b", "c", ""));
    let long = "x".repeat(80);
    let (one, two) =
        (text(&long, &long, &format!("{long}1")), text(&long, &long, &format!("{long}2")));
    assert_ne!(one, two);
    assert_eq!(one.len(), name::CAPACITY);
    // Pinned: another hash would rename the Services of an agent that is updated.
    assert!(one.ends_with("x~70dc4d830bce3faf"), "{one}");
}

/// The claims of the first and the second port of a Service under some rules.
fn claims_under(rules: Rules) -> [Vec<String>; 2] {
    let mut service = service("web", &["10.96.0.1"], &["http=80", "https=443"]);
    service.external_ips = vec![ip("192.0.2.1")];
    let ports = compile_service(&service, &Slices::default(), &node("here", ""), rules);
    [claims_of(&ports[0]), claims_of(&ports[1])]
}

#[test]
fn cip_04_the_first_port_has_what_says_that_the_cluster_ip_is_one() {
    let [first, second] = claims_under(Rules::NFTABLES);
    assert_eq!(
        first,
        ["ClusterIP 10.96.0.1:0/0", "ClusterIP 10.96.0.1:80/TCP", "ExternalIP 192.0.2.1:80/TCP"]
    );
    assert_eq!(second, ["ClusterIP 10.96.0.1:443/TCP", "ExternalIP 192.0.2.1:443/TCP"]);
}

#[test]
fn xip_04_external_ips_can_be_switched_off() {
    let [first, second] = claims_under(Rules { external_ips: false, ..Rules::default() });
    assert_eq!(first, ["ClusterIP 10.96.0.1:80/TCP"]);
    assert_eq!(second, ["ClusterIP 10.96.0.1:443/TCP"]);
}
