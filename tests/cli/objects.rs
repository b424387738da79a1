// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Objects with nonsense in them: that value is lost, its siblings work.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use lab::{
    agent::Printed,
    need_lab,
    node::Node,
    pod::Pod,
    served::{Served, cluster_ips, vip},
    shown::json_lines,
    wait,
    wire::{AskSpec, Family},
};
use serde_json::{Value, json};

use super::agent;

/// EPS-06, XIP-03, COL-05, COL-07, COL-08: each is an issue: told once, counted,
/// and shown.
#[test]
fn col_05_a_nonsense_value_is_told_and_its_siblings_work() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.manifests.write("odd", &odd(&pods[1])).unwrap();
    served.await_inside("10.96.0.10:80", "TCP", &json!(1)).unwrap();
    served.await_inside("198.51.100.10:80", "TCP", &json!(1)).unwrap();
    let driver = pods[0].driver().unwrap();
    assert_eq!(
        driver.ask(AskSpec::tcp("10.96.0.10:80".parse().unwrap())).unwrap().echo.pod,
        "pod-1-2"
    );

    let ignored = wait::for_value(Duration::from_secs(10), "the list of issues", || {
        let ignored = served.agent.ignored()?;
        ensure!(!ignored.is_empty(), "it is empty");
        Ok(ignored)
    })
    .unwrap();
    for part in
        ["not-an-address", "127.0.0.1", "port 0", "port 70000", "QUIC", "nonsense", "fd00::1"]
    {
        let about: Vec<_> = ignored.iter().filter(|line| line.contains(part)).collect();
        assert_eq!(about.len(), 1, "{part}: {ignored:?}");
        assert!(about[0].contains("default/odd"), "{about:?}");
        // Once, however often the object is looked at.
        assert_eq!(
            served.agent.log().matches(about[0].as_str()).count(),
            1,
            "{}",
            served.agent.log()
        );
    }
    assert!(served.agent.metric("sluice_issues").unwrap() >= 7.0);
    let table = served.agent.verb(&["show", "services"]).unwrap().stdout;
    assert!(table.contains("IGNORED") && table.contains("QUIC"), "{table}");

    served.manifests.remove("odd").unwrap();
    wait::for_value(Duration::from_secs(10), "no issue to be left", || {
        ensure!(served.agent.ignored()?.is_empty(), "{:?}", served.agent.ignored()?);
        Ok(())
    })
    .unwrap();
}

/// EPS-11: more ports than the API allows.
#[test]
fn eps_11_twenty_thousand_ports_harm_nobody() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[1..2]).unwrap();
    let ports = |key: &str| -> Vec<Value> {
        (1..=20_000)
            .map(|number| json!({ "name": format!("p{number}"), key: number, "protocol": "TCP" }))
            .collect()
    };
    let [v4, _] = cluster_ips(11);
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "wide", "namespace": "default" },
        "spec": { "clusterIP": v4, "clusterIPs": [v4], "ipFamilies": ["IPv4"], "ports": ports("port") },
    });
    served.manifests.write("wide", &[service]).unwrap();
    served.await_inside(&format!("{v4}:1"), "TCP", &json!("refuse")).unwrap();
    let driver = pods[0].driver().unwrap();
    assert_eq!(driver.ask(AskSpec::tcp(vip(Family::V6, 10))).unwrap().echo.pod, "pod-1-2");
    // All are served, or the list of issues says that not all are.
    wait::for_value(Duration::from_secs(20), "20000 frontends, or an issue", || {
        let rows = served.agent.services()?;
        let wide = rows.iter().filter(|row| row.service.starts_with("default/wide:")).count();
        let ignored = served.agent.ignored()?;
        let told = ignored.iter().any(|line| line.contains("default/wide"));
        ensure!(wide == 20_000 || told, "{wide} are served, and nothing is said");
        Ok(())
    })
    .unwrap();
    served.manifests.remove("wide").unwrap();
    served.await_gone(&format!("{v4}:1")).unwrap();
}

