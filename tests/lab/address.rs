// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The address plan. Every lab has the same one: its namespaces see only each other.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Fabric address of the bridge, everybody's default gateway: it has no route on.
pub const GATEWAY: (Ipv4Addr, Ipv6Addr) = fabric(1);
/// Fabric address of the control plane.
pub const CONTROL: (Ipv4Addr, Ipv6Addr) = fabric(2);
/// Fabric address of the outside client.
pub const CLIENT: (Ipv4Addr, Ipv6Addr) = fabric(200);
/// Where the control plane takes each ClusterIP from, both families.
pub const SERVICE_RANGES: &str = "10.96.0.0/16,fd00:10:96::/112";
/// Pod addresses of all nodes, both families: the cluster CIDR.
pub const POD_RANGES: &str = "10.244.0.0/16,fd00:10:244::/48";
/// IPv6 next hop of every pod, on the node's end of its veth pair.
pub const POD_GATEWAY6: &str = "fe80::1";

/// Fabric address of node `index` (from 1).
pub const fn node(index: u8) -> (Ipv4Addr, Ipv6Addr) {
    fabric(10 + index)
}

/// Address of pod `pod` (from 1) on node `node` (from 1).
pub const fn pod(node: u8, pod: u8) -> (Ipv4Addr, Ipv6Addr) {
    let host = 9 + pod;
    (
        Ipv4Addr::new(10, 244, node, host),
        Ipv6Addr::new(0xfd00, 0x10, 0x244, node as u16, 0, 0, 0, host as u16),
    )
}

/// IPv4 next hop of the pods on node `node`.
pub const fn pod_gateway4(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, 1)
}

/// Pod ranges of node `node`: IPv4 /24 and IPv6 /64.
pub fn pod_ranges(node: u8) -> (String, String) {
    (format!("10.244.{node}.0/24"), format!("fd00:10:244:{node:x}::/64"))
}

/// Host `host` on the fabric, 192.168.50.0/24 and `fd00:50::/64`.
const fn fabric(host: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(192, 168, 50, host), Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, host as u16))
}
