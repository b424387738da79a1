// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes to where ClusterIPs are, and to no frontend.

use std::net::SocketAddr;

use lab::{
    Lab,
    driver::Driver,
    need_lab,
    served::{Served, cluster_ips, vip},
    wait,
    wire::{AskSpec, Family},
};
use serde_json::json;

/// CIP-04, CIP-05, CIP-06, MOD-01, MOD-02: another port of a ClusterIP refuses; a free address
/// of a ServiceCIDR is silent; what is outside of every ServiceCIDR is left alone.
#[test]
fn cip_04_cip_05_other_ports_refuse_and_free_addresses_are_silent() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let web = served.expose("web", 10, &pods[2..]).unwrap();
    let pod = pods[0].driver().unwrap();
    let node = served.node().unwrap().driver().unwrap();
    let free = cluster_ips(99).map(|ip| SocketAddr::new(ip, 80));
    let others = Family::BOTH.map(|family| {
        let frontend = vip(family, 10);
        SocketAddr::new(frontend.ip(), 81)
    });
    // Without any ServiceCIDR a ClusterIP is one all the same.
    for driver in [&pod, &node] {
        for to in &others {
            ends(driver, *to, "ECONNREFUSED");
        }
    }
    assert_eq!(served.agent.counter("dropped_free_address").unwrap(), 0);
    served
        .manifests
        .write("cidrs", &[service_cidr(&["10.96.0.0/16", "fd00:10:96::/112"])])
        .unwrap();
    wait::for_value(std::time::Duration::from_secs(10), "the ServiceCIDR", || {
        let answer = served.agent.verb(&["explain", &free[1].to_string()])?.stdout;
        anyhow::ensure!(answer.contains("(CIP-05)"), "{answer}");
        Ok(())
    })
    .unwrap();
    for driver in [&pod, &node] {
        for (other, free) in others.iter().zip(&free) {
            ends(driver, *other, "ECONNREFUSED");
            ends(driver, *free, "ETIMEDOUT");
        }
        driver.ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap();
    }
    // Another node's pod, and its closed port: nobody's business.
    is_left_alone(&pod, SocketAddr::new(pods[2].place.address(Family::V4), 81));
    let before = served.agent.counter("dropped_free_address").unwrap();
    // UPD-11: a deleted Service's address is a free one.
    web.withdraw().unwrap();
    served.await_gone(&vip(Family::V4, 10).to_string()).unwrap();
    ends(&pod, vip(Family::V4, 10), "ETIMEDOUT");
    assert!(served.agent.counter("dropped_free_address").unwrap() > before);
}

/// MOD-01, MOD-02: switched off, both are left to routing.
#[test]
fn mod_01_mod_02_the_guard_can_be_switched_off() {
    need_lab!();
    let served =
        Served::with(Lab::builder(), |spec| spec.arg("--guard-cluster-ips=false")).unwrap();
    served.manifests.write("cidrs", &[service_cidr(&["10.96.0.0/16"])]).unwrap();
    let pods = served.lab.pods();
    let _web = served.expose("web", 10, &pods[2..]).unwrap();
    let answer = |to: &str| served.agent.verb(&["explain", to]).unwrap().stdout;
    assert!(answer("10.96.0.10:81").contains("passes untouched"), "{}", answer("10.96.0.10:81"));
    assert!(answer("10.96.0.99:80").contains("passes untouched"), "{}", answer("10.96.0.99:80"));
    assert_eq!(served.agent.counter("refused_unknown_port").unwrap(), 0);
}

fn service_cidr(cidrs: &[&str]) -> serde_json::Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes" },
        "spec": { "cidrs": cidrs },
    })
}

/// Every call ends with this errno, at once.
fn ends(driver: &Driver, to: SocketAddr, errno: &str) {
    for ask in [AskSpec::tcp(to), AskSpec::udp(to), AskSpec::udp_unconnected(to)] {
        let call = if ask.unconnected { "sendto" } else { "connect" };
        let error = driver.ask(ask.clone()).unwrap_err();
        assert_eq!((error.call.as_str(), error.name.as_str()), (call, errno), "{ask:?}");
    }
}

/// The kernel of the other end refuses, not the program.
fn is_left_alone(driver: &Driver, to: SocketAddr) {
    assert_eq!(driver.ask(AskSpec::tcp(to)).unwrap_err().name, "ECONNREFUSED");
}
