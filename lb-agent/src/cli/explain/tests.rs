// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `explain` says of the golden clusters.

use lb_common::{
    addr::Addr,
    affinity::{AffinityKey, AffinityPin},
};

use super::*;
use crate::{
    datapath::fake::Fake, model::rules::Rules, plan::tables::Tables, reconcile::Reconciler,
    source::read_manifest,
};

/// The maps of a cluster, as node-1 has them.
fn tables(manifest: &str) -> Tables {
    let (changes, _) = read_manifest(manifest, "node-1").unwrap();
    let mut reconciler = Reconciler::new(Fake::new(1)).with_rules(Rules::NFTABLES);
    reconciler.take(changes);
    reconciler.sync().unwrap();
    reconciler.datapath().tables.clone()
}

fn ask(tables: &Tables, target: &str, from: &str) -> String {
    ask_with(tables, &[], target, from)
}

fn ask_with(
    tables: &Tables,
    pins: &[(AffinityKey, AffinityPin)],
    target: &str,
    from: &str,
) -> String {
    ask_by(Way::Socket, tables, pins, target, from)
}

/// From outside, by a device.
fn ask_outside(tables: &Tables, target: &str, from: &str) -> String {
    ask_by(Way::Outside { devices: vec!["eth0".to_owned()] }, tables, &[], target, from)
}

fn ask_by(
    way: Way,
    tables: &Tables,
    pins: &[(AffinityKey, AffinityPin)],
    target: &str,
    from: &str,
) -> String {
    let own: IpAddr = "192.168.50.11".parse().unwrap();
    let scene = Scene {
        tables,
        pins,
        way,
        own: (own.into(), Addr::ZERO),
        is_here: &|_| false,
        flows: Vec::new(),
        now_ns: 1,
    };
    explain(&scene, target.parse().unwrap(), from.parse().unwrap()).to_string()
}

#[test]
fn a_cluster_ip_has_its_service_policy_and_backends() {
    let answer = ask(&tables(CLUSTER_IP), "10.96.0.1:80", "pod");
    assert_eq!(
        answer,
        "10.96.0.1:80/TCP: goes to one of 2 backends of default/web:http/TCP; the client goes on seeing 10.96.0.1:80 as its peer
  path       its socket is translated, no packet (SOC-06)
  frontend   ClusterIP of default/web:http/TCP (CIP-01)
  policy     internalTrafficPolicy Cluster: endpoints of all nodes (TRP-10)
  backend    10.244.1.10:8080 active
  backend    10.244.2.10:8080 active"
    );
}

#[test]
fn a_refusal_and_a_silence_name_their_rules() {
    let refused = ask(&tables(NO_ENDPOINTS), "10.96.0.2:80/tcp", "pod");
    assert!(refused.contains("is refused: default/unready:http/TCP has no endpoint"), "{refused}");
    let silent = ask(&tables(NONE_HERE), "10.96.0.1:80", "pod");
    assert!(silent.contains("gets no answer") && silent.contains("TRP-11"), "{silent}");
}

#[test]
fn an_address_that_is_nobodys_says_what_comes_closest() {
    let tables = tables(NODE_PORT);
    for (target, from, part) in [
        ("10.96.0.99:80", "pod", "no Service has this address and port (SOC-10)"),
        ("10.96.0.99:80", "pod", "no load balancer address with ipMode Proxy"),
        ("192.168.50.12:30080", "pod", "not one of this node's NodePort addresses (NP-07)"),
        ("192.168.50.12:30080", "pod", "answer on 127.0.0.1, 192.168.50.11"),
        ("127.0.0.1:30080", "pod", "loopback in a pod is the pod, not the node (NP-05)"),
    ] {
        let answer = ask(&tables, target, from);
        assert!(answer.contains("passes untouched") && answer.contains(part), "{answer}");
    }
}

#[test]
fn cip_04_cip_05_what_goes_to_where_cluster_ips_are_says_why() {
    let tables = tables(SERVICE_CIDR);
    for (target, parts) in [
        (
            "10.96.0.1:81",
            &["is refused: 10.96.0.1 is a ClusterIP", "this address serves 80/TCP (CIP-04)"],
        ),
        ("10.96.0.1:80/UDP", &["is refused:", "not with this port and protocol (CIP-04)"]),
        ("10.96.0.1:30080", &["is refused:", "(CIP-04)"]),
        ("10.96.7.7:80", &["gets no answer: 10.96.7.7 is in ServiceCIDR 10.96.0.0/16", "(SVC-02)"]),
        ("10.97.0.1:80", &["passes untouched", "ClusterIPs are in 10.96.0.0/16, fd00:10:96::/112"]),
        ("10.100.0.1:81", &["is refused:", "(CIP-04)"]),
        ("10.100.0.2:81", &["passes untouched", "(SOC-10)"]),
    ] {
        let answer = ask(&tables, target, "pod");
        for part in parts {
            assert!(answer.contains(part), "{part:?} is not in {answer}");
        }
    }
}

