// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What becomes of packets when tables and flows are not as a row finds them: backends that are
//! gone, tables that are full, links that are narrow, headers that are odd.

use std::net::SocketAddr;

use lb_agent::plan::op::Op;
use lb_common::{
    addr::Addr,
    backend::{Life, State},
    be::Be16,
    counter::Counter,
    flow::{FlowEntry, FlowKey, Seen},
    protocol::Protocol,
};

use crate::{
    frame::{ETHERNET, Frame, Said, Segment, Transport},
    node::{Hook, Node, own},
    pieces::pieces,
    table::{DROP, NEXT, REDIRECT},
    world,
};

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// A datagram to the remote backend that has index 22 (the second world's second port).
fn datagram() -> Frame {
    Frame::udp(at("203.0.113.7:62000"), at("192.0.2.100:81"))
}

/// A connection to the remote backend that has index 2.
fn opening() -> Frame {
    Frame::tcp(at("203.0.113.7:62000"), at("192.0.2.100:81"), Segment::syn())
}

/// What the first packet of a flow counts, in the counters' order.
fn is_new(node: &Node, packet: &Frame) -> bool {
    let ran = node.run(Hook::Ingress, &packet.bytes());
    assert_eq!(ran.action, REDIRECT, "{:?}", ran.counted);
    ran.counted.contains_key(&Counter::Translated)
}

fn life(index: u32, state: State, generation: u32, protocol: Protocol) -> Op {
    let port = Be16::from_host(8080);
    Op::Life { index, life: Life { generation, state: state as u8, protocol, port } }
}

/// CT-01, CT-07: datagrams find another backend, connections stay.
#[test]
fn a_backend_that_is_gone_loses_its_datagrams_and_keeps_its_connections() {
    let mut node = Node::new(&world::ports());
    assert!(is_new(&node, &datagram()) && is_new(&node, &opening()));
    let answer = Frame::tcp(at("10.2.0.5:8080"), own_port(62_000), Segment::syn_ack());
    assert_eq!(node.run(Hook::Ingress, &answer.bytes()).action, REDIRECT);
    let data = Frame { transport: Transport::Tcp(Segment::data()), ..opening() };
    assert!(!is_new(&node, &data) && !is_new(&node, &datagram()));
    node.apply(&[life(22, State::Dead, 2, Protocol::UDP), life(2, State::Dead, 2, Protocol::TCP)]);
    let ran = node.run(Hook::Ingress, &datagram().bytes());
    assert!(ran.counted.contains_key(&Counter::FlowRestarted), "{:?}", ran.counted);
    assert!(!is_new(&node, &data), "an established connection");
    // A terminating one keeps what it has (KEP-1669).
    node.apply(&[life(22, State::Terminating, 1, Protocol::UDP)]);
    let _begun = node.run(Hook::Ingress, &datagram().bytes());
    assert!(!is_new(&node, &datagram()));
}

fn own_port(port: u16) -> SocketAddr {
    SocketAddr::new(own(false).ip(), port)
}

/// A client that takes a port again opens another connection, if the one before is closed.
#[test]
fn a_closed_connections_port_can_be_taken_again() {
    let mut node = Node::new(&world::ports());
    assert!(is_new(&node, &opening()) && !is_new(&node, &opening()), "a SYN again is no new flow");
    for (key, entry) in node.flows() {
        let seen = entry.seen() | Seen::SYN | Seen::DATA | Seen::FIN;
        node.put_flow(key, FlowEntry { seen: seen.bits(), ..entry });
    }
    assert!(is_new(&node, &opening()));
    assert_eq!(node.flows().len(), 2, "the flow before is gone");
}

