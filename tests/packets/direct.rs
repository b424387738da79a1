// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets that go on unchanged to the node of their backend (SVC-12).

use lb_agent::plan::op::Op;
use lb_common::{
    addr::Addr,
    backend::{BackendFlags, Life, State},
    be::Be16,
    counter::Counter,
    flow::{FlowEntry, FlowFlags, TcpFlags},
    protocol::Protocol,
    service::{Algorithm, FrontendKind, ServiceFlags, SetWord},
    slot::Slot,
};

use crate::{
    bed::SMALL,
    frame::{
        ETHERNET, Frame, GATEWAY, NODE, PEER, Said, Segment, Transport, UPLINK, wrong_checksum,
    },
    node::{Hook, Node},
    pieces::pieces,
    table::{DROP, NEXT, REDIRECT, Row, Step},
    world::{NEW, WORLDS, World, ports, step},
};

impl World {
    fn direct_rows(self) -> Vec<Row> {
        let mut rows = vec![
            self.goes_on_unchanged(),
            self.another_device(),
            self.back_where_it_came_from(),
            self.a_known_flow_bounces(),
            self.direct_without_hops(),
            self.direct_errors(),
        ];
        if self.protocol == Protocol::TCP {
            rows.push(self.taken_over());
        }
        if self.protocol != Protocol::SCTP {
            rows.push(self.direct_pieces());
        }
        rows
    }

    /// What a client begins with, as it comes in by the uplink.
    fn came(self, from: [u8; 6]) -> Frame {
        let first = self.first(self.client(), self.vip(81));
        Frame { stations: [from, UPLINK], ..first }
    }

    /// What follows.
    fn follows(self, from: [u8; 6]) -> Frame {
        let first = self.came(from);
        match first.transport {
            Transport::Tcp(_) => Frame { transport: Transport::Tcp(Segment::data()), ..first },
            Transport::Sctp(_) => Frame { transport: Transport::Sctp(COOKIE_ECHO), ..first },
            Transport::Udp | Transport::BareUdp => first,
        }
    }

    /// But for its hops. What leaves again is no reply of ours.
    fn goes_on_unchanged(self) -> Row {
        let (first, next) = (self.came(PEER), self.follows(PEER));
        let (first_on, next_on) = (first.routed(), next.routed());
        let [first_out, next_out] =
            [&first_on, &next_on].map(|it| Frame { stations: [UPLINK, NODE], ..it.clone() });
        let known = &[Counter::FlowDirect];
        Row {
            name: self.name("direct"),
            steps: vec![
                step(Hook::Uplink, &first, REDIRECT, &first_on, &BEGUN),
                step(Hook::Egress, &first_out, NEXT, &first_out, &[Counter::PassNoReply]),
                step(Hook::Uplink, &first, REDIRECT, &first_on, known),
                step(Hook::Uplink, &next, REDIRECT, &next_on, known),
                step(Hook::Uplink, &next, REDIRECT, &next_on, known),
                step(Hook::Egress, &next_out, NEXT, &next_out, &[Counter::PassNoReply]),
            ],
        }
    }

    /// Nobody may wait for it where the way leads: it gets a source of the node.
    fn another_device(self) -> Row {
        let first = self.first(self.client(), self.vip(81));
        let to_pod = first.between(self.source(self.client().port()), self.there()).routed();
        Row {
            name: self.name("direct, but by another device"),
            steps: vec![
                step(Hook::Ingress, &first, REDIRECT, &to_pod, &NOT_DIRECT),
                step(Hook::Ingress, &first, REDIRECT, &to_pod, &[Counter::FlowForward]),
            ],
        }
    }