#[test]
fn lb_06_the_range_that_admits_is_named_and_so_is_the_lack_of_one() {
    let tables = tables(SOURCE_RANGES);
    for (from, parts) in [
        ("10.1.2.3", &["goes to one of 2", "10.0.0.0/8 admits this client (LB-06)"]),
        (
            "172.16.0.1",
            &[
                "gets no answer: 172.16.0.1 is in none",
                "only clients in 10.0.0.0/8, 192.168.50.0/24",
            ],
        ),
        ("host", &["goes to one of 2", "a range admits this node's address"]),
        ("203.0.113.10", &["goes to one of 2", "(LB-09)"]),
        (
            "pod",
            &[
                "for a pod in the ranges below: goes to one of 2",
                "only clients in 10.0.0.0/8, 192.168.50.0/24 are admitted",
            ],
        ),
    ] {
        let answer = ask(&tables, "203.0.113.10:80", from);
        for part in parts {
            assert!(answer.contains(part), "{part:?} is not in {answer}");
        }
    }
}

#[test]
fn a_node_port_is_found_on_the_nodes_addresses_and_for_its_processes_on_loopback() {
    let tables = tables(NODE_PORT);
    for (target, from) in [("192.168.50.11:30080", "pod"), ("127.0.0.1:30080", "host")] {
        let answer = ask(&tables, target, from);
        assert!(answer.contains("NodePort of default/web:http/TCP (NP-01)"), "{answer}");
    }
}

#[test]
fn a_pinned_client_is_told_its_backend() {
    let tables = tables(AFFINITY);
    let id = tables.names.keys().copied().next().unwrap();
    let (backend, record) = tables.backends.iter().last().unwrap();
    let client: IpAddr = "10.244.1.77".parse().unwrap();
    let key = AffinityKey::new(client.into(), id);
    let generation = record.life.generation;
    let pin = AffinityPin { backend, generation, last_seen_ns: 0 };
    let answer = ask_with(&tables, &[(key, pin)], "10.96.0.1:80", "10.244.1.77");
    let expected = format!(
        "goes to {}:8080 of default/web:http/TCP, where this client is pinned",
        record.address
    );
    assert!(answer.contains(&expected), "{answer}");
    assert!(answer.contains("ClientIP, 600 s after the last connection (AFF-02)"), "{answer}");
}

/// TRP-12, TRP-13, MSQ-03: by which device, from which set, and as whom the client is seen.
#[test]
fn a_client_outside_is_told_its_device_set_and_address() {
    let answer = ask_outside(&tables(NODE_PORT), "192.168.50.11:30080", "203.0.113.9");
    assert_eq!(
        answer,
        "192.168.50.11:30080/TCP from 203.0.113.9, at device eth0: goes to one of 2 backends of default/web:http/TCP; 1 of them on this node, which sees the client's own address, all others this node's 192.168.50.11 (TRP-12)
  path       packets of a client outside, at device eth0, by which this node reaches it (TRP-18)
  frontend   NodePort of default/web:http/TCP (NP-01)
  policy     externalTrafficPolicy Cluster: endpoints of all nodes (TRP-12)
  backend    10.244.1.10:8080 active, on this node, sees the client's own address
  backend    10.244.2.10:8080 active, on another node, sees 192.168.50.11"
    );
    let local = ask_outside(&tables(POLICY_LOCAL), "192.168.50.11:30080", "203.0.113.9:40000");
    for part in [
        "at device eth0: goes to 10.244.1.10:8080 of default/web:http/TCP, its only backend; the backend sees the client's own address",
        "externalTrafficPolicy Local: endpoints of this node only (TRP-13)",
    ] {
        assert!(local.contains(part), "{part:?} is not in {local}");
    }
    let routed = ask_outside(&tables(CLUSTER_IP), "10.96.0.1:80", "203.0.113.9");
    assert!(routed.contains("192.168.50.11 (CIP-03)"), "{routed}");
}

