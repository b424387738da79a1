// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NodePorts on addresses that come and go.

use std::{net::SocketAddr, time::Duration};

use lab::{
    Lab, need_lab,
    served::{Served, plain},
    wait,
    wire::{AskSpec, Family},
};

/// NP-04, NP-12: an address inside the list is served once the node has it, without a restart,
/// and no longer than that; the family without a CIDR in the list is unrestricted.
#[test]
fn np_12_node_ports_follow_the_nodes_addresses() {
    need_lab!();
    let served =
        Served::with(Lab::builder(), |spec| spec.arg("--nodeport-addresses=192.168.50.64/26"))
            .unwrap();
    let mut service = plain("web", 10);
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("NodePort".to_owned());
    for port in spec.ports.iter_mut().flatten() {
        port.node_port = Some(30080);
    }
    served.expose_as(service, &served.lab.pods()[2..]).unwrap();
    let node = served.node().unwrap();
    let driver = node.driver().unwrap();
    let answers = |to: SocketAddr| driver.ask(AskSpec::tcp(to)).is_ok();
    assert!(!answers(node.at(Family::V4, 30080)), "its address is not in the list");
    assert!(answers(node.at(Family::V6, 30080)), "unrestricted");
    let more: SocketAddr = "192.168.50.77:30080".parse().unwrap();
    for (line, expected) in [
        ("addr add 192.168.50.77/32 dev eth0", true),
        ("addr del 192.168.50.77/32 dev eth0", false),
    ] {
        node.place.ip(line).unwrap();
        wait::for_value(Duration::from_secs(5), line, || {
            let answer = served.agent.verb(&["explain", &more.to_string()])?.stdout;
            anyhow::ensure!(answer.contains("goes to") == expected, "{answer}");
            Ok(())
        })
        .unwrap();
        assert_eq!(answers(more), expected, "{line}");
    }
}
