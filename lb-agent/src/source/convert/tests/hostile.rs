// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Objects with anything in them: converting never panics, keeps what is good, and keeps
//! the model's own rules.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{service_of, slice_of};
use crate::{
    model::{Family, ObjectName, change::Object, service::Service},
    source::convert::{default_service, default_slice, service, slice},
};

/// Texts that look like addresses, or do not.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[0-9]{1,4}\\.[0-9]{1,4}\\.[0-9]{1,4}\\.[0-9]{1,4}(/[0-9]{0,4})?",
        3 => "[0-9a-f:]{0,20}(/[0-9]{0,4})?",
        1 => Just("0.0.0.0/0".to_owned()),
        1 => Just("None".to_owned()),
        1 => Just(String::new()),
        2 => "\\PC{0,12}",
    ]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(text(), 0..5)
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![4 => 0..70_000, 1 => any::<i32>()]
}

fn word(of: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let known = proptest::sample::select(of).prop_map(|word| json!(word));
    prop_oneof![6 => known, 1 => Just(Value::Null), 1 => "\\PC{0,6}".prop_map(|text| json!(text))]
}

fn port() -> impl Strategy<Value = Value> {
    let protocol = word(&["TCP", "UDP", "SCTP"]);
    let name = word(&["", "a", "b"]);
    (number(), number(), protocol, name).prop_map(|(port, node_port, protocol, name)| {
        json!({"port": port, "nodePort": node_port, "protocol": protocol, "name": name})
    })
}

fn hostile_service() -> impl Strategy<Value = Value> {
    let addresses = (text(), texts(), texts(), texts(), texts());
    let words = (
        word(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
        word(&["Cluster", "Local"]),
        word(&["ClientIP", "None"]),
        proptest::collection::vec(word(&["IPv4", "IPv6"]), 0..4),
    );
    let ports = proptest::collection::vec(port(), 0..8);
    (addresses, words, ports, number()).prop_map(|(addresses, words, ports, number)| {
        let (cluster_ip, cluster_ips, external_ips, ranges, ingress) = addresses;
        let (kind, policy, affinity, families) = words;
        let families: Vec<_> = families.into_iter().filter(|it| !it.is_null()).collect();
        let ingress: Vec<_> = ingress.iter().map(|ip| json!({"ip": ip})).collect();
        json!({
            "spec": {
                "clusterIP": cluster_ip, "clusterIPs": cluster_ips, "ipFamilies": families,
                "externalIPs": external_ips, "loadBalancerSourceRanges": ranges,
                "type": kind, "externalTrafficPolicy": policy, "internalTrafficPolicy": policy,
                "sessionAffinity": affinity, "healthCheckNodePort": number,
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": number}}, "ports": ports,
            },
            "status": {"loadBalancer": {"ingress": ingress}},
        })
    })
}

/// What `model::service` promises of any Service.
fn assert_valid(object: &Object<Service>) {
    let Some(service) = &object.value else { return };
    let families: HashSet<_> = service.cluster_ips.iter().map(|it| Family::of(*it)).collect();
    assert!(!families.is_empty() && families.len() == service.cluster_ips.len());
    let names: HashSet<_> = service.ports.iter().map(|it| (&it.name, it.protocol)).collect();
    let numbers: HashSet<_> = service.ports.iter().map(|it| (it.port, it.protocol)).collect();
    assert_eq!((names.len(), numbers.len()), (service.ports.len(), service.ports.len()));
    assert!(service.source_ranges.iter().all(|range| *range == range.trunc()));
}

proptest! {
    #[test]
    fn col_05_any_service_is_read_and_its_model_is_valid(patch in hostile_service()) {
        let mut object = service_of(patch);
        assert_valid(&service(&object));
        default_service(&mut object);
        assert_valid(&service(&object));
    }

    #[test]
    fn col_05_a_good_port_is_served_whatever_stands_beside_it(
        before in proptest::collection::vec(port(), 0..6),
        after in proptest::collection::vec(port(), 0..6),
        external in texts(),
    ) {
        let good = json!({"name": "good", "protocol": "TCP", "port": 70, "nodePort": 0});
        let other = |it: &Value| it["port"] != json!(70);
        let mut ports: Vec<_> = before.into_iter().filter(other).collect();
        ports.push(good);
        ports.extend(after.into_iter().filter(other));
        let object = service(&service_of(json!({"spec": {"ports": ports, "externalIPs": external}})));
        let served = object.value.unwrap();
        prop_assert_eq!(served.ports.iter().filter(|it| &*it.name == "good").count(), 1);
    }

    #[test]
    fn col_07_a_good_endpoint_is_used_whatever_stands_beside_it(
        texts in texts(),
        ports in proptest::collection::vec(port(), 0..6),
        kind in word(&["IPv4", "IPv6", "FQDN"]),
        label in word(&["web"]),
    ) {
        let mut endpoints: Vec<_> = texts.iter().map(|text| json!({"addresses": [text]})).collect();
        endpoints.push(json!({"addresses": ["10.244.1.2"]}));
        let patch = json!({"endpoints": endpoints, "ports": ports});
        let mut object = slice_of(patch);
        default_slice(&mut object);
        let used = slice(&object).value.unwrap();
        prop_assert_eq!(used.endpoints.last().unwrap().address.to_string(), "10.244.1.2");
        prop_assert!(used.endpoints.iter().all(|it| Family::of(it.address) == used.family));

        object.address_type = kind.as_str().unwrap_or_default().to_owned();
        object.metadata.labels = label.as_str().map(|label| {
            [("kubernetes.io/service-name".to_owned(), label.to_owned())].into()
        });
        let other = slice(&object);
        prop_assert_eq!(other.name, ObjectName::new("default", "web-1"));
    }
}