/// Whoever is refused or dropped reads why in the first line, with the rule.
#[test]
fn noep_03_what_a_client_outside_is_not_given_is_in_the_first_line() {
    for (manifest, target, from, parts) in [
        (SOURCE_RANGES, "203.0.113.10:80", "172.16.0.1", ["172.16.0.1 is in none", "(LB-06)"]),
        (SOURCE_RANGES, "203.0.113.10:80", "outside", ["for a client in the ranges", "goes to"]),
        (SERVICE_CIDR, "10.96.0.1:81", "203.0.113.9", ["is refused", "(CIP-04)"]),
        (SERVICE_CIDR, "10.96.7.7:80", "203.0.113.9", ["gets no answer", "(CIP-05)"]),
        (NODE_PORT, "192.168.50.12:30080", "203.0.113.9", ["passes untouched", "(NP-07)"]),
        (NO_ENDPOINTS, "10.96.0.2:80", "outside", ["is refused", "(NOEP-01)"]),
        (POLICY_LOCAL, "192.168.50.11:30081", "outside", ["gets no answer", "(NOEP-03)"]),
        (NONE_HERE, "10.96.0.1:80", "203.0.113.9", ["gets no answer", "(NOEP-02)"]),
    ] {
        let answer = ask_outside(&tables(manifest), target, from);
        let first = answer.lines().next().unwrap();
        for part in parts {
            assert!(first.contains(part), "{part:?} is not in {answer}");
        }
    }
}

/// SVC-11: with a port the very backend is told, which is the table's; without one, that there
/// is a table; a socket picks by chance.
#[test]
fn svc_11_maglev_tells_the_very_backend_of_an_address_and_port() {
    let tables =
        tables(&MAGLEV.replace("externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster"));
    let mut seen = std::collections::BTreeSet::new();
    for port in 40_000..40_050 {
        let answer = ask_outside(&tables, "203.0.113.10:80", &format!("203.0.113.9:{port}"));
        let again = ask_outside(&tables, "192.168.50.11:30080", &format!("203.0.113.9:{port}"));
        assert!(
            answer.contains("which Maglev has for this client on every node (SVC-11), out of 3")
        );
        let backend = |answer: &str| {
            answer.split("goes to ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
        };
        assert_eq!(backend(&answer), backend(&again), "whatever frontend");
        seen.insert(backend(&answer));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    let answer = ask_outside(&tables, "203.0.113.10:80", "203.0.113.9");
    assert!(answer.contains("goes to one of 3 backends"), "{answer}");
    let answer = ask(&tables, "203.0.113.10:80", "10.244.1.7:40000");
    assert!(answer.contains("goes to one of 3 backends"), "{answer}");
}

/// SOC-12, SOC-13, HPN-02: what no hook sees, and a marked pod that may meet itself.
#[test]
fn soc_12_sctp_is_for_packets_and_a_marked_pod_sees_the_node_where_it_meets_itself() {
    let tables = tables(&CLUSTER_IP.replace("protocol: TCP", "protocol: SCTP"));
    let answer = ask(&tables, "10.96.0.1:80/SCTP", "pod");
    assert!(
        answer.contains("passes untouched: the kernel runs no hook at an SCTP socket (SOC-12)")
    );
    let way = Way::Pod { devices: vec!["veth7".to_owned()] };
    let answer = ask_by(way, &tables, &[], "10.96.0.1:80/SCTP", "10.244.1.10");
    for part in [
        "from 10.244.1.10, at device veth7: goes to one of 2",
        "10.244.1.10:8080 active, on this node, sees 192.168.50.11",
        "10.244.2.10:8080 active, on another node, sees the client's own address",
    ] {
        assert!(answer.contains(part), "{part:?} is not in {answer}");
    }
    let way = Way::Nowhere { reason: "passes untouched: no program is at eth7".to_owned() };
    let answer = ask_by(way, &tables, &[], "10.96.0.1:80/SCTP", "203.0.113.9");
    assert!(answer.contains("/SCTP: passes untouched: no program is at eth7"), "{answer}");
}

const CLUSTER_IP: &str = include_str!("../../../../tests/golden/clusterip/cluster.yaml");
const NO_ENDPOINTS: &str = include_str!("../../../../tests/golden/no-endpoints/cluster.yaml");
const NONE_HERE: &str =
    include_str!("../../../../tests/golden/internal-policy-local-none-here/cluster.yaml");
const NODE_PORT: &str = include_str!("../../../../tests/golden/nodeport/cluster.yaml");
const SERVICE_CIDR: &str = include_str!("../../../../tests/golden/service-cidr/cluster.yaml");
const SOURCE_RANGES: &str = include_str!("../../../../tests/golden/source-ranges/cluster.yaml");
const POLICY_LOCAL: &str =
    include_str!("../../../../tests/golden/external-policy-local/cluster.yaml");
const MAGLEV: &str = include_str!("../../../../tests/golden/maglev/cluster.yaml");
const AFFINITY: &str = include_str!("../../../../tests/golden/session-affinity/cluster.yaml");
