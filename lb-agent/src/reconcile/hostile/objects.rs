// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Objects with anything in them that their API type can hold: whole ones in which some
//! values were replaced, taken away or repeated.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use super::healthy;

/// One change of a whole object: at a place, which is taken modulo the number of places.
#[derive(Clone, Debug)]
struct Blow {
    place: usize,
    harm: Harm,
}

/// What is done there. A value keeps its type, or is taken away: the API's types hold no
/// other.
#[derive(Clone, Debug)]
enum Harm {
    /// The value is gone.
    Remove,
    /// A text becomes another, a number another, a truth its opposite.
    Replace(String, i64),
    /// A list has its elements so many times.
    Repeat(usize),
    /// A list has none.
    Empty,
}

/// Up to five of them.
pub(super) fn hostile() -> impl Strategy<Value = Vec<Value>> {
    let own = |template: fn() -> Value| blown(Just(template()));
    let object = prop_oneof![
        6 => own(service),
        6 => own(slice),
        2 => own(node),
        3 => (0..healthy::SERVICES, poison())
            .prop_map(|(number, slice)| healthy::named(slice, number, "-poison")),
    ];
    vec((object, 0..4_usize), 0..6).prop_map(|objects| {
        let named = |(mut object, number): (Value, usize)| {
            // Half of them are what another slice or Service is called; none is a healthy one.
            if object["metadata"]["name"] == json!("bad") {
                object["metadata"]["name"] = json!(format!("bad-{number}"));
            }
            object
        };
        objects.into_iter().map(named).collect()
    })
}

/// A whole object after some blows.
fn blown(whole: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let blow = (any::<usize>(), harm()).prop_map(|(place, harm)| Blow { place, harm });
    (whole, vec(blow, 0..8)).prop_map(|(mut object, blows)| {
        for Blow { place, harm } in blows {
            let places = places(&object);
            // A blow may have left nothing to strike.
            if let Some(place) = place.checked_rem(places.len()) {
                strike(&mut object, &places[place], harm);
            }
        }
        object
    })
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        3 => Just(Harm::Remove),
        8 => (text(), number()).prop_map(|(text, number)| Harm::Replace(text, number)),
        3 => (2..4_usize).prop_map(Harm::Repeat),
        // More elements than any list may have, seldom: they take their time.
        1 => prop_oneof![60 => Just(300), 1 => Just(20_000)].prop_map(Harm::Repeat),
        1 => Just(Harm::Empty),
    ]
}

/// Texts that Kubernetes fields hold, nearly hold, or should not hold.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(WORDS).prop_map(str::to_owned),
        2 => "[0-9]{1,4}\\.[0-9]{1,4}\\.[0-9]{1,4}\\.[0-9]{1,4}(/[0-9]{0,4})?",
        2 => "[0-9a-f:]{0,20}(/[0-9]{0,4})?",
        1 => "\\PC{0,12}",
        1 => "[a-z0-9.-]{253}",
        1 => "\\PC{300}",
    ]
}

fn number() -> impl Strategy<Value = i64> {
    let special = [0, 1, -1, 80, 53, 30_000, 30_001, 65_535, 65_536, 86_401];
    prop_oneof![
        4 => select(special.to_vec()),
        2 => 0..70_000_i64,
        1 => any::<i32>().prop_map(i64::from),
        1 => any::<i64>(),
    ]
}

/// The path of every value but those that say what an object is, and that it is younger than
/// a healthy one. A Node of another name or zone would be another node.
fn places(object: &Value) -> Vec<String> {
    let is_node = object["kind"] == json!("Node");
    let is_kept = |path: &str| KEPT.contains(&path) || is_node && path == "/metadata";
    let mut found = Vec::new();
    let mut waiting = vec![(String::new(), object)];
    while let Some((path, value)) = waiting.pop() {
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| {
                    (format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), value)
                });
                waiting.extend(fields.filter(|(path, _)| !is_kept(path)));
            }
            // Of many alike the first few are enough to find a place in.
            Value::Array(elements) => {
                let elements = elements.iter().take(8).enumerate();
                waiting.extend(elements.map(|(at, value)| (format!("{path}/{at}"), value)));
            }
            _ => {}
        }
        if !path.is_empty() && path != "/metadata" {
            found.push(path);
        }
    }
    found
}

fn strike(object: &mut Value, path: &str, harm: Harm) {
    let (above, key) = path.rsplit_once('/').unwrap();
    if matches!(harm, Harm::Remove) {
        match object.pointer_mut(above).unwrap() {
            Value::Object(fields) => {
                fields.remove(&key.replace("~1", "/").replace("~0", "~"));
            }
            Value::Array(elements) => {
                elements.remove(key.parse().unwrap());
            }
            other => panic!("{other} has nothing below it"),
        }
        return;
    }
    let place = object.pointer_mut(path).unwrap();
    match (&mut *place, harm) {
        (Value::String(held), Harm::Replace(text, _)) => *held = text,
        (Value::Number(_), Harm::Replace(_, number)) => *place = json!(number),
        (Value::Bool(held), _) => *held = !*held,
        (Value::Array(elements), Harm::Repeat(times)) => repeat(elements, times),
        (Value::Array(elements), Harm::Empty) => elements.clear(),
        _ => {}
    }
}

/// Repeats what is in a list; numbers in it count up, so that many are not all one.
fn repeat(elements: &mut Vec<Value>, times: usize) {
    let once = elements.clone();
    let times = times.min(20_000 / once.len().max(1));
    for round in (1..).take(times.saturating_sub(1)) {
        elements.extend(once.iter().cloned().map(|mut element| {
            if let Some(port) = element.get_mut("port").filter(|port| port.is_number()) {
                *port = json!(port.as_i64().unwrap_or_default().wrapping_add(round));
                element["name"] = json!(format!("p{round}"));
            }
            element
        }));
    }
}

