// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{service_of, told};
use crate::{
    model::{
        Family, Protocol,
        service::{Choice, Forwarding, Service, TrafficPolicy},
    },
    source::convert::{default_service, service},
};

/// The Service of a patch that must be proxied without an issue.
fn clean(patch: Value) -> Service {
    let object = service(&service_of(patch));
    assert_eq!(object.issues, []);
    object.value.unwrap()
}

/// The Service of a patch, and what was told of it.
fn with_issues(patch: Value) -> (Service, Vec<String>) {
    let object = service(&service_of(patch));
    (object.value.unwrap(), told(&object.issues))
}

/// Asserts that the Service of a patch is not proxied, without an issue.
fn assert_ignored(patch: Value) {
    let object = service(&service_of(patch));
    assert_eq!((object.value, object.issues), (None, Vec::new()));
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn svc_02_the_proxy_name_label_opts_out_whatever_its_value() {
    for value in ["other", ""] {
        let labels = json!({"service.kubernetes.io/service-proxy-name": value});
        assert_ignored(json!({"metadata": {"labels": labels}}));
    }
}

#[test]
fn svc_03_the_headless_label_does_not_count_on_a_service() {
    clean(json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}}));
}

#[test]
fn svc_04_no_cluster_ip_is_not_proxied_even_with_external_addresses() {
    for none in [json!("None"), json!(""), json!(null)] {
        assert_ignored(json!({"spec": {"clusterIP": none, "externalIPs": ["192.0.2.1"]}}));
    }
    assert_ignored(json!({"spec": null}));
}

#[test]
fn svc_05_external_name_is_not_proxied_even_with_a_cluster_ip() {
    assert_ignored(json!({"spec": {"type": "ExternalName", "externalName": "example.org"}}));
}

