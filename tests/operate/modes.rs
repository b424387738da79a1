// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where kube-proxy's modes differ, seen from the node (MOD): as in nftables mode.

use std::net::SocketAddr;

use lab::{
    driver::Driver,
    need_lab,
    served::{Served, plain},
    wire::AskSpec,
};
use serde_json::json;

/// MOD-07, MOD-10, MOD-14: a VIP and an externalIP without endpoints refuse processes of the
/// node, too; whoever is outside of the ranges gets no answer; and neither address is on a
/// device or has a neighbour entry.
#[test]
fn mod_07_10_and_14_addresses_without_endpoints_refuse_and_are_on_no_device() {
    need_lab!();
    let served = Served::start().unwrap();
    let node = served.node().unwrap();
    let mut service = plain("web", 10);
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.external_ips = Some(vec!["198.51.100.10".to_owned()]);
    // The node's own addresses are admitted, those of pods are not.
    spec.load_balancer_source_ranges = Some(vec!["192.168.50.0/24".to_owned()]);
    let ingress = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.10" }] } });
    service.status = serde_json::from_value(ingress).unwrap();
    served.expose_as(service, &[]).unwrap();

    let told = |driver: &Driver, to: &str| {
        let to: SocketAddr = to.parse().unwrap();
        let asks = [AskSpec::tcp(to), AskSpec::udp(to), AskSpec::udp_unconnected(to)];
        asks.map(|ask| driver.ask(ask).unwrap_err().name)
    };
    let host = node.driver().unwrap();
    assert_eq!(told(&host, "198.51.100.10:80"), ["ECONNREFUSED"; 3]);
    assert_eq!(told(&host, "203.0.113.10:80"), ["ECONNREFUSED"; 3]);
    let pod = served.lab.pod("pod-1-1").unwrap().driver().unwrap();
    assert_eq!(told(&pod, "198.51.100.10:80"), ["ECONNREFUSED"; 3]);
    assert_eq!(told(&pod, "203.0.113.10:80"), ["ETIMEDOUT"; 3]);

    for words in [["-o", "addr", "show"], ["neigh", "show", "proxy"], ["-o", "link", "show"]] {
        let shown = node.output("ip", words).unwrap();
        for part in ["198.51.100.10", "203.0.113.10", "kube-ipvs0"] {
            assert!(!shown.contains(part), "{part}: {shown}");
        }
    }
}
