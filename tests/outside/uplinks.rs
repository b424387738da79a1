// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Nodes with two ways to each other.

use std::net::IpAddr;

use lab::{need_lab, node::Node, wire::Family};

use crate::{
    bed::{Bed, PROTOCOLS, Way},
    devices::at_devices,
};

/// MSQ-04: a flow to the other node's pods leaves by the interface that routes say, and with the
/// node's primary address, which is another interface's. The answer is the client's whether it
/// comes back to that address by its own interface or by the way that the flow went.
#[test]
fn msq_04_a_flow_that_leaves_by_another_uplink_has_the_primary_address() {
    need_lab!();
    let bed = Bed::with(|spec| spec.arg("--devices").arg("eth0,eth1"));
    let (node, other) = (bed.node(1), bed.node(2));
    second_uplink(node, other);
    at_devices(&bed.served, &["eth0", "eth1"]);
    bed.expose(&bed.pods()[2..3], |_| {});
    for back_by_it in [false, true] {
        if back_by_it {
            for family in Family::BOTH {
                let (primary, own) = (node.address(family), uplink(node, family));
                other.ip(&format!("route add {primary} via {own}")).unwrap();
            }
        }
        let before = (sent(node), sent(other));
        for (family, protocol) in Family::BOTH.into_iter().flat_map(|it| PROTOCOLS.map(|p| (it, p)))
        {
            let echo = bed.ask(protocol, Way::NodePort.at(node, family)).unwrap();
            assert_eq!(echo.client.ip(), node.address(family), "{protocol}");
        }
        assert!(sent(node) >= before.0 + 4, "the flows leave by eth1");
        assert_eq!(sent(other) >= before.1 + 4, back_by_it, "the way of the answers");
    }
}

/// A wire between two nodes beside the fabric, and their ways to each other's pods by it.
fn second_uplink(node: &Node, other: &Node) {
    let netns = other.place.netns.name();
    node.ip(&format!("link add eth1 type veth peer name eth1 netns {netns}")).unwrap();
    for here in [node, other] {
        let [v4, v6] = Family::BOTH.map(|family| uplink(here, family));
        here.ip(&format!("addr add {v4}/24 dev eth1")).unwrap();
        here.ip(&format!("addr add {v6}/64 dev eth1 nodad")).unwrap();
        here.ip("link set eth1 up").unwrap();
    }
    for (here, there) in [(node, other), (other, node)] {
        let (range4, range6) = lab::address::pod_ranges(there.index);
        for (range, family) in [(range4, Family::V4), (range6, Family::V6)] {
            here.ip(&format!("route replace {range} via {}", uplink(there, family))).unwrap();
        }
    }
}

/// A node's address on its second uplink.
fn uplink(node: &Node, family: Family) -> IpAddr {
    let host = 10 + u16::from(node.index);
    let text = match family {
        Family::V4 => format!("192.168.60.{host}"),
        Family::V6 => format!("fd00:60::{host:x}"),
    };
    text.parse().unwrap()
}

/// Packets that a node has sent by its second uplink.
fn sent(node: &Node) -> u64 {
    let text = node.output("ip", ["-s", "-j", "link", "show", "dev", "eth1"]).unwrap();
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    links.pointer("/0/stats64/tx/packets").and_then(serde_json::Value::as_u64).unwrap()
}