#[test]
fn svc_06_node_ports_external_ips_and_ingress_count_in_any_type() {
    let service = clean(json!({
        "spec": {
            "externalIPs": ["192.0.2.1"],
            "ports": [{"port": 80, "nodePort": 30080}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
    }));
    assert_eq!(service.external_ips, addresses(&["192.0.2.1"]));
    assert_eq!(service.load_balancer_ips, addresses(&["203.0.113.1"]));
    assert_eq!(service.ports[0].node_port.map(u16::from), Some(30080));
}

#[test]
fn svc_07_what_the_proxy_does_not_read_changes_nothing() {
    let annotations =
        json!({"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8"});
    let service = clean(json!({
        "metadata": {"annotations": annotations},
        "spec": {
            "selector": {"app": "x"},
            "publishNotReadyAddresses": true,
            "trafficDistribution": "PreferClose",
            "loadBalancerIP": "203.0.113.9",
            "ports": [{
                "name": "http", "protocol": "TCP", "port": 80,
                "targetPort": "web", "appProtocol": "h2c",
            }],
        },
    }));
    assert_eq!(service, clean(json!({})));
}

const fn maglev(length: Option<u32>, forwarding: Forwarding) -> Choice {
    Choice::Maglev { length, forwarding }
}

/// SVC-12: how packets get to other nodes' endpoints, too.
#[test]
fn svc_11_an_annotation_chooses_how_endpoints_are_picked() {
    let table = [
        (json!({}), Choice::Random),
        (json!({"sluice.dev/algorithm": "random"}), Choice::Random),
        (json!({"sluice.dev/maglev-table-size": "65521"}), Choice::Random),
        (json!({"sluice.dev/forwarding": "snat"}), Choice::Random),
        (json!({"sluice.dev/algorithm": "maglev"}), maglev(None, Forwarding::Snat)),
        (
            json!({"sluice.dev/algorithm": "maglev", "sluice.dev/maglev-table-size": "65521"}),
            maglev(Some(65_521), Forwarding::Snat),
        ),
        (
            json!({"sluice.dev/algorithm": "maglev", "sluice.dev/forwarding": "direct"}),
            maglev(None, Forwarding::Direct),
        ),
    ];
    for (annotations, choice) in table {
        let service = clean(json!({"metadata": {"annotations": annotations}}));
        assert_eq!(service.choice, choice, "{annotations}");
    }
}

#[test]
fn svc_11_an_annotation_that_cannot_be_is_an_issue_with_what_can() {
    let table = [
        (json!({"sluice.dev/algorithm": "Maglev"}), Choice::Random),
        (json!({"sluice.dev/algorithm": ""}), Choice::Random),
        (
            json!({"sluice.dev/algorithm": "maglev", "sluice.dev/maglev-table-size": "1000"}),
            maglev(None, Forwarding::Snat),
        ),
        (
            json!({"sluice.dev/algorithm": "maglev", "sluice.dev/forwarding": "dsr"}),
            maglev(None, Forwarding::Snat),
        ),
        (json!({"sluice.dev/forwarding": "direct"}), Choice::Random),
    ];
    let mut lines = Vec::new();
    for (annotations, choice) in table {
        let (service, told) = with_issues(json!({"metadata": {"annotations": annotations}}));
        assert_eq!(service.choice, choice, "{annotations}");
        lines.extend(told);
    }
    let wrong = "Service default/web: metadata.annotations[sluice.dev/";
    assert_eq!(
        lines,
        [
            format!("{wrong}algorithm]: \"Maglev\" is none of random, maglev; ignored"),
            format!("{wrong}algorithm]: \"\" is none of random, maglev; ignored"),
            format!(
                "{wrong}maglev-table-size]: \"1000\" is none of 2039, 8191, 32749, 65521, 131071; ignored"
            ),
            format!("{wrong}forwarding]: \"dsr\" is none of snat, direct; ignored"),
            format!(
                "{wrong}forwarding]: direct forwarding needs the annotation sluice.dev/algorithm: maglev, by which all nodes choose alike; ignored (SVC-12)"
            ),
        ]
    );
}

#[test]
fn svc_09_a_service_without_ports_has_none() {
    for none in [json!([]), json!(null)] {
        assert_eq!(clean(json!({"spec": {"ports": none}})).ports, []);
    }
}

#[test]
fn svc_10_one_number_may_serve_each_protocol() {
    let service = clean(json!({"spec": {"ports": [
        {"name": "t", "protocol": "TCP", "port": 53, "nodePort": 30053},
        {"name": "u", "protocol": "UDP", "port": 53, "nodePort": 30053},
        {"name": "s", "protocol": "SCTP", "port": 53},
    ]}}));
    let found: Vec<_> = service.ports.iter().map(|it| (it.protocol, it.port.get())).collect();
    assert_eq!(found, [(Protocol::TCP, 53), (Protocol::UDP, 53), (Protocol::SCTP, 53)]);
}

#[test]
fn fam_02_a_family_has_the_address_at_its_index_whatever_the_order() {
    let service = clean(json!({"spec": {
        "clusterIP": "fd00::1",
        "clusterIPs": ["fd00::1", "10.96.0.1"],
        "ipFamilies": ["IPv6", "IPv4"],
    }}));
    assert_eq!(service.cluster_ip(Family::V4), Some("10.96.0.1".parse().unwrap()));
    assert_eq!(service.cluster_ip(Family::V6), Some("fd00::1".parse().unwrap()));
}

#[test]
fn fam_02_without_families_only_cluster_ip_counts() {
    let service = clean(json!({"spec": {
        "clusterIP": "fd00::1",
        "clusterIPs": ["fd00::1", "10.96.0.1"],
        "ipFamilies": null,
    }}));
    assert_eq!(service.cluster_ips, addresses(&["fd00::1"]));
}

#[test]
fn fam_02_a_family_without_an_address_of_its_own_is_not_served() {
    let (service, told) = with_issues(json!({"spec": {
        "clusterIPs": ["10.96.0.1", "10.96.0.2"],
        "ipFamilies": ["IPv4", "IPv6"],
    }}));
    assert_eq!(service.cluster_ips, addresses(&["10.96.0.1"]));
    assert_eq!(
        told,
        [
            "Service default/web: spec.clusterIPs[1]: 10.96.0.2 is not of the family that the object \
          names for it; ignored (COL-07)"
        ]
    );
    let clean = clean(json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}));
    assert_eq!(clean.cluster_ips, addresses(&["10.96.0.1"]));
}

