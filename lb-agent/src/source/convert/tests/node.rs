// SPDX-License-Identifier: Apache-2.0 OR MIT
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};

use super::told;
use crate::source::convert::node;

fn node_of(object: Value) -> core::Node {
    serde_json::from_value(object).unwrap()
}

fn labelled(labels: &Value) -> core::Node {
    node_of(json!({"metadata": {"name": "n1", "labels": labels}}))
}

#[test]
fn nod_02_only_the_zone_label_counts() {
    let zone = |labels| node(&labelled(&labels)).node.zone;
    assert_eq!(
        zone(json!({"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "r"})),
        Some("a".into())
    );
    assert_eq!(zone(json!({"failure-domain.beta.kubernetes.io/zone": "a"})), None);
}

#[test]
fn top_07_an_empty_zone_is_none() {
    assert_eq!(node(&labelled(&json!({"topology.kubernetes.io/zone": ""}))).node.zone, None);
}

#[test]
fn np_03_internal_addresses_come_before_external_ones() {
    let object = node_of(json!({"metadata": {"name": "n1"}, "status": {"addresses": [
        {"type": "ExternalIP", "address": "203.0.113.1"},
        {"type": "Hostname", "address": "n1"},
        {"type": "InternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "nonsense"},
        {"type": "InternalIP", "address": "2001:db8::1"},
    ]}}));
    let found = node(&object);
    let addresses: Vec<_> = found.node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.1", "2001:db8::1", "203.0.113.1"]);
    assert_eq!(
        told(&found.issues),
        ["Node n1: status.addresses[3]: \"nonsense\" is not an IP address; ignored (COL-05)"]
    );
}

#[test]
fn hlz_05_a_node_that_is_about_to_go_is_not_eligible() {
    let eligible = |object| node(&node_of(object)).node.eligible;
    assert!(eligible(json!({"metadata": {"name": "n1"}})));
    assert!(eligible(json!({"metadata": {"name": "n1"}, "spec": {
        "unschedulable": true,
        "taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}],
    }})));
    let taint = json!({"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"});
    assert!(!eligible(json!({"metadata": {"name": "n1"}, "spec": {"taints": [taint]}})));
    let deleted = json!({"name": "n1", "deletionTimestamp": "2026-01-02T03:04:05Z"});
    assert!(!eligible(json!({"metadata": deleted})));
}