/// NP-08: a NodePort that the kernel may give to a program is told with the command that
/// reserves it, by `show` and by `check`; once that was run, there is nothing to tell.
#[test]
fn np_08_a_node_port_among_the_local_ports_is_told_until_it_is_reserved() {
    need_lab!();
    let served = Served::start().unwrap();
    let node = served.node().unwrap();
    let sysctl = |name: &str, value: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        node.run(|| fs::write(&path, value)).unwrap().unwrap();
    };
    let [v4, _] = cluster_ips(12);
    let port = json!({ "port": 80, "nodePort": 30_080, "protocol": "TCP" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "outside", "namespace": "default" },
        "spec": { "type": "NodePort", "clusterIP": v4, "clusterIPs": [v4],
            "ipFamilies": ["IPv4"], "ports": [port] },
    });
    served.manifests.write("outside", &[service]).unwrap();
    served.await_inside(&format!("{v4}:80"), "TCP", &json!("refuse")).unwrap();
    let row = || check_row(node, "local ports");
    assert_eq!(row().0, "ok", "{:?}", row());
    assert!(served.agent.ignored().unwrap().is_empty(), "{:?}", served.agent.ignored());

    sysctl("ip_local_port_range", "30000 60999");
    let told = wait::for_value(Duration::from_secs(20), "the NodePort to be told", || {
        let told = served.agent.ignored()?.pop();
        told.context("nothing is told")
    });
    let told = told.unwrap();
    let reserve = "sysctl -w net.ipv4.ip_local_reserved_ports=";
    let shown = served.agent.verb(&["show", "issues", "-o", "json"]).unwrap();
    let issue = &json_lines(&shown).unwrap()[0];
    assert_eq!((&issue["ignored"], &issue["rule"]), (&json!(told), &json!("NP-08")));
    let remedy = issue["remedy"].as_str().unwrap();
    assert!(remedy.starts_with(reserve), "{issue}");
    let table = served.agent.verb(&["show", "issues"]).unwrap().stdout;
    assert!(table.starts_with("OBJECT") && table.contains(remedy), "{table}");
    for part in ["ip_local_port_range", "30000-60999", "NodePorts 30080", reserve] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let (state, found) = row();
    assert!(state == "degraded" && found.contains(&format!("{reserve}30000-32767")), "{found}");
    assert_eq!(served.agent.readyz().unwrap().0, 200);

    sysctl("ip_local_reserved_ports", told.split(reserve).nth(1).unwrap().trim());
    wait::until(Duration::from_secs(20), "nothing to be told", || {
        served.agent.ignored().is_ok_and(|told| told.is_empty())
    })
    .unwrap();
}

/// State and finding of a row of `check` on a node.
fn check_row(node: &Node, requirement: &str) -> (String, String) {
    let lines = json_lines(&Printed { code: Some(0), ..agent(node, &["check", "-o", "json"]) });
    let lines = lines.unwrap();
    let row = lines.iter().find(|line| line["requirement"] == requirement).unwrap();
    let text = |key: &str| row[key].as_str().unwrap().to_owned();
    (text("state"), text("found"))
}

/// A Service and a slice with one good port, external IP and endpoint, and much
/// that is none.
fn odd(pod: &Pod) -> [Value; 2] {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "odd", "namespace": "default" },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"],
            "externalIPs": ["not-an-address", "127.0.0.1", "198.51.100.10"],
            "ports": [
                { "name": "good", "port": 80, "protocol": "TCP" },
                { "name": "zero", "port": 0, "protocol": "TCP" },
                { "name": "huge", "port": 70000, "protocol": "TCP" },
                { "name": "odd", "port": 81, "protocol": "QUIC" },
            ],
        },
    });
    let endpoint =
        |address: &str| json!({ "addresses": [address], "conditions": { "ready": true } });
    let good = pod.v4.to_string();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "odd", "namespace": "default",
            "labels": { "kubernetes.io/service-name": "odd" },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "good", "port": 8080, "protocol": "TCP" }],
        "endpoints": [
            endpoint("nonsense"), endpoint("fd00::1"), endpoint(&good),
            json!({ "addresses": [], "conditions": { "ready": true } }),
        ],
    });
    [service, slice]
}
