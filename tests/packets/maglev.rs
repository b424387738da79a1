// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A Maglev set (SVC-11): which backend a client gets, and packets of flows that another node
//! had.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use lb_agent::plan::op::Op;
use lb_common::{
    backend::{BackendFlags, Life, State},
    be::{Be16, Be32},
    counter::Counter,
    protocol::Protocol,
    service::{Algorithm, ServiceFlags, SetWord},
    slot::Slot,
};

use crate::{
    frame::{ETHERNET, Frame, Segment},
    node::{Hook, Node, Ran},
    table::{NEXT, REDIRECT},
    world,
};

/// The frontend of the remote backend that has index 2.
const VIP: &str = "192.0.2.100:81";
const RECORD: u32 = 2;
/// First slot, index of the first backend, and how many there are.
const BASE: u32 = 500;
const FIRST: u32 = 200;
const BACKENDS: u32 = 4;
const SLOTS: u32 = 251;

/// A node whose record 2 has a set of four backends. Each has many slots.
fn node(algorithm: Algorithm, flags: ServiceFlags) -> Node {
    let mut node = Node::new(&world::ports());
    let port = Be16::from_host(8080);
    let address = |index: u32| Ipv4Addr::from(0x0a02_0010 + index);
    let life = Life { generation: 1, state: State::Active as u8, protocol: Protocol::TCP, port };
    let backends = (0..BACKENDS).map(|index| Op::Backend {
        index: FIRST + index,
        life,
        address: address(index).into(),
        flags: BackendFlags::empty(),
    });
    let slots = (0..SLOTS).map(|slot| Slot {
        address4: Be32 { bytes: address(slot % BACKENDS).octets() },
        port,
        _pad: 0,
        backend: FIRST + slot % BACKENDS,
        generation: 1,
    });
    let set = SetWord::new(BASE, SLOTS, algorithm).unwrap();
    let mut ops: Vec<_> = backends.collect();
    ops.push(Op::Slots { base: BASE, slots: slots.collect() });
    ops.push(Op::Inside { index: RECORD, set });
    ops.push(Op::Outside { index: RECORD, set });
    ops.push(Op::Rules { index: RECORD, flags, affinity_secs: 60 });
    node.apply(&ops);
    node
}

fn client(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([203, 0, 113, host]), port)
}

fn segment(from: SocketAddr, segment: Segment) -> Frame {
    Frame::tcp(from, VIP.parse().unwrap(), segment)
}

/// The backend that a packet went to.
fn backend(ran: &Ran) -> Ipv4Addr {
    assert_eq!(ran.action, REDIRECT, "{:?}", ran.counted);
    let octets = &ran.bytes[ETHERNET + 16..ETHERNET + 20];
    <[u8; 4]>::try_from(octets).unwrap().into()
}

fn open(node: &Node, from: SocketAddr) -> Ipv4Addr {
    backend(&node.run(Hook::Ingress, &segment(from, Segment::syn()).bytes()))
}

/// A second node that knows nothing but the same set.
#[test]
fn svc_11_a_connection_goes_on_through_another_node_at_the_same_backend() {
    let (first, mut shares) = (node(Algorithm::Maglev, ServiceFlags::empty()), BTreeMap::new());
    let chosen: Vec<_> = (0..FLOWS).map(|it| open(&first, client(7, 40_000 + it))).collect();
    drop(first);
    let second = node(Algorithm::Maglev, ServiceFlags::empty());
    for (at, before) in (0..FLOWS).zip(chosen) {
        let data = segment(client(7, 40_000 + at), Segment::data()).bytes();
        let ran = second.run(Hook::Ingress, &data);
        assert_eq!(ran.counted.get(&Counter::FlowTakenOver), Some(&1), "{:?}", ran.counted);
        assert_eq!(backend(&ran), before);
        let again = second.run(Hook::Ingress, &data);
        assert_eq!(again.counted, [(Counter::FlowForward, 1)].into(), "now it is a flow's");
        *shares.entry(before).or_insert(0) += 1;
    }
    assert_eq!(shares.len(), BACKENDS as usize, "{shares:?}");
}

/// All other Services leave what they do not know to the stack.
#[test]
fn svc_11_a_segment_of_no_flow_to_a_random_set_is_left_alone() {
    let node = node(Algorithm::Random, ServiceFlags::empty());
    let ran = node.run(Hook::Ingress, &segment(client(7, 40_000), Segment::data()).bytes());
    assert_eq!((ran.action, ran.counted), (NEXT, [(Counter::PassNoFlow, 1)].into()));
    assert_eq!(node.flows().len(), 0);
}

/// AFF-01: with ClientIP affinity a client has one backend for all its ports, on every node.
#[test]
fn svc_11_with_affinity_the_clients_address_alone_chooses() {
    let mut chosen = Vec::new();
    for _ in 0..2 {
        let node = node(Algorithm::Maglev, ServiceFlags::AFFINITY);
        chosen.push((1..32).map(|host| open(&node, client(host, 40_000))).collect::<Vec<_>>());
        for (host, before) in (1..32).zip(&chosen[0]) {
            assert_eq!(open(&node, client(host, 40_001)), *before);
        }
    }
    assert_eq!(chosen[0], chosen[1]);
    chosen[0].sort_unstable();
    chosen[0].dedup();
    assert_eq!(chosen[0].len(), BACKENDS as usize);
}

/// Flows of the test: enough that each backend gets some.
const FLOWS: u16 = 32;
