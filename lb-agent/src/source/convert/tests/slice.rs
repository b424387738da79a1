// SPDX-License-Identifier: Apache-2.0 OR MIT
use serde_json::{Value, json};

use super::{slice_of, told};
use crate::{
    model::{
        Family, ObjectName, Protocol,
        endpoint::{Conditions, EndpointSlice},
    },
    source::convert::{default_slice, slice},
};

/// The slice of a patch that must be used without an issue.
fn clean(patch: Value) -> EndpointSlice {
    let object = slice(&slice_of(patch));
    assert_eq!(object.issues, []);
    object.value.unwrap()
}

/// The slice of a patch, and what was told of it.
fn with_issues(patch: Value) -> (EndpointSlice, Vec<String>) {
    let object = slice(&slice_of(patch));
    (object.value.unwrap(), told(&object.issues))
}

fn assert_ignored(patch: Value) {
    let object = slice(&slice_of(patch));
    assert_eq!((object.value, object.issues), (None, Vec::new()));
}

fn addresses(slice: &EndpointSlice) -> Vec<String> {
    slice.endpoints.iter().map(|it| it.address.to_string()).collect()
}

#[test]
fn eps_01_the_headless_label_withdraws_a_slice_whatever_its_value() {
    for value in ["true", ""] {
        assert_ignored(json!({"metadata": {"labels": {"service.kubernetes.io/headless": value}}}));
    }
}

#[test]
fn eps_02_a_slice_belongs_to_the_service_of_its_label_in_its_own_namespace() {
    let slice = clean(json!({"metadata": {
        "namespace": "blue",
        "labels": {"endpointslice.kubernetes.io/managed-by": "by-hand"},
    }}));
    assert_eq!(slice.service, ObjectName::new("blue", "web"));
    for none in [json!(null), json!("")] {
        assert_ignored(json!({"metadata": {"labels": {"kubernetes.io/service-name": none}}}));
    }
}

#[test]
fn fam_05_slices_of_host_names_are_ignored_without_an_issue() {
    assert_ignored(json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]}));
    assert_eq!(clean(json!({})).family, Family::V4);
    let object = slice(&slice_of(json!({"addressType": "IPv5"})));
    assert_eq!((object.value, object.issues.len()), (None, 1));
}

#[test]
fn eps_06_ports_without_name_or_number_are_skipped_and_the_others_count() {
    let slice = clean(json!({"ports": [
        {"port": 1},
        {"name": "no-number"},
        {"name": "", "port": 2},
        {"name": "udp", "port": 3, "protocol": "UDP"},
    ]}));
    let found: Vec<_> =
        slice.ports.iter().map(|it| (&*it.name, it.protocol, it.port.get())).collect();
    assert_eq!(found, [("", Protocol::TCP, 2), ("udp", Protocol::UDP, 3)]);
}

#[test]
fn eps_06_number_zero_and_unknown_protocols_are_told() {
    let (slice, told) = with_issues(json!({"ports": [
        {"name": "a", "port": 0},
        {"name": "b", "port": 70000},
        {"name": "c", "port": 1, "protocol": "ICMP"},
        {"name": "d", "port": 2},
        {"name": "d", "port": 2},
    ]}));
    assert_eq!(slice.ports.len(), 1);
    assert_eq!(told.len(), 4);
    assert!(told[0].starts_with("EndpointSlice default/web-1: ports[0].port: port 0"), "{told:?}");
}

#[test]
fn eps_04_one_name_may_have_two_numbers() {
    let ports = json!([{"name": "a", "port": 1}, {"name": "a", "port": 2}]);
    assert_eq!(clean(json!({"ports": ports})).ports.len(), 2);
}

#[test]
fn eps_07_only_the_first_address_of_an_endpoint_counts() {
    let slice = clean(json!({"endpoints": [
        {"addresses": ["10.244.1.2", "10.244.9.9"]},
        {"addresses": []},
        {"addresses": ["10.244.1.3"]},
    ]}));
    assert_eq!(addresses(&slice), ["10.244.1.2", "10.244.1.3"]);
}

#[test]
fn eps_11_more_than_a_thousand_endpoints_are_told_and_the_rest_ignored() {
    let endpoints: Vec<_> = (0..1200)
        .map(|at| json!({"addresses": [format!("10.244.{}.{}", at / 250, at % 250 + 1)]}))
        .collect();
    let (slice, told) = with_issues(json!({"endpoints": endpoints}));
    assert_eq!(slice.endpoints.len(), 1000);
    assert_eq!(
        told,
        ["EndpointSlice default/web-1: endpoints: has 1200 entries, more than 1000; the rest is \
          ignored (EPS-11)"]
    );
}

