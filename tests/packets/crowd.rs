// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Services and flows beside those that a test is about.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
};

use lb_common::{
    be::Be16,
    flow::{FlowEntry, FlowKey, Seen},
    maps::Capacities,
    protocol::Protocol,
};

use crate::{
    bed::SMALL,
    node::{Node, Port, Serves, now_ns},
    world,
};

/// A node with every world's ports, and with as many Services (`SLUICE_SERVICES`) and open
/// flows (`SLUICE_FLOWS`) more as the environment says; none without it.
pub(crate) fn node() -> Node {
    let [services, flows] = ["SLUICE_SERVICES", "SLUICE_FLOWS"].map(|name| count(name, 0));
    let room = (services + 1000).next_power_of_two();
    let sizes = Capacities {
        frontends: room,
        services: room,
        slots: room.max(SMALL.slots),
        backends: room,
        flows: room_for(flows),
        ..SMALL
    };
    let mut ports = world::ports();
    ports.extend((0..services).map(service));
    let mut node = Node::sized(&ports, &sizes);
    // As if they had just been heard of, whenever this ends.
    let last_seen_ns = now_ns() + 3_600_000_000_000;
    node.fill_flows((0..flows).map(|number| halves(number, [OPEN, OPEN], last_seen_ns)));
    node
}

/// A number of the environment.
pub(crate) fn count(name: &str, usual: u32) -> u32 {
    env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Entries of FLOWS that so many flows and some more need.
pub(crate) fn room_for(flows: u32) -> u32 {
    (flows * 2 + 20_000).next_power_of_two()
}

/// Both halves of a connection of a client's to another node, heard of at a time.
pub(crate) fn halves(number: u32, seen: [Seen; 2], last_seen_ns: u64) -> [(FlowKey, FlowEntry); 2] {
    let [_, a, b, c] = number.to_be_bytes();
    let client = (Ipv4Addr::new(100, a, b, c).into(), Be16::from_host(40_000));
    let at = |address: [u8; 4], port| (Ipv4Addr::from(address).into(), Be16::from_host(port));
    let key = FlowKey::new(client, at([192, 0, 2, 100], 81), Protocol::TCP);
    // As if each had gone to a backend of its own, so that none wants for a port.
    let to = FlowKey::new(at([192, 0, 2, 1], 40_000), at([10, a | 128, b, c], 8080), Protocol::TCP);
    let forward = FlowEntry { to, last_seen_ns, seen: seen[0].bits(), ..FlowEntry::default() };
    let reply = FlowEntry { seen: seen[1].bits(), ..forward.other(&key) };
    [(key, forward), (forward.other_key(), reply)]
}

/// A Service with a backend on another node.
fn service(number: u32) -> Port {
    let [_, _, high, low] = number.to_be_bytes();
    Port {
        index: FIRST + number,
        frontend: SocketAddr::new(Ipv4Addr::new(10, 96, high, low).into(), 80),
        protocol: Protocol::TCP,
        serves: Serves::There(SocketAddr::new(Ipv4Addr::new(10, 2, high, low).into(), 8080)),
        guarded: false,
    }
}

/// What each direction of an open connection has seen.
pub(crate) const OPEN: Seen = Seen::ANY.union(Seen::SYN).union(Seen::DATA);
/// Index of the first Service: behind those of the worlds.
const FIRST: u32 = 200;
