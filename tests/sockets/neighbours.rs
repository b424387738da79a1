// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two agents on one kernel.

use std::fs;

use lab::{
    agent::{Agent, AgentSpec},
    need_lab,
    served::{Served, vip},
    wire::{AskSpec, Family},
};

/// Different roots, node names and namespaces: each sees its own sockets only.
#[test]
fn two_agents_on_one_kernel_do_not_see_each_other() {
    need_lab!();
    let served = Served::start().unwrap();
    let (lab, pods) = (&served.lab, served.lab.pods());
    let second = lab.node("node-2").unwrap();
    let to = vip(Family::V4, 10);
    served.expose("web", 10, &pods[..1]).unwrap();
    let [near, far] = [&pods[1], &pods[3]].map(|pod| pod.driver().unwrap());
    assert_eq!(near.ask(AskSpec::tcp(to)).unwrap().echo.pod, "pod-1-1");
    // No agent serves node 2: the packets go out, and nobody is there.
    let mut outside = AskSpec::tcp(to);
    outside.socket.timeout_ms = 300;
    assert_eq!(far.ask(outside.clone()).unwrap_err().name, "ETIMEDOUT");

    // Other objects under the same address.
    let dir = lab.dir().join("other");
    fs::create_dir(&dir).unwrap();
    let text = fs::read_to_string(served.manifests.dir().join("service-web.yaml")).unwrap();
    let text = text
        .replace(&pods[0].v4.to_string(), &pods[2].v4.to_string())
        .replace(&pods[0].v6.to_string(), &pods[2].v6.to_string());
    fs::write(dir.join("web.yaml"), text).unwrap();
    fs::copy(served.manifests.dir().join("nodes.yaml"), dir.join("nodes.yaml")).unwrap();
    let mut other = Agent::start(second, &AgentSpec::manifests(&dir)).unwrap();
    for _ in 0..10 {
        assert_eq!(near.ask(AskSpec::tcp(to)).unwrap().echo.pod, "pod-1-1");
        assert_eq!(far.ask(AskSpec::tcp(to)).unwrap().echo.pod, "pod-2-1");
    }
    let backends = |agent: &Agent| -> Vec<String> {
        let mut rows = agent.backends().unwrap();
        rows.retain(|row| row.protocol == "TCP");
        rows.into_iter().map(|row| row.backend).collect()
    };
    let of = |pod: usize| Family::BOTH.map(|family| pods[pod].at(family, 8080).to_string());
    assert_eq!(backends(&served.agent), of(0));
    assert_eq!(backends(&other), of(2));

    other.stop().unwrap();
    let unloaded = other.verb(&["unload"]).unwrap();
    assert_eq!(unloaded.code, Some(0), "{}", unloaded.stderr);
    assert_eq!(far.ask(outside).unwrap_err().name, "ETIMEDOUT");
    assert_eq!(near.ask(AskSpec::tcp(to)).unwrap().echo.pod, "pod-1-1");
}