    /// A router between the nodes, or another node whose table differs.
    fn back_where_it_came_from(self) -> Row {
        let first = self.came(GATEWAY);
        let to_pod = first.between(self.source(self.client().port()), self.there()).routed();
        let mut steps = vec![step(Hook::Uplink, &first, REDIRECT, &to_pod, &NOT_DIRECT)];
        if self.protocol == Protocol::TCP {
            let other = self.at("203.0.113.8", "fd00:203::8", 62_000);
            let data = Frame { from: other, ..self.follows(GATEWAY) };
            let counted = &[Counter::FlowTakenOver, Counter::DroppedBounced];
            steps.push(step(Hook::Uplink, &data, DROP, &data, counted));
            steps.push(step(Hook::Uplink, &data, DROP, &data, counted));
        }
        Row { name: self.name("direct, but back where it came from"), steps }
    }

    /// Another node sends back what was sent to it: once, then it is decided anew.
    fn a_known_flow_bounces(self) -> Row {
        let (first, next) = (self.came(PEER), self.follows(PEER));
        let back = Frame { stations: [GATEWAY, UPLINK], ..next.clone() };
        let mut steps = vec![
            step(Hook::Uplink, &first, REDIRECT, &first.routed(), &BEGUN),
            step(Hook::Uplink, &next, REDIRECT, &next.routed(), &[Counter::FlowDirect]),
            step(Hook::Uplink, &back, DROP, &back, &[Counter::DroppedBounced]),
        ];
        if self.protocol != Protocol::SCTP {
            let again: &[Counter] =
                if self.protocol == Protocol::TCP { &TAKEN_OVER } else { &BEGUN };
            steps.push(step(Hook::Uplink, &next, REDIRECT, &next.routed(), again));
        }
        Row { name: self.name("direct, and sent back"), steps }
    }

    /// Its end is told, as by every router: what goes round is found.
    fn direct_without_hops(self) -> Row {
        let first = Frame { hops: 1, ..self.came(PEER) };
        let mut becomes = first.error(Said::TtlExpired);
        becomes[..12].copy_from_slice(&[PEER, UPLINK].concat());
        let counted = &[Counter::Translated, Counter::FlowBegun, Counter::TtlExpired];
        let (hook, packet, action) = (Hook::Uplink, first.bytes(), REDIRECT);
        let steps = vec![Step { hook, packet, action, becomes, counted }];
        Row { name: self.name("direct, at the end of its hops"), steps }
    }

    /// What a router says of a reply is for who sent that: the backend's node knows it.
    fn direct_errors(self) -> Row {
        let first = self.came(PEER);
        let reply = self.reply(self.vip(81), self.client());
        let mut packet = reply.error(Said::TooBig(1280));
        packet[..12].copy_from_slice(&[UPLINK, PEER].concat());
        let mut becomes = packet.clone();
        if self.ipv6 {
            becomes[ETHERNET + 7] -= 1;
        } else {
            becomes[ETHERNET + 8] -= 1;
            let sum = u16::from_be_bytes([becomes[ETHERNET + 10], becomes[ETHERNET + 11]]);
            let (sum, carried) = sum.overflowing_add(0x100);
            let sum = sum + u16::from(carried);
            becomes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
        }
        assert_eq!(wrong_checksum(&becomes), None);
        let counted = &[Counter::IcmpTranslated];
        Row {
            name: self.name("direct, an error about its reply"),
            steps: vec![
                step(Hook::Uplink, &first, REDIRECT, &first.routed(), &BEGUN),
                Step { hook: Hook::Uplink, packet, action: REDIRECT, becomes, counted },
            ],
        }
    }

    /// Another node had the connection.
    fn taken_over(self) -> Row {
        let next = self.follows(PEER);
        let end = Frame {
            transport: Transport::Tcp(Segment {
                flags: TcpFlags::FIN | TcpFlags::ACK,
                ..Segment::data()
            }),
            ..next.clone()
        };
        let first = self.came(PEER);
        let anew = [Counter::FlowRestarted].into_iter().chain(BEGUN).collect::<Vec<_>>().leak();
        Row {
            name: self.name("direct, another node's connection"),
            steps: vec![
                step(Hook::Uplink, &next, REDIRECT, &next.routed(), &TAKEN_OVER),
                step(Hook::Uplink, &next, REDIRECT, &next.routed(), &[Counter::FlowDirect]),
                step(Hook::Uplink, &end, REDIRECT, &end.routed(), &[Counter::FlowDirect]),
                step(Hook::Uplink, &first, REDIRECT, &first.routed(), anew),
            ],
        }
    }