#[test]
fn fam_07_addresses_and_ranges_of_stored_objects_are_read_leniently() {
    let service = clean(json!({
        "spec": {
            "clusterIP": "010.096.0.01",
            "clusterIPs": ["010.096.0.01"],
            "externalIPs": ["192.000.002.001", "192.0.2.1", "::ffff:192.0.2.7"],
            "loadBalancerSourceRanges": ["010.1.2.3/08"],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.000.113.001"}]}},
    }));
    assert_eq!(service.cluster_ips, addresses(&["10.96.0.1"]));
    assert_eq!(service.external_ips, addresses(&["192.0.2.1", "192.0.2.7"]));
    assert_eq!(service.load_balancer_ips, addresses(&["203.0.113.1"]));
    assert_eq!(service.source_ranges, ["10.0.0.0/8".parse().unwrap()]);
}

#[test]
fn trp_07_anything_but_local_is_cluster() {
    let policy = |value: Value| clean(json!({"spec": {"internalTrafficPolicy": value}}));
    assert_eq!(policy(json!("Local")).internal_policy, TrafficPolicy::Local);
    for other in [json!(null), json!("Cluster"), json!("local"), json!("")] {
        assert_eq!(policy(other).internal_policy, TrafficPolicy::Cluster);
    }
}

#[test]
fn trp_08_external_local_counts_only_where_clients_come_from_outside() {
    let policy = |kind: &str, external_ips: &[&str]| {
        let spec =
            json!({"type": kind, "externalIPs": external_ips, "externalTrafficPolicy": "Local"});
        clean(json!({"spec": spec})).external_policy
    };
    assert_eq!(policy("LoadBalancer", &[]), TrafficPolicy::Local);
    assert_eq!(policy("NodePort", &[]), TrafficPolicy::Local);
    assert_eq!(policy("ClusterIP", &["192.0.2.1"]), TrafficPolicy::Local);
    assert_eq!(policy("ClusterIP", &[]), TrafficPolicy::Cluster);
}

#[test]
fn aff_01_client_ip_affinity_carries_its_timeout() {
    let affinity = |kind: &str, secs: Value| {
        let config = json!({"clientIP": {"timeoutSeconds": secs}});
        let spec = json!({"sessionAffinity": kind, "sessionAffinityConfig": config});
        with_issues(json!({"spec": spec}))
    };
    assert_eq!(affinity("ClientIP", json!(60)).0.affinity_secs, Some(60));
    assert_eq!(affinity("ClientIP", json!(86400)).0.affinity_secs, Some(86400));
    assert_eq!(affinity("None", json!(60)).0.affinity_secs, None);
    for nonsense in [0, -1, 86401] {
        let (service, told) = affinity("ClientIP", json!(nonsense));
        assert_eq!(service.affinity_secs, Some(10800));
        assert!(told[0].contains("timeoutSeconds: timeout"), "{told:?}");
    }
}

#[test]
fn col_06_affinity_without_its_configuration_has_the_default() {
    for config in [json!(null), json!({}), json!({"clientIP": {}})] {
        let spec = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
        assert_eq!(clean(json!({"spec": spec})).affinity_secs, Some(10800));
    }
}

#[test]
fn xip_03_an_unreadable_external_ip_is_told_and_an_empty_one_is_not() {
    let (service, told) =
        with_issues(json!({"spec": {"externalIPs": ["", "nonsense", "192.0.2.1"]}}));
    assert_eq!(service.external_ips, addresses(&["192.0.2.1"]));
    assert_eq!(
        told,
        ["Service default/web: spec.externalIPs[1]: \"nonsense\" is not an IP address; ignored \
          (COL-05)"]
    );
}

#[test]
fn col_08_addresses_that_every_host_has_are_not_taken() {
    let texts = ["0.0.0.0", "127.0.0.1", "169.254.169.254", "::1", "fe80::1", "192.0.2.1"];
    let (service, told) = with_issues(json!({"spec": {"externalIPs": texts}}));
    assert_eq!(service.external_ips, addresses(&["192.0.2.1"]));
    assert_eq!(told.len(), 5);
}

#[test]
fn lb_01_to_04_only_ingress_addresses_in_vip_mode_are_frontends() {
    let service = clean(json!({
        "spec": {"type": "LoadBalancer", "loadBalancerIP": "203.0.113.99"},
        "status": {"loadBalancer": {"ingress": [
            {"ip": "203.0.113.1"},
            {"ip": "203.0.113.2", "ipMode": "VIP", "ports": [{"port": 1, "protocol": "TCP"}]},
            {"ip": "203.0.113.3", "ipMode": "Proxy"},
            {"hostname": "lb.example.org"},
            {"ip": "2001:db8::1"},
        ]}},
    }));
    let expected = addresses(&["203.0.113.1", "203.0.113.2", "2001:db8::1"]);
    assert_eq!(service.load_balancer_ips, expected);
}

#[test]
fn lb_07_ranges_are_trimmed_invalid_ones_told_and_zero_lifts_its_family() {
    let ranges = |texts: &[&str]| {
        let (service, told) = with_issues(json!({"spec": {"loadBalancerSourceRanges": texts}}));
        let found: Vec<_> = service.source_ranges.iter().map(ToString::to_string).collect();
        (found.join(" "), told.len())
    };
    assert_eq!(ranges(&[" 10.0.0.0/8 ", "\tfd00::/8"]), ("10.0.0.0/8 fd00::/8".to_owned(), 0));
    assert_eq!(ranges(&["10.0.0.0/8", "nonsense", "10.1.0.0"]), ("10.0.0.0/8".to_owned(), 2));
    assert_eq!(ranges(&["10.0.0.0/8", "fd00::/8", "0.0.0.0/0"]), ("fd00::/8".to_owned(), 0));
    assert_eq!(ranges(&["10.0.0.0/8", "::/0"]), ("10.0.0.0/8".to_owned(), 0));
}

#[test]
fn hcn_01_the_health_check_port_counts_for_load_balancers_with_policy_local() {
    let port = |kind: &str, policy: &str, port: i32| {
        let spec = json!({
            "type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": port,
        });
        clean(json!({"spec": spec})).health_check_node_port.map(u16::from)
    };
    assert_eq!(port("LoadBalancer", "Local", 32000), Some(32000));
    assert_eq!(port("LoadBalancer", "Local", 0), None);
    assert_eq!(port("LoadBalancer", "Cluster", 32000), None);
    assert_eq!(port("NodePort", "Local", 32000), None);
}

#[test]
fn col_01_ports_that_repeat_another_are_told_and_the_first_is_served() {
    let (service, told) = with_issues(json!({"spec": {"ports": [
        {"name": "a", "port": 80, "nodePort": 30080},
        {"name": "a", "port": 81},
        {"name": "b", "port": 80},
        {"name": "c", "port": 82, "nodePort": 30080},
    ]}}));
    let found: Vec<_> = service.ports.iter().map(|it| (&*it.name, it.node_port)).collect();
    assert_eq!(found.iter().map(|it| it.0).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(found[1].1, None);
    let fields: Vec<_> = told.iter().map(|it| it.split(": ").nth(1).unwrap()).collect();
    assert_eq!(fields, ["spec.ports[1]", "spec.ports[2]", "spec.ports[3].nodePort"]);
}

#[test]
fn svc_09_bad_ports_are_told_and_their_siblings_work() {
    let (service, told) = with_issues(json!({"spec": {"ports": [
        {"name": "zero", "port": 0},
        {"name": "big", "port": 65536},
        {"name": "negative", "port": -1},
        {"name": "icmp", "port": 1, "protocol": "ICMP"},
        {"name": "node", "port": 2, "nodePort": 70000},
        {"name": "good", "port": 3},
    ]}}));
    let found: Vec<_> = service.ports.iter().map(|it| &*it.name).collect();
    assert_eq!(found, ["node", "good"]);
    assert_eq!(told.len(), 5);
    assert_eq!(
        told[3],
        "Service default/web: spec.ports[3].protocol: protocol \"ICMP\" is not TCP, UDP or SCTP; \
         this port is not served"
    );
}

#[test]
fn twenty_thousand_ports_are_told_once_and_the_first_ten_thousand_served() {
    let ports: Vec<_> =
        (1..=20_000).map(|at| json!({"name": at.to_string(), "port": at})).collect();
    let (service, told) = with_issues(json!({"spec": {"ports": ports}}));
    assert_eq!(service.ports.len(), 10_000);
    let expected = "Service default/web: spec.ports: has 20000 entries, more than 10000; the rest \
                    is ignored (EPS-11)";
    assert_eq!(told, [expected]);
}

#[test]
fn many_issues_of_one_object_are_told_by_the_first_and_a_count() {
    let ports: Vec<_> = (0..100).map(|_| json!({"port": 0})).collect();
    let (_, told) = with_issues(json!({"spec": {"ports": ports}}));
    assert_eq!(told.len(), 21);
    assert!(told[20].contains("80 more of its values are ignored"), "{}", told[20]);
}

#[test]
fn a_service_without_a_name_is_told() {
    let object = service(&service_of(json!({"metadata": {"name": null}})));
    assert_eq!(object.value, None);
    assert_eq!(object.issues.len(), 1);
}

#[test]
fn defaults_fill_what_the_api_server_would_have() {
    let mut object = service_of(json!({
        "metadata": {"namespace": null},
        "spec": {"clusterIP": null, "clusterIPs": ["fd00::1", "10.96.0.1"], "ipFamilies": null},
    }));
    default_service(&mut object);
    let found = service(&object).value.unwrap();
    assert_eq!(found.name.to_string(), "default/web");
    assert_eq!(found.cluster_ips, addresses(&["fd00::1", "10.96.0.1"]));

    let spec = json!({"clusterIP": "10.96.0.7", "clusterIPs": null, "ipFamilies": null});
    let mut object = service_of(json!({"spec": spec}));
    default_service(&mut object);
    assert_eq!(service(&object).value.unwrap().cluster_ips, addresses(&["10.96.0.7"]));
}

#[test]
fn col_02_the_time_of_creation_tells_the_elder() {
    let service = clean(json!({"metadata": {"creationTimestamp": "2026-01-02T03:04:05Z"}}));
    assert_eq!(service.created_secs, 1_767_323_045);
    assert_eq!(clean(json!({})).created_secs, 0);
}
