// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Objects with nonsense in them: that value is lost, its siblings work.

use std::time::Duration;

use anyhow::ensure;
use lab::{
    need_lab,
    pod::Pod,
    served::{Served, cluster_ips, vip},
    wait,
    wire::{AskSpec, Family},
};
use serde_json::{Value, json};

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
