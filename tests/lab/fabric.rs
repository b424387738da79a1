// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The wiring, as `ip` lines and settings: what each namespace gets.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::{
    address,
    netns::{Batch, Netns},
    node::Node,
    place::Place,
};

/// Settings that every namespace gets before its first interface, as later
/// ones inherit them.
///
/// # Errors
/// When the namespace cannot be entered or has no IPv6.
pub(crate) fn configure(netns: &Netns, forwards: bool) -> Result<()> {
    // First: turning forwarding on resets other settings of the namespace.
    let forwarding = if forwards { "1" } else { "0" };
    netns.set_sysctls(&[
        ("ipv4/ip_forward", forwarding),
        ("ipv6/conf/all/forwarding", forwarding),
    ])?;
    netns.set_sysctls(QUIET)
}

/// The bridge, and a port for each attached place.
pub(crate) fn bridge<'a>(attached: impl Iterator<Item = &'a Place>) -> Batch {
    let (v4, v6) = address::GATEWAY;
    let mut batch = Batch::default();
    batch
        .line("link set lo up")
        .line("link add name br0 type bridge stp_state 0 mcast_snooping 0")
        .line(format!("addr add {v4}/24 dev br0"))
        .line(format!("addr add {v6}/64 dev br0 nodad"));
    for place in attached {
        let (port, netns) = (&place.name, place.netns.name());
        batch
            .line(format!("link add name {port} type veth peer name eth0 netns {netns}"))
            .line(format!("link set {port} master br0"))
            .line(format!("link set {port} up"));
    }
    batch.line("link set br0 up");
    batch
}

/// A place on the fabric: its addresses and the way out.
pub(crate) fn attached(place: &Place) -> Batch {
    let (gateway4, gateway6) = address::GATEWAY;
    let mut batch = Batch::default();
    batch
        .line("link set lo up")
        .line(format!("addr add {}/24 dev eth0", place.v4))
        .line(format!("addr add {}/64 dev eth0 nodad", place.v6))
        .line("link set eth0 up")
        .line(format!("route add default via {gateway4}"))
        .line(format!("route add default via {gateway6} dev eth0"));
    batch
}

/// Routes to the pods of `nodes`, each through its node.
pub(crate) fn pod_routes<'a>(batch: &mut Batch, nodes: impl Iterator<Item = &'a Node>) {
    for node in nodes {
        let (range4, range6) = address::pod_ranges(node.index);
        batch
            .line(format!("route add {range4} via {}", node.place.v4))
            .line(format!("route add {range6} via {}", node.place.v6));
    }
}

/// The node's end of a pod's veth pair, and the routes to the pod. The node
/// talks to its pods from its own address, as behind a real CNI.
pub(crate) fn node_end(batch: &mut Batch, node: &Node, veth: &str, pod: &Place) {
    let gateway4 = address::pod_gateway4(node.index);
    batch
        .line(format!("link add name {veth} type veth peer name eth0 netns {}", pod.netns.name()))
        .line(format!("addr add {gateway4}/32 dev {veth}"))
        .line(format!("addr add {}/64 dev {veth} nodad", address::POD_GATEWAY6))
        .line(format!("link set {veth} up"))
        .line(format!("route add {}/32 dev {veth} src {}", pod.v4, node.place.v4))
        .line(format!("route add {}/128 dev {veth} src {}", pod.v6, node.place.v6));
}

/// The pod's end: one address a family, and a default route.
pub(crate) fn pod_end(node: &Node, (v4, v6): (Ipv4Addr, Ipv6Addr)) -> Batch {
    let gateway4 = address::pod_gateway4(node.index);
    let mut batch = Batch::default();
    batch
        .line("link set lo up")
        .line(format!("addr add {v4}/32 dev eth0"))
        .line(format!("addr add {v6}/128 dev eth0 nodad"))
        .line("link set eth0 up")
        .line(format!("route add {gateway4} dev eth0 scope link"))
        .line(format!("route add default via {gateway4}"))
        .line(format!("route add default via {} dev eth0", address::POD_GATEWAY6));
    batch
}

/// Addresses usable at once, nothing unasked for on the wire, ping sockets for
/// root, and TCP Fast
/// Open in both directions without a cookie round trip (`tcp_fastopen` in
/// ip-sysctl: 0x1 | 0x2 | 0x4 | 0x200 | 0x400).
const QUIET: &[(&str, &str)] = &[
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/tcp_fastopen", "1543"),
    ("ipv4/ping_group_range", "0 0"),
    // A load makes more connections than there are ports: reuse those that
    // wait for stray segments after a second.
    ("ipv4/tcp_tw_reuse", "1"),
];