#[test]
fn eps_11_twenty_thousand_ports_are_the_limit_of_a_slice() {
    let ports: Vec<_> = (1..=20_001).map(|at| json!({"name": "a", "port": at})).collect();
    let (slice, told) = with_issues(json!({"ports": ports}));
    assert_eq!((slice.ports.len(), told.len()), (20_000, 1));
}

#[test]
fn eps_14_the_node_is_kept_and_an_empty_one_is_none() {
    let slice = clean(json!({"endpoints": [
        {"addresses": ["10.244.1.2"], "nodeName": "n1"},
        {"addresses": ["10.244.1.3"], "nodeName": "", "hostname": "n1"},
        {"addresses": ["10.244.1.4"]},
    ]}));
    let found: Vec<_> = slice.endpoints.iter().map(|it| it.node.as_deref()).collect();
    assert_eq!(found, [Some("n1"), None, None]);
}

#[test]
fn eps_15_endpoints_may_be_anything_routable_and_nothing_else() {
    let texts = ["192.0.2.1", "8.8.8.8", "0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1"];
    let endpoints: Vec<_> = texts.iter().map(|text| json!({"addresses": [text]})).collect();
    let (slice, told) = with_issues(json!({"endpoints": endpoints}));
    assert_eq!(addresses(&slice), ["192.0.2.1", "8.8.8.8"]);
    assert_eq!(told.len(), 4);
}

#[test]
fn ep_01_conditions_have_their_defaults_each_on_its_own() {
    let of = |conditions: Value| {
        let endpoint = json!({"addresses": ["10.244.1.2"], "conditions": conditions});
        clean(json!({"endpoints": [endpoint]})).endpoints[0].conditions
    };
    let all = |ready, serving, terminating| Conditions { ready, serving, terminating };
    assert_eq!(of(json!(null)), all(true, true, false));
    assert_eq!(of(json!({})), all(true, true, false));
    assert_eq!(of(json!({"ready": false})), all(false, true, false));
    assert_eq!(of(json!({"serving": false})), all(true, false, false));
    assert_eq!(of(json!({"terminating": true})), all(true, true, true));
}

#[test]
fn ep_02_ready_is_trusted_as_written() {
    let conditions = json!({"ready": true, "serving": false, "terminating": true});
    let endpoint = json!({"addresses": ["10.244.1.2"], "conditions": conditions});
    let slice = clean(json!({"endpoints": [endpoint]}));
    assert!(slice.endpoints[0].conditions.ready);
}

#[test]
fn top_01_hints_of_zones_and_nodes_are_kept() {
    let hints = json!({"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n1"}]});
    let endpoint = json!({"addresses": ["10.244.1.2"], "zone": "z", "hints": hints});
    let slice = clean(json!({"endpoints": [endpoint]}));
    assert_eq!(slice.endpoints[0].for_zones, ["a".into(), "b".into()]);
    assert_eq!(slice.endpoints[0].for_nodes, ["n1".into()]);
}

#[test]
fn col_07_an_endpoint_with_an_unreadable_or_foreign_address_is_skipped() {
    let (slice, told) = with_issues(json!({"endpoints": [
        {"addresses": ["nonsense"]},
        {"addresses": ["fd00::1"]},
        {"addresses": ["010.244.1.003"]},
    ]}));
    assert_eq!(addresses(&slice), ["10.244.1.3"]);
    assert_eq!(
        told,
        [
            "EndpointSlice default/web-1: endpoints[0].addresses[0]: \"nonsense\" is not an IP \
             address; ignored (COL-05)",
            "EndpointSlice default/web-1: endpoints[1].addresses[0]: fd00::1 is not of the family \
             that the object names for it; ignored (COL-07)",
        ]
    );
}

#[test]
fn eps_06_defaults_name_a_port_that_a_person_did_not() {
    let mut object = slice_of(json!({"metadata": {"namespace": null}, "ports": [{"port": 80}]}));
    default_slice(&mut object);
    let found = slice(&object).value.unwrap();
    assert_eq!(found.name.to_string(), "default/web-1");
    assert_eq!((&*found.ports[0].name, found.ports[0].port.get()), ("", 80));
}

#[test]
fn met_05_the_trigger_of_a_change_is_read_and_nonsense_is_none() {
    let triggered = |value: Value| {
        let key = "endpoints.kubernetes.io/last-change-trigger-time";
        let slice = clean(json!({"metadata": {"annotations": {key: value}}}));
        slice.triggered.map(|at| at.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis())
    };
    assert_eq!(triggered(json!("2023-11-14T22:13:20.5Z")), Some(1_700_000_000_500));
    assert_eq!(triggered(json!("2023-11-14T23:13:20+01:00")), Some(1_700_000_000_000));
    assert_eq!(triggered(json!("yesterday")), None);
    assert_eq!(clean(json!({})).triggered, None);
}