/// A client keeps its address and port on the way to a pod of this node. If it takes the port
/// again for a connection to the pod itself, only the pod's answers are met here: they are none
/// of the closed connection's.
#[test]
fn a_closed_connections_port_can_be_taken_again_for_the_pod_itself() {
    for world in world::WORLDS.into_iter().filter(|world| world.protocol == Protocol::TCP) {
        let mut node = Node::new(&world::ports());
        let first = world.first(world.client(), world.vip(80));
        assert_eq!(node.run(Hook::Ingress, &first.bytes()).action, NEXT);
        let answer = world.reply(world.here(), world.client());
        let counts = |node: &Node, packet: &Frame, counter| {
            let ran = node.run(Hook::Egress, &packet.bytes());
            assert_eq!(ran.action, NEXT);
            assert!(ran.counted.contains_key(&counter), "{:?}", ran.counted);
            ran.bytes == packet.bytes()
        };
        assert!(!counts(&node, &answer, Counter::FlowReply), "it leaves in the frontend's name");
        let data = Frame { transport: Transport::Tcp(Segment::data()), ..answer.clone() };
        assert!(!counts(&node, &data, Counter::FlowReply));
        assert!(!counts(&node, &answer, Counter::FlowReply), "a handshake's answer, late");
        for (key, entry) in node.flows() {
            let seen = entry.seen() | Seen::SYN | Seen::DATA | Seen::FIN;
            node.put_flow(key, FlowEntry { seen: seen.bits(), ..entry });
        }
        assert!(!counts(&node, &data, Counter::FlowReply), "a straggler");
        assert!(counts(&node, &answer, Counter::PassNoReply), "another connection's");
        assert!(counts(&node, &data, Counter::PassNoReply) && node.flows().is_empty());
    }
}

/// Idle longer than its time-out, and not yet collected: a new flow.
#[test]
fn a_flow_that_is_over_begins_anew() {
    let mut node = Node::new(&world::ports());
    assert!(is_new(&node, &datagram()) && !is_new(&node, &datagram()));
    for (key, entry) in node.flows() {
        node.put_flow(key, FlowEntry { last_seen_ns: 0, ..entry });
    }
    assert!(is_new(&node, &datagram()));
}

/// A full table drops what is new, and what is known goes on.
#[test]
fn a_full_table_serves_the_flows_that_it_has() {
    let mut node = Node::new(&world::ports());
    assert!(is_new(&node, &datagram()));
    let end = |last: u32| (Addr::from(std::net::Ipv4Addr::from(last)), Be16::from_host(1));
    for other in 0..2000 {
        let key = FlowKey::new(end(other), end(7), Protocol::UDP);
        if node.try_put_flow(key, FlowEntry::default()).is_err() {
            break;
        }
    }
    let ran = node.run(Hook::Ingress, &opening().bytes());
    assert_eq!(ran.action, DROP);
    assert!(ran.counted.contains_key(&Counter::DroppedFlowsFull), "{:?}", ran.counted);
    assert!(!is_new(&node, &datagram()), "the flow that was there");
}

/// Every port that is tried is another flow's.
#[test]
fn a_flow_without_a_free_port_is_dropped() {
    let mut node = Node::new(&world::ports());
    let one = Addr::from(std::net::Ipv4Addr::new(10, 2, 0, 5));
    let own = Addr::from(own(false).ip());
    node.configure(|config| {
        config.local_ports = lb_common::config::PortRange { first: 1100, end: 65_536 };
    });
    for port in (1024..1100).chain([62_000]) {
        let key =
            FlowKey::new((one, Be16::from_host(8080)), (own, Be16::from_host(port)), Protocol::TCP);
        node.put_flow(key, FlowEntry::default());
    }
    let ran = node.run(Hook::Ingress, &opening().bytes());
    assert_eq!(ran.action, DROP);
    assert!(ran.counted.contains_key(&Counter::DroppedNoPort), "{:?}", ran.counted);
}

#[test]
fn without_an_address_or_a_route_nothing_leaves() {
    let mut node = Node::new(&world::ports());
    let dropped = |node: &Node, counter| {
        let ran = node.run(Hook::Ingress, &opening().bytes());
        assert_eq!(ran.action, DROP);
        assert!(ran.counted.contains_key(&counter), "{:?}", ran.counted);
    };
    node.configure(|config| config.snat4 = Addr::ZERO);
    dropped(&node, Counter::DroppedNoAddress);
    node.configure(|config| config.snat4 = own(false).ip().into());
    node.ip("route add unreachable 10.2.0.5");
    dropped(&node, Counter::DroppedNoRoute);
    node.ip("route del unreachable 10.2.0.5");
    assert!(!is_new(&node, &opening()));
}

/// The sender hears what passes, in both families.
#[test]
fn a_packet_that_is_too_big_is_told_so() {
    let node = Node::new(&world::ports());
    node.ip("link set uplink mtu 1300");
    let six = Frame::udp(at("[fd00:203::7]:62000"), at("[fd00:100::1]:81"));
    for frame in [datagram(), six] {
        let frame = Frame { payload: vec![7; 1400], ..frame };
        let ran = node.run(Hook::Ingress, &frame.bytes());
        assert_eq!(ran.action, REDIRECT);
        assert!(ran.counted.contains_key(&Counter::TooBig), "{:?}", ran.counted);
        assert_eq!(ran.bytes, frame.error(Said::TooBig(1300)));
    }
}

