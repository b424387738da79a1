// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Services as an API server would hold them, older than any hostile one.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

/// This node, and up to three Services with their slices.
pub(super) fn objects() -> impl Strategy<Value = Vec<Value>> {
    vec((service(), vec(slice(), 0..3)), 1..=SERVICES).prop_map(|services| {
        let mut objects = vec![node()];
        for (number, (service, slices)) in services.into_iter().enumerate() {
            objects.push(named(service, number, ""));
            let slices = slices.into_iter().enumerate();
            objects.extend(slices.map(|(at, slice)| named(slice, number, &format!("-{at}"))));
        }
        objects
    })
}

/// This node.
pub(super) fn node() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "here", "labels": {"topology.kubernetes.io/zone": "a"}},
        "spec": {"taints": []},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]},
    })
}

/// Puts an object in its place: names, addresses and ports by the Service's number.
pub(super) fn named(mut object: Value, number: usize, suffix: &str) -> Value {
    let name = format!("web-{number}");
    object["metadata"] = json!({
        "namespace": "good",
        "name": format!("{name}{suffix}"),
        "creationTimestamp": format!("2001-01-0{}T00:00:00Z", number + 1),
        "labels": {"kubernetes.io/service-name": name},
    });
    let text = object.to_string().replace("10.96.0.N", &format!("10.96.0.{number}0"));
    let text = text.replace("fd00:96::N", &format!("fd00:96::{number}0"));
    serde_json::from_str(&text).unwrap()
}

fn service() -> impl Strategy<Value = Value> {
    let dual = any::<bool>();
    let policy = || select(&["Cluster", "Local"][..]);
    let external = option::of(select(&["198.51.100.1", "2001:db8:51::1"][..]));
    let ingress = option::of(select(&["203.0.113.1", "2001:db8:113::1"][..]));
    let affinity = option::of(1..86_400);
    let node_port = option::of(30_000..30_004);
    (dual, policy(), policy(), external, ingress, affinity, node_port).prop_map(
        |(dual, internal, external_policy, external, ingress, affinity, node_port)| {
            let ips: &[&str] = if dual { &["10.96.0.N", "fd00:96::N"] } else { &["10.96.0.N"] };
            let families: &[&str] = if dual { &["IPv4", "IPv6"] } else { &["IPv4"] };
            let mut object = json!({
                "apiVersion": "v1",
                "kind": "Service",
                "spec": {
                    "type": "LoadBalancer",
                    "clusterIP": ips[0],
                    "clusterIPs": ips,
                    "ipFamilies": families,
                    "internalTrafficPolicy": internal,
                    "externalTrafficPolicy": external_policy,
                    "externalIPs": external.iter().collect::<Vec<_>>(),
                    "sessionAffinity": if affinity.is_some() { "ClientIP" } else { "None" },
                    "ports": [
                        {"name": "http", "protocol": "TCP", "port": 80, "nodePort": node_port.unwrap_or(0)},
                        {"name": "dns", "protocol": "UDP", "port": 53},
                    ],
                },
                "status": {"loadBalancer": {
                    "ingress": ingress.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
                }},
            });
            if let Some(secs) = affinity {
                object["spec"]["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": secs}});
            }
            object
        },
    )
}

fn slice() -> impl Strategy<Value = Value> {
    let endpoint = (1..20_u8, any::<[bool; 3]>(), option::of(select(&["here", "there"][..])));
    (any::<bool>(), vec(endpoint, 0..4)).prop_map(|(is_v6, endpoints)| {
        let endpoint =
            |(last, [ready, serving, terminating], node): (u8, [bool; 3], Option<&str>)| {
                let address =
                    if is_v6 { format!("fd00:244::{last}") } else { format!("10.244.0.{last}") };
                json!({
                    "addresses": [address],
                    "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                    "nodeName": node,
                })
            };
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": if is_v6 { "IPv6" } else { "IPv4" },
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 8080},
                {"name": "dns", "protocol": "UDP", "port": 5353},
            ],
            "endpoints": endpoints.into_iter().map(endpoint).collect::<Vec<_>>(),
        })
    })
}

/// Most Services of one cluster.
pub(super) const SERVICES: usize = 3;

/// What the names of healthy service ports begin with.
pub(super) const PREFIX: &str = "good/";
