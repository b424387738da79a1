// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/healthz` and `/livez` as load balancers and the kubelet ask them (HLZ).

use std::{net::TcpListener, time::Duration};

use anyhow::ensure;
use lab::{
    Lab,
    agent::{Agent, AgentSpec},
    manifests::Manifests,
    need_lab, objects,
    served::Served,
    wait,
    wire::Family,
};

use super::status;

/// HLZ-01, HLZ-07: on every IPv4 address of the node, from the host network and from outside.
#[test]
fn hlz_01_and_07_the_reply_is_200_ok_with_the_time_of_the_last_update() {
    need_lab!();
    let served = Served::start().unwrap();
    let node = served.node().unwrap();
    let other = served.lab.node("node-2").unwrap();
    for place in [&node.place, &other.place, served.lab.client()] {
        for path in ["/healthz", "/livez"] {
            assert_eq!(status(place, node.at(Family::V4, 10256), path), Some(200), "{path}");
        }
    }
    let reply = node.output("curl", ["-si", "http://127.0.0.1:10256/healthz"]).unwrap();
    assert!(reply.contains("200 OK") && reply.contains("lastUpdated"), "{reply}");
    assert!(reply.contains("\"IPv4\":{\"lastUpdated\":"), "{reply}");
}

/// HLZ-08: the autoscaler's taint turns `/healthz` alone, so balancers drain the node; MET-09
/// counts both.
#[test]
fn hlz_08_a_node_that_is_about_to_go_fails_healthz_for_the_outside() {
    need_lab!();
    let served = Served::start().unwrap();
    let node = served.node().unwrap();
    let ask = |path| status(served.lab.client(), node.at(Family::V4, 10256), path);
    assert_eq!(ask("/healthz"), Some(200));
    let mut doomed = objects::node(node);
    doomed.spec.as_mut().unwrap().taints = Some(vec![k8s_openapi::api::core::v1::Taint {
        effect: "NoSchedule".to_owned(),
        key: "ToBeDeletedByClusterAutoscaler".to_owned(),
        ..Default::default()
    }]);
    served.manifests.write("nodes", &[doomed]).unwrap();
    let mut asked = 0;
    wait::for_value(Duration::from_secs(10), "the node to be drained", || {
        let status = ask("/healthz");
        asked += u32::from(status == Some(503));
        ensure!(status == Some(503), "{status:?}");
        Ok(())
    })
    .unwrap();
    assert_eq!(ask("/livez"), Some(200));
    let count = |sample: &str| served.agent.metric(sample).unwrap();
    assert!(count("kubeproxy_proxy_healthz_total{code=\"200\"}") >= 1.0);
    assert!(count("kubeproxy_proxy_healthz_total{code=\"503\"}") >= f64::from(asked));
    assert!(count("kubeproxy_proxy_livez_total{code=\"200\"}") >= 1.0);
    assert!(count("kubeproxy_proxy_livez_total{code=\"503\"}") < 1.0);
}

/// CFG-03: during a migration kube-proxy may still have the port. `--bind-address-hard-fail`
/// ends the process instead.
#[test]
fn a_taken_health_address_is_waited_for_or_ends_the_process() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(1).start().unwrap();
    let manifests = Manifests::of(&lab).unwrap();
    let node = lab.node("node-1").unwrap();
    let taken = node.run(|| TcpListener::bind("0.0.0.0:10256")).unwrap().unwrap();
    let spec = AgentSpec::manifests(manifests.dir());
    let mut hard = Agent::spawn(node, &spec.clone().arg("--bind-address-hard-fail")).unwrap();
    let status = hard.process().wait(Duration::from_secs(20)).unwrap();
    assert_eq!(status.code(), Some(2), "{}", hard.log());
    let mut soft = Agent::spawn(node, &spec).unwrap();
    wait::for_value(Duration::from_secs(20), "metrics to be served", || soft.metrics()).unwrap();
    assert!(soft.log().contains("server not started"), "{}", soft.log());
    drop(taken);
    soft.wait_ready(Duration::from_secs(20)).unwrap();
}
