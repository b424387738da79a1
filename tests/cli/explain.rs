// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `explain`: the kernel's decision, with its reasons.

use std::time::Duration;

use lab::{
    agent::Printed,
    need_lab,
    served::{Served, plain, vip},
    wire::{AskSpec, Family},
};
use serde_json::{Value, json};

#[test]
fn explain_tells_what_a_socket_will_see_and_why() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let lab = &served.lab;
    let pods = lab.pods();
    let node = served.node().unwrap().clone();
    let mut web = plain("web", 10);
    let spec = web.spec.as_mut().unwrap();
    spec.type_ = Some("NodePort".to_owned());
    spec.ports.as_mut().unwrap()[0].node_port = Some(30080);
    served.expose_as(web, &pods[2..]).unwrap();
    served.expose("empty", 11, &[]).unwrap();
    let mut local = plain("local", 12);
    local.spec.as_mut().unwrap().internal_traffic_policy = Some("Local".to_owned());
    served.manifests.expose(lab, local, &pods[2..]).unwrap();
    served.await_inside(&vip(Family::V6, 12).to_string(), "UDP", &json!("silent")).unwrap();

    for agent_runs in [true, false] {
        if !agent_runs {
            served.agent.stop().unwrap();
        }
        let own = node.at(Family::V4, 30080).to_string();
        let other = served.lab.node("node-2").unwrap().at(Family::V4, 30080).to_string();
        for (words, code, parts) in [
            (vec!["10.96.0.10:80/TCP"], 0, ["web", "2 backends"]),
            (vec!["10.96.0.10:80"], 0, ["10.244.2.10:8080", "CIP-01"]),
            (vec!["[fd00:10:96::a]:80/udp"], 0, ["web", "TRP-10"]),
            (vec!["[::ffff:10.96.0.10]:80/udp"], 0, ["web", "TRP-10"]),
            (vec![own.as_str()], 0, ["NodePort", "NP-01"]),
            (vec!["127.0.0.1:30080"], 0, ["NodePort", "NP-01"]),
            (vec!["127.0.0.1:30080", "--from", "pod"], 3, ["untouched", "NP-05"]),
            (vec![other.as_str()], 3, ["untouched", "NP-07"]),
            (vec!["10.96.0.11:80"], 0, ["refused", "NOEP-01"]),
            (vec!["10.96.0.12:80"], 0, ["no answer", "NOEP-02"]),
            (vec!["10.96.0.10:81"], 3, ["refused", "CIP-04"]),
            (vec!["192.0.2.1:80"], 3, ["untouched", "SOC-10"]),
        ] {
            let printed = explain(&served, &words);
            assert_eq!(printed.code, Some(code), "{words:?}: {printed:?}");
            for part in parts {
                assert!(
                    printed.stdout.contains(part),
                    "{words:?} lacks {part}: {}",
                    printed.stdout
                );
            }
        }
    }
    // It is what happens.
    let driver = pods[0].driver().unwrap();
    driver.ask(AskSpec::tcp("10.96.0.10:80".parse().unwrap())).unwrap();
    let refused = driver.ask(AskSpec::tcp("10.96.0.11:80".parse().unwrap())).unwrap_err();
    assert_eq!(refused.name, "ECONNREFUSED");
}

/// EP-03, EPS-05, TRP-11, COL-02: what no map holds is asked of the agent that runs: endpoints
/// that are not used and why, and who else wants the frontend.
#[test]
fn explain_names_endpoints_that_are_not_used_and_who_waits() {
    need_lab!();
    let mut served = Served::start().unwrap();
    served.manifests.write("shop", &shop()).unwrap();
    served.await_inside("10.96.0.21:80", "TCP", &json!(1)).unwrap();
    served.await_inside("10.96.0.22:80", "TCP", &json!("silent")).unwrap();
    lab::wait::until(Duration::from_secs(10), "the collision to be told", || {
        served.agent.ignored().is_ok_and(|lines| lines.len() == 1)
    })
    .unwrap();
    for (words, parts) in [
        (
            "10.96.0.21:80",
            &[
                "goes to 10.244.1.10:8080 of default/some:http/TCP, its only backend",
                "endpoint   10.244.1.11:8080: it is not ready (EP-03)",
                "endpoint   10.244.2.10: its slice has no port http/TCP, only web/TCP (EPS-05)",
            ][..],
        ),
        ("10.96.0.22:80", &["10.244.2.11:8080: it is on node-2, and the policy is Local (TRP-11)"]),
        ("198.51.100.7:80", &["of default/some", "issue      Service default/twin: spec.ext"]),
        ("10.96.0.22:80", &["issue      Service default/twin: spec.externalIPs: 198.51.100.7"]),
    ] {
        let answer = explain(&served, &[words]).stdout;
        for part in parts {
            assert!(answer.contains(part), "{words} lacks {part}: {answer}");
        }
    }
    served.agent.stop().unwrap();
    let answer = explain(&served, &["10.96.0.21:80"]).stdout;
    assert!(answer.contains("only a running agent knows; none answers here"), "{answer}");
}

/// `some` with one endpoint that is used, `twin` with none here; both want one externalIP.
fn shop() -> [Value; 5] {
    let service = |name: &str, address: &str, internal: &str, created: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": "default", "creationTimestamp": created },
            "spec": {
                "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
                "externalIPs": ["198.51.100.7"], "internalTrafficPolicy": internal,
                "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
            },
        })
    };
    let slice = |name: &str, of: &str, port: &str, endpoints: Value| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": name, "namespace": "default",
                "labels": { "kubernetes.io/service-name": of } },
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{ "name": port, "port": 8080, "protocol": "TCP" }],
        })
    };
    let endpoint = |address: &str, node: &str, ready: bool| {
        json!({ "addresses": [address], "nodeName": node,
            "conditions": { "ready": ready, "serving": ready } })
    };
    let here =
        json!([endpoint("10.244.1.10", "node-1", true), endpoint("10.244.1.11", "node-1", false)]);
    [
        service("some", "10.96.0.21", "Cluster", "2026-01-01T00:00:00Z"),
        service("twin", "10.96.0.22", "Local", "2026-06-01T00:00:00Z"),
        slice("some-1", "some", "http", here),
        slice("some-2", "some", "web", json!([endpoint("10.244.2.10", "node-2", true)])),
        slice("twin-1", "twin", "http", json!([endpoint("10.244.2.11", "node-2", true)])),
    ]
}

#[test]
fn explain_in_json_is_one_stable_object() {
    need_lab!();
    let served = Served::start().unwrap();
    served.expose("web", 10, &served.lab.pods()).unwrap();
    let printed = explain(&served, &["10.96.0.10:80", "-o", "json"]);
    let answer: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(answer["target"], "10.96.0.10:80/TCP");
    assert_eq!(answer["reason"], "translated");
    assert!(answer["service"].as_str().unwrap().starts_with("default/web"), "{answer}");
    assert_eq!(answer["backends"].as_array().unwrap().len(), 4);
    let steps = answer["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["step"].is_string() && step["found"].is_string()));
    let nobody = explain(&served, &["10.96.0.99:80", "-o", "json"]);
    let answer: Value = serde_json::from_str(&nobody.stdout).unwrap();
    assert_eq!((nobody.code, &answer["service"]), (Some(3), &Value::Null));
}

/// `explain` on the node.
fn explain(served: &Served, words: &[&str]) -> Printed {
    let words: Vec<_> = ["explain"].iter().chain(words).copied().collect();
    served.agent.verb(&words).unwrap()
}