#[test]
fn packets_that_are_none_of_ours_are_left_alone() {
    let node = Node::new(&world::ports());
    let mut for_another = datagram().bytes();
    for_another[0] = 2;
    let mut arp = datagram().bytes();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut icmp = datagram().bytes();
    icmp[ETHERNET + 9] = 1;
    let mut lying = datagram().bytes();
    lying[ETHERNET + 2] = 9;
    let data = Frame { transport: Transport::Tcp(Segment::data()), ..opening() };
    for (packet, counter) in [
        (for_another, Counter::PassNotIp),
        (arp, Counter::PassNotIp),
        (icmp, Counter::PassProtocol),
        (lying, Counter::PassMalformed),
        (data.bytes(), Counter::PassNoFlow),
    ] {
        let ran = node.run(Hook::Ingress, &packet);
        assert_eq!((ran.action, ran.counted), (NEXT, [(counter, 1)].into()));
        assert_eq!(ran.bytes, packet);
    }
}

/// A piece goes round for its first one, but not for long, and for others of its packet no more.
#[test]
fn a_piece_whose_first_one_does_not_come_is_left_to_the_stack() {
    let node = Node::new(&world::ports());
    let pieces = pieces(&Frame { payload: vec![7; 300], ..datagram() }.bytes(), 7, 96);
    let ran = node.run(Hook::Ingress, &pieces[1]);
    assert_eq!((ran.action, ran.counted), (REDIRECT, [(Counter::FragmentWaited, 1)].into()));
    let waited = std::time::Instant::now();
    while node.run(Hook::Ingress, &pieces[1]).action == REDIRECT {
        assert!(waited.elapsed() < std::time::Duration::from_secs(1));
    }
    for piece in &pieces[1..] {
        let ran = node.run(Hook::Ingress, piece);
        assert_eq!((ran.action, ran.counted), (NEXT, [(Counter::PassFragment, 1)].into()));
        assert_eq!(&ran.bytes, piece);
    }
    assert!(is_new(&node, &datagram()), "no flow was begun");
}

/// An error neither begins a flow nor keeps one.
#[test]
fn an_error_does_not_touch_its_flow() {
    let mut node = Node::new(&world::ports());
    assert!(is_new(&node, &datagram()));
    let sent = datagram().between(own_port(62_000), at("10.2.0.5:8080"));
    let mut error = sent.error(Said::PortUnreachable);
    error[..12].rotate_left(6);
    let flows: Vec<_> = node
        .flows()
        .into_iter()
        .map(|(key, entry)| (key, FlowEntry { last_seen_ns: 1, ..entry }))
        .collect();
    for (key, entry) in &flows {
        node.put_flow(*key, *entry);
    }
    let ran = node.run(Hook::Ingress, &error);
    assert_eq!((ran.action, ran.counted), (REDIRECT, [(Counter::IcmpTranslated, 1)].into()));
    assert_eq!(node.flows().into_iter().collect::<Vec<_>>(), flows);
    node.forget_flows();
    let ran = node.run(Hook::Ingress, &error);
    assert_eq!((ran.action, ran.counted), (NEXT, [(Counter::PassIcmp, 1)].into()));
    assert!(node.flows().is_empty());
}

/// RFC 1812 4.3.2.8: at most so many errors are sent; who looks for a path's limit hears always.
#[test]
fn errors_are_sent_as_often_as_the_kernel_would() {
    let node = Node::new(&world::ports());
    let refused = Frame::udp(at("203.0.113.7:62000"), at("192.0.2.100:82"));
    let counted = node.run_often(Hook::Ingress, &refused.bytes(), 500);
    let of = |counter| counted.get(&counter).copied().unwrap_or_default();
    let (answered, suppressed) = (of(Counter::AnsweredUnreachable), of(Counter::AnswerSuppressed));
    assert_eq!(answered + suppressed, 500);
    assert!(answered >= 50 && suppressed > 0, "{answered} answered");
    node.ip("link set uplink mtu 1300");
    let large = Frame { payload: vec![7; 1400], ..datagram() }.bytes();
    let counted = node.run_often(Hook::Ingress, &large, 500);
    assert_eq!(counted.get(&Counter::TooBig), Some(&500), "{counted:?}");
}