    fn direct_pieces(self) -> Row {
        let whole = Frame { payload: (0..200).collect(), ..self.came(PEER) };
        let id = 0x4d00 | u16::from(self.protocol.number) << 1 | u16::from(self.ipv6);
        let came = pieces(&whole.bytes(), id, 96);
        let on = pieces(&whole.routed().bytes(), id, 96);
        let steps = came.into_iter().zip(on).enumerate().map(|(number, (packet, becomes))| {
            let counted: &[Counter] = if number == 0 { &BEGUN } else { &[Counter::FlowDirect] };
            Step { hook: Hook::Uplink, packet, action: REDIRECT, becomes, counted }
        });
        Row { name: self.name("direct, in pieces"), steps: steps.collect() }
    }
}

/// The ports of all worlds, whose remote backends by a VIP are to be reached unchanged.
fn node(algorithm: Algorithm) -> Node {
    let mut node = Node::new(&ports());
    for (record, world) in records() {
        let mut flags = ServiceFlags::from(FrontendKind::LoadBalancer) | ServiceFlags::DIRECT;
        flags.set(ServiceFlags::IPV6, world.ipv6);
        let set = SetWord::new(record, 1, algorithm).unwrap();
        node.apply(&[
            Op::Rules { index: record, flags, affinity_secs: 0 },
            Op::Outside { index: record, set },
        ]);
    }
    node
}

/// The record of each world's remote backend.
fn records() -> impl Iterator<Item = (u32, World)> {
    (2..).step_by(20).zip(WORLDS)
}

#[test]
fn svc_12_packets_go_on_unchanged_to_the_backends_node() {
    let mut node = node(Algorithm::Maglev);
    let rows: Vec<Row> = WORLDS.into_iter().flat_map(World::direct_rows).collect();
    for row in &rows {
        row.play(&mut node);
    }
    println!("{} rows", rows.len());
}

/// Without a table the backend's node would choose another backend.
#[test]
fn svc_12_a_set_that_is_no_table_is_not_reached_directly() {
    let node = node(Algorithm::Random);
    let ran = node.run(Hook::Uplink, &WORLDS[0].came(PEER).bytes());
    assert_eq!(ran.counted, NEW.map(|counter| (counter, 1)).into());
}

/// A backend that is the neighbour itself would get an address that it has not.
#[test]
fn svc_12_a_backend_on_the_link_is_not_reached_directly() {
    let node = node(Algorithm::Maglev);
    node.ip("route add 10.2.0.5/32 dev uplink");
    node.ip("route add fd00:10:2::5/128 dev uplink");
    for world in [WORLDS[0], WORLDS[3]] {
        let ran = node.run(Hook::Uplink, &world.came(PEER).bytes());
        assert_eq!(ran.counted, NOT_DIRECT.map(|counter| (counter, 1)).into());
    }
}

