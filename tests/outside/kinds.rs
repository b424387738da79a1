// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices above the uplink: a bridge whose port it is, and a macvlan device. The guests have
//! bonds, VLANs and tunnels.

use lab::{address, need_lab, wire::Family};

use crate::{
    bed::{Bed, PROTOCOLS, Way},
    devices::at_devices,
    reach,
};

/// TRP-12: the device that has the addresses and routes is served, and the one below it no more.
#[test]
fn trp_12_a_bridge_and_a_macvlan_device_above_the_uplink_are_served() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    bed.expose(&pods, |_| {});
    at_devices(&bed.served, &["eth0"]);
    bed.through(bed.node(1));
    // By default a device answers for the addresses of all others.
    bed.node(1).netns.set_sysctls(&[("ipv4/conf/all/arp_ignore", "1")]).unwrap();
    for Device { name, make, below } in DEVICES {
        let node = bed.node(1);
        for line in make {
            node.ip(line).unwrap();
        }
        give_addresses(&bed, name);
        for line in below {
            node.ip(line).unwrap();
        }
        lead_through(&bed, name);
        at_devices(&bed.served, &[name]);
        for (way, family) in
            [Way::Vip, Way::NodePort].into_iter().flat_map(|way| Family::BOTH.map(|it| (way, it)))
        {
            for protocol in PROTOCOLS {
                let to = (protocol, way.at(node, family));
                let seen = reach::answering(&bed, node, to, pods.len());
                assert_eq!(seen.len(), pods.len(), "{protocol} {way:?} {family:?} by {name}");
            }
        }
    }
}

/// The node's addresses are there twice for a moment: with the last one the kernel would remove
/// the pods' routes, too.
fn give_addresses(bed: &Bed, device: &str) {
    let node = bed.node(1);
    node.ip(&format!("link set {device} up")).unwrap();
    node.ip(&format!("addr add {}/24 dev {device}", node.v4)).unwrap();
    node.ip(&format!("addr add {}/64 dev {device} nodad", node.v6)).unwrap();
}

/// The routes to others lead through a device, whose station is a new one to them.
fn lead_through(bed: &Bed, device: &str) {
    let (node, other) = (bed.node(1), bed.node(2));
    let (gateway4, gateway6) = address::GATEWAY;
    let (range4, range6) = address::pod_ranges(other.index);
    for line in [
        format!("route replace default via {gateway4}"),
        format!("route replace default via {gateway6} dev {device}"),
        format!("route replace {range4} via {}", other.v4),
        format!("route replace {range6} via {}", other.v6),
    ] {
        node.ip(&line).unwrap();
    }
    for place in [bed.served.lab.client(), &other.place] {
        place.ip("neigh flush dev eth0").unwrap();
    }
}

/// A device above `eth0`.
struct Device {
    name: &'static str,
    /// What makes it.
    make: &'static [&'static str],
    /// What becomes of the device that had the addresses.
    below: &'static [&'static str],
}

const DEVICES: [Device; 2] = [
    Device {
        name: "br1",
        make: &["link add br1 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"],
        below: &["addr flush dev eth0", "link set eth0 master br1"],
    },
    Device {
        name: "mac1",
        make: &["link set eth0 nomaster", "link add mac1 link eth0 type macvlan mode bridge"],
        below: &["link del br1"],
    },
];