/// A Service with every field that is read, which wants what healthy ones have.
fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": "bad", "name": "bad", "creationTimestamp": YOUNG,
            "labels": {"service.kubernetes.io/headless": "", "app": "bad"},
        },
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.9.1",
            "clusterIPs": ["10.96.9.1", "fd00:96::900"],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "externalIPs": ["198.51.100.1", "2001:db8:51::1", "10.96.0.00"],
            "externalName": "example.org",
            "loadBalancerIP": "203.0.113.1",
            "loadBalancerSourceRanges": ["10.0.0.1/8", "010.1.1.1/016", "::/0"],
            "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local",
            "healthCheckNodePort": 30_003,
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10_800}},
            "publishNotReadyAddresses": false,
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30_000, "targetPort": 8080},
                {"name": "dns", "protocol": "UDP", "port": 53, "nodePort": 30_001, "targetPort": 5353},
                {"name": "s", "protocol": "SCTP", "port": 80, "nodePort": 30_002, "targetPort": 80},
            ],
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "203.0.113.1", "ipMode": "VIP"}, {"hostname": "example.org"}, {"ip": "2001:db8:113::1"},
        ]}},
    })
}

/// A slice of such a Service.
fn slice() -> Value {
    let endpoint = |address: &str, ready: bool| {
        json!({
            "addresses": [address, "10.244.0.9"],
            "conditions": {"ready": ready, "serving": !ready, "terminating": !ready},
            "nodeName": "here", "zone": "a", "hostname": "x",
            "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "here"}]},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "bad", "name": "bad", "creationTimestamp": YOUNG,
            "labels": {"kubernetes.io/service-name": "bad-1"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": YOUNG},
        },
        "addressType": "IPv4",
        "ports": [
            {"name": "http", "protocol": "TCP", "port": 8080},
            {"name": "dns", "protocol": "UDP", "port": 5353},
        ],
        "endpoints": [endpoint("10.244.0.1", true), endpoint("10.244.0.2", false)],
    })
}

/// This node, otherwise described; where it is decides what is served.
fn node() -> Value {
    let mut node = healthy::node();
    node["spec"]["taints"] =
        json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    node["spec"]["podCIDR"] = json!("10.244.0.1/24");
    node["spec"]["podCIDRs"] = json!(["10.244.0.1/24", "x"]);
    node["status"]["addresses"] = json!([
        {"type": "InternalIP", "address": "192.0.2.010"},
        {"type": "ExternalIP", "address": "2001:db8::10"},
        {"type": "Hostname", "address": "here"},
    ]);
    node
}

/// A slice of a healthy Service in which nothing can be used.
fn poison() -> impl Strategy<Value = Value> {
    let ports = prop_oneof![
        Just(json!([{"name": "http", "protocol": "TCP", "port": 8080}])),
        Just(json!([{"port": 8080}, {"name": "http"}, {"name": "http", "port": 0}])),
        Just(
            json!([{"name": "http", "protocol": "ICMP", "port": 8080}, {"name": "nobodys", "port": 1}])
        ),
    ];
    let kind = select(&["IPv4", "FQDN", "", "ipv4"][..]);
    (ports, kind, vec(select(USELESS), 0..6)).prop_map(|(ports, kind, addresses)| {
        let endpoints: Vec<_> = addresses
            .into_iter()
            .map(|text| json!({"addresses": if text.is_empty() { vec![] } else { vec![text] }}))
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "addressType": kind, "ports": ports, "endpoints": endpoints,
        })
    })
}

/// After any healthy Service: the elder has what both want (COL-02).
const YOUNG: &str = "2025-01-01T00:00:00Z";

/// Values that are not touched.
const KEPT: &[&str] = &["/kind", "/apiVersion", "/metadata/creationTimestamp"];

/// What no IPv4 slice's endpoint can be.
const USELESS: &[&str] = &[
    "",
    "x",
    "fd00:244::1",
    "0.0.0.0",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.1",
    "300.1.1.1",
    "10.244.0",
    "10.244.0.1/32",
    " 10.244.0.1",
    "::",
    "example.org",
    "10.244.0.1.1",
];

const WORDS: &[&str] = &[
    "",
    "None",
    "TCP",
    "UDP",
    "SCTP",
    "tcp",
    "ClusterIP",
    "NodePort",
    "ExternalName",
    "Local",
    "Cluster",
    "local",
    "ClientIP",
    "IPv4",
    "IPv6",
    "FQDN",
    "VIP",
    "Proxy",
    "http",
    "dns",
    "a",
    "here",
    "there",
    "bad-0",
    "bad-1",
    "10.96.0.00",
    "10.96.0.10",
    "010.096.000.020",
    "fd00:96::0",
    "fd00:96::10",
    "::ffff:10.96.0.10",
    "198.51.100.1",
    "203.0.113.1",
    "192.0.2.10",
    "127.0.0.1",
    "0.0.0.0",
    "::",
    "::1",
    "255.255.255.255",
    "fe80::1",
    "224.0.0.1",
    "10.0.0.0/8",
    "10.0.0.1/08",
    "10.0.0.0/33",
    "/",
    "::/0",
    "0.0.0.0/0",
    "10.244.0.1",
    "fd00:244::1",
    "\u{0}",
    "\u{202e}x",
    "é",
];