/// One half, which keeps a connection at its backend while the table changes; a new connection
/// with the same ports goes by the table.
#[test]
fn svc_12_a_connection_stays_at_its_backend_when_the_table_changes() {
    let mut node = node(Algorithm::Maglev);
    let world = WORLDS[0];
    let (first, next) = (world.came(PEER).bytes(), world.follows(PEER).bytes());
    node.run(Hook::Uplink, &first);
    let backend = |node: &Node| {
        let flows = node.flows();
        assert_eq!(flows.len(), 1, "{flows:?}");
        let half = *flows.values().next().unwrap();
        assert_eq!(half.flags(), FlowFlags::DIRECT);
        half.to.destination.to_string()
    };
    let (record, other) = (records().next().unwrap().0, 900);
    let port = Be16::from_host(8080);
    let address: std::net::Ipv4Addr = "10.2.0.6".parse().unwrap();
    let life = Life { generation: 1, state: State::Active as u8, protocol: Protocol::TCP, port };
    let address4 = Addr::from(address).to_v4().unwrap();
    let slot = Slot { address4, port, _pad: 0, backend: other, generation: 1 };
    let set = SetWord::new(other, 1, Algorithm::Maglev).unwrap();
    node.apply(&[
        Op::Backend { index: other, life, address: address.into(), flags: BackendFlags::empty() },
        Op::Slots { base: other, slots: Box::new([slot]) },
        Op::Outside { index: record, set },
    ]);
    for packet in [&next, &first, &next] {
        let ran = node.run(Hook::Uplink, packet);
        assert_eq!(ran.counted, [(Counter::FlowDirect, 1)].into());
        assert_eq!(backend(&node), "10.2.0.5");
    }
    let gone = Life { generation: 2, ..life };
    let flags = BackendFlags::empty();
    node.apply(&[Op::Backend { index: record, life: gone, address: address.into(), flags }]);
    node.run(Hook::Uplink, &next);
    assert_eq!(backend(&node), "10.2.0.5", "it is the backend's to end it");
    node.run(Hook::Uplink, &first);
    assert_eq!(backend(&node), "10.2.0.6");
}

/// What a full table has no room for goes on all the same.
#[test]
fn svc_12_a_flow_that_finds_no_room_goes_on_by_the_table() {
    let mut node = node(Algorithm::Maglev);
    let mut key = lb_common::flow::FlowKey::default();
    for number in 0..SMALL.flows {
        key.source_port = Be16::from_host(u16::try_from(number).unwrap());
        if node.try_put_flow(key, FlowEntry::default()).is_err() {
            break;
        }
    }
    let packet = WORLDS[0].came(PEER).bytes();
    for _ in 0..2 {
        let ran = node.run(Hook::Uplink, &packet);
        let counted = [Counter::Translated, Counter::FlowUnremembered, Counter::FlowDirect];
        assert_eq!(ran.counted, counted.map(|counter| (counter, 1)).into());
        assert_eq!(ran.action, REDIRECT);
    }
}

/// In front of the stack it is the same, but for the stations.
#[test]
fn svc_12_a_known_flow_is_sent_on_in_front_of_the_stack() {
    let node = node(Algorithm::Maglev);
    for world in &WORLDS[..4] {
        node.run(Hook::Uplink, &world.came(PEER).bytes());
        let next = world.follows(PEER);
        let classified = node.run(Hook::Uplink, &next.bytes());
        let sent = (0..64).map(|_| node.run(Hook::Xdp, &next.bytes())).find(|it| it.action == TX);
        let sent = sent.unwrap();
        assert_eq!(sent.counted, [(Counter::FlowDirect, 1)].into());
        assert_eq!(sent.bytes[..12], [GATEWAY, UPLINK].concat());
        assert_eq!(sent.bytes[12..], classified.bytes[12..]);
        let back = world.follows(GATEWAY).bytes();
        let ran = node.run(Hook::Xdp, &back);
        assert_eq!((ran.action, ran.bytes), (PASS, back));
    }
}

/// What the first packet of such a flow counts.
const BEGUN: [Counter; 3] = [Counter::Translated, Counter::FlowBegun, Counter::FlowDirect];
/// The first that comes to this node.
const TAKEN_OVER: [Counter; 3] = [Counter::FlowTakenOver, Counter::FlowBegun, Counter::FlowDirect];
/// The first of one that gets a source of this node.
const NOT_DIRECT: [Counter; 4] =
    [Counter::Translated, Counter::FlowNotDirect, Counter::FlowBegun, Counter::FlowForward];
/// A chunk that follows INIT (RFC 9260 3.3.11).
const COOKIE_ECHO: u8 = 10;
const PASS: i32 = 2;
const TX: i32 = 3;
