// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What health checkers and people are told over HTTP, beside the real kube-proxy.

use std::{collections::BTreeMap, time::Duration};

use lab::{
    Lab,
    http::{self, Reply},
    need_lab,
    node::Node,
    wait,
};
use serde_json::Value;

use crate::fixture::Beside;

/// HLZ-01, HLZ-02, HLZ-05, HLZ-06: status, headers and the shape of the body are kube-proxy's,
/// whatever is asked, while the node is well and while it is about to be deleted.
#[test]
fn hlz_02_replies_are_those_of_kube_proxy() {
    need_lab!();
    let beside = Beside::start(Lab::builder().pods(1).start().unwrap()).unwrap();
    let [theirs, ours] = beside.nodes();
    let mut differ = compare(theirs, ours, "the nodes are well");
    for node in [theirs, ours] {
        let taint = "ToBeDeletedByClusterAutoscaler=1:NoSchedule";
        beside.cluster.kubectl(["taint", "node", &node.name, taint]).unwrap();
        let drained = || ask(node, 10256, "GET", "/healthz").status == 503;
        wait::until(Duration::from_secs(30), "the node to be drained", drained).unwrap();
    }
    differ.extend(compare(theirs, ours, "the nodes are about to be deleted"));
    assert_eq!(differ, Vec::<String>::new());
}

/// Asks both the same, prints what they say, and returns what differs.
fn compare(theirs: &Node, ours: &Node, when: &str) -> Vec<String> {
    println!("\n# While {when}");
    let mut differ = Vec::new();
    for (port, method, path) in ASKED {
        let [want, have] = [theirs, ours].map(|node| ask(node, port, method, path));
        println!("\n{method} :{port}{path}");
        for (who, reply) in [("kube-proxy", &want), ("sluice", &have)] {
            println!("  {who}: {} {:?}\n    {}", reply.status, reply.headers, reply.body.trim());
        }
        if told(&want) != told(&have) {
            differ.push(format!("{when}, {method} :{port}{path}: {want:?} and {have:?}"));
        }
    }
    differ
}

/// What of a reply has to be the same.
fn told(reply: &Reply) -> (u16, BTreeMap<String, String>, Vec<String>) {
    let mut headers = reply.headers.clone();
    headers.retain(|name, _| ["content-type", "x-content-type-options"].contains(&name.as_str()));
    let body = match serde_json::from_str::<Value>(&reply.body) {
        Ok(json) => shape("", &json),
        Err(_) => vec![reply.body.clone()],
    };
    (reply.status, headers, body)
}

/// Where a body has what: times are alike, truths and texts are themselves.
fn shape(path: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, value)| shape(&format!("{path}/{key}"), value)).collect()
        }
        Value::String(text) if text.contains('T') && text.ends_with('Z') => {
            vec![format!("{path}: a time")]
        }
        other => vec![format!("{path}: {other}")],
    }
}

/// One request to a node's own loopback.
fn ask(node: &Node, port: u16, method: &str, path: &str) -> Reply {
    node.run(|| http::ask(([127, 0, 0, 1], port).into(), method, path)).unwrap().unwrap()
}

/// What is asked: by the kubelet, load balancers, people, and by mistake.
const ASKED: [(u16, &str, &str); 14] = [
    (10256, "GET", "/healthz"),
    (10256, "HEAD", "/healthz"),
    (10256, "POST", "/healthz"),
    (10256, "GET", "/healthz/"),
    (10256, "GET", "/healthz?verbose"),
    (10256, "GET", "/livez"),
    (10256, "POST", "/livez"),
    (10256, "GET", "/"),
    (10256, "GET", "/nothing"),
    (10249, "GET", "/healthz"),
    (10249, "HEAD", "/healthz"),
    (10249, "GET", "/proxyMode"),
    (10249, "GET", "/livez"),
    (10249, "GET", "/nothing"),
];
