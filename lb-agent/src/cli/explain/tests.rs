// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `explain` says of the golden clusters.

use lb_common::affinity::{AffinityKey, AffinityPin};

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
    explain(tables, pins, target.parse().unwrap(), from.parse().unwrap(), 1).to_string()
}

#[test]
fn a_cluster_ip_has_its_service_policy_and_backends() {
    let answer = ask(&tables(CLUSTER_IP), "10.96.0.1:80", "pod");
    assert_eq!(
        answer,
        "10.96.0.1:80/TCP: goes to one of 2 backends of default/web:http/TCP; the client goes on seeing 10.96.0.1:80 as its peer
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
    let client: std::net::IpAddr = "10.244.1.77".parse().unwrap();
    let key = AffinityKey::new(client.into(), id);
    let generation = record.life.generation;
    let pin = AffinityPin { backend, generation, last_seen_ns: 0 };
    let answer = ask_with(&tables, &[(key, pin)], "10.96.0.1:80", "10.244.1.77");
    let expected = format!("goes to {}:8080, where this client is pinned", record.address);
    assert!(answer.contains(&expected), "{answer}");
    assert!(answer.contains("ClientIP, 600 s after the last connection (AFF-02)"), "{answer}");
}

const CLUSTER_IP: &str = include_str!("../../../../tests/golden/clusterip/cluster.yaml");
const NO_ENDPOINTS: &str = include_str!("../../../../tests/golden/no-endpoints/cluster.yaml");
const NONE_HERE: &str =
    include_str!("../../../../tests/golden/internal-policy-local-none-here/cluster.yaml");
const NODE_PORT: &str = include_str!("../../../../tests/golden/nodeport/cluster.yaml");
const SERVICE_CIDR: &str = include_str!("../../../../tests/golden/service-cidr/cluster.yaml");
const SOURCE_RANGES: &str = include_str!("../../../../tests/golden/source-ranges/cluster.yaml");
const AFFINITY: &str = include_str!("../../../../tests/golden/session-affinity/cluster.yaml");
