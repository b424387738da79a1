// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The packet table: what becomes of packets, both families and both protocols alike.

use std::net::SocketAddr;

use lb_common::{
    be::Be16, config::PortRange, counter::Counter, flow::FlowKey, protocol::Protocol, snat::Ports,
};

use crate::{
    frame::{Frame, Said, Segment, Transport},
    node::{Hook, Node, Port, Serves, own},
    table::{DROP, NEXT, REDIRECT, Row, Step},
};

/// One family and protocol.
#[derive(Clone, Copy)]
struct World {
    ipv6: bool,
    protocol: Protocol,
}

const WORLDS: [World; 4] = [
    World { ipv6: false, protocol: Protocol::TCP },
    World { ipv6: false, protocol: Protocol::UDP },
    World { ipv6: true, protocol: Protocol::TCP },
    World { ipv6: true, protocol: Protocol::UDP },
];

impl World {
    fn at(self, v4: &str, v6: &str, port: u16) -> SocketAddr {
        let address = if self.ipv6 { v6 } else { v4 };
        SocketAddr::new(address.parse().unwrap(), port)
    }

    fn client(self) -> SocketAddr {
        self.at("203.0.113.7", "fd00:203::7", 62_000)
    }

    /// A client inside the ranges of the guarded port.
    fn friend(self) -> SocketAddr {
        self.at("198.51.100.9", "fd00:198::9", 62_000)
    }

    fn vip(self, port: u16) -> SocketAddr {
        self.at("192.0.2.100", "fd00:100::1", port)
    }

    fn here(self) -> SocketAddr {
        self.at("10.1.0.5", "fd00:10:1::5", 8080)
    }

    fn there(self) -> SocketAddr {
        self.at("10.2.0.5", "fd00:10:2::5", 8080)
    }

    fn node_port(self) -> SocketAddr {
        SocketAddr::new(own(self.ipv6).ip(), 30_080)
    }

    fn source(self, port: u16) -> SocketAddr {
        SocketAddr::new(own(self.ipv6).ip(), port)
    }

    /// What a client begins with.
    fn first(self, from: SocketAddr, to: SocketAddr) -> Frame {
        match self.protocol {
            Protocol::TCP => Frame::tcp(from, to, Segment::syn()),
            _ => Frame::udp(from, to),
        }
    }

    /// What a backend answers.
    fn reply(self, from: SocketAddr, to: SocketAddr) -> Frame {
        match self.protocol {
            Protocol::TCP => Frame::tcp(from, to, Segment::syn_ack()),
            _ => Frame::udp(from, to),
        }
    }

    fn name(self, what: &str) -> String {
        format!("{what}, {} over IPv{}", self.protocol, if self.ipv6 { 6 } else { 4 })
    }

    fn ports(self, first: u32) -> Vec<Port> {
        let port = |offset, frontend, serves, guarded| Port {
            index: first + offset,
            frontend,
            protocol: self.protocol,
            serves,
            guarded,
        };
        vec![
            port(0, self.vip(80), Serves::Here(self.here()), false),
            port(1, self.vip(81), Serves::There(self.there()), false),
            port(2, self.vip(82), Serves::Nobody, false),
            port(3, self.vip(83), Serves::NobodyHere, false),
            port(4, self.vip(84), Serves::Here(self.here()), true),
            port(5, self.node_port(), Serves::ThereByNodePort(self.there()), false),
            port(6, self.vip(86), Serves::Here(self.here()), false),
            port(7, self.vip(87), Serves::There(self.there()), false),
        ]
    }

    fn rows(self) -> Vec<Row> {
        vec![
            self.local(),
            self.remote("a remote backend by a VIP", self.vip(81)),
            self.remote("a remote backend by a NodePort", self.node_port()),
            self.refused(),
            self.silent(),
            self.outside_of_the_ranges(),
            self.inside_of_the_ranges(),
            self.no_frontend(),
            self.no_more_hops(),
            self.two_frontends_of_one_backend(),
            self.forged_reply(),
        ]
    }

    /// LB-01, NOEP: the stack gets a packet from the client to the pod.
    fn local(self) -> Row {
        let first = self.first(self.client(), self.vip(80));
        let reply = self.reply(self.here(), self.client());
        let to_pod = first.between(self.client(), self.here());
        let to_client = reply.between(self.vip(80), self.client());
        Row {
            name: self.name("a local backend"),
            steps: vec![
                step(Hook::Ingress, &first, NEXT, &to_pod, &NEW),
                step(Hook::Egress, &reply, NEXT, &to_client, &[Counter::FlowReply]),
                step(Hook::Ingress, &first, NEXT, &to_pod, &[Counter::FlowForward]),
            ],
        }
    }

    /// NP-01, TRP-12: another node's backend sees the node.
    fn remote(self, name: &str, frontend: SocketAddr) -> Row {
        let source = self.source(self.client().port());
        let first = self.first(self.client(), frontend);
        let reply = self.reply(self.there(), source);
        let to_pod = first.between(source, self.there()).routed();
        let to_client = reply.between(frontend, self.client()).routed();
        Row {
            name: self.name(name),
            steps: vec![
                step(Hook::Ingress, &first, REDIRECT, &to_pod, &NEW),
                step(Hook::Egress, &to_pod, NEXT, &to_pod, &[Counter::PassNoReply]),
                step(Hook::Ingress, &reply, REDIRECT, &to_client, &[Counter::FlowReply]),
                step(Hook::Ingress, &first, REDIRECT, &to_pod, &[Counter::FlowForward]),
            ],
        }
    }

    /// NOEP-01: told at once.
    fn refused(self) -> Row {
        let first = self.first(self.client(), self.vip(82));
        let (answer, counted): (_, &[Counter]) = match first.transport {
            Transport::Tcp(_) => {
                (first.reset(), &[Counter::RefusedNoEndpoints, Counter::AnsweredReset])
            }
            _ => (
                first.error(Said::PortUnreachable),
                &[Counter::RefusedNoEndpoints, Counter::AnsweredUnreachable],
            ),
        };
        let (hook, packet, action) = (Hook::Ingress, first.bytes(), REDIRECT);
        let steps = vec![Step { hook, packet, action, becomes: answer, counted }];
        Row { name: self.name("nobody serves"), steps }
    }

    /// NOEP-03: silence.
    fn silent(self) -> Row {
        let first = self.first(self.client(), self.vip(83));
        let counted = &[Counter::DroppedNoLocalEndpoints];
        let steps = vec![step(Hook::Ingress, &first, DROP, &first, counted)];
        Row { name: self.name("nobody serves on this node"), steps }
    }

    /// LB-06.
    fn outside_of_the_ranges(self) -> Row {
        let first = self.first(self.client(), self.vip(84));
        let counted = &[Counter::DroppedSourceRange];
        let steps = vec![step(Hook::Ingress, &first, DROP, &first, counted)];
        Row { name: self.name("outside of the ranges"), steps }
    }

    /// LB-06.
    fn inside_of_the_ranges(self) -> Row {
        let first = self.first(self.friend(), self.vip(84));
        let to_pod = first.between(self.friend(), self.here());
        let steps = vec![step(Hook::Ingress, &first, NEXT, &to_pod, &NEW)];
        Row { name: self.name("inside of the ranges"), steps }
    }

    /// NP-06, NP-07: what is nobody's is left alone.
    fn no_frontend(self) -> Row {
        let pass = |to, counted| {
            let first = self.first(self.client(), to);
            step(Hook::Ingress, &first, NEXT, &first, counted)
        };
        let elsewhere = self.at("192.0.2.50", "fd00:192::50", 30_080);
        Row {
            name: self.name("no frontend"),
            steps: vec![
                pass(self.vip(99), &[Counter::PassNoFrontend]),
                pass(self.at("10.9.9.9", "fd00:9::9", 80), &[Counter::PassNoFrontend]),
                pass(elsewhere, &[Counter::PassNodePortElsewhere]),
            ],
        }
    }

    /// Traceroute sees this hop.
    fn no_more_hops(self) -> Row {
        let first = Frame { hops: 1, ..self.first(self.client(), self.vip(81)) };
        let counted = &[Counter::Translated, Counter::TtlExpired];
        let becomes = first.error(Said::TtlExpired);
        let (hook, packet, action) = (Hook::Ingress, first.bytes(), REDIRECT);
        let steps = vec![Step { hook, packet, action, becomes, counted }];
        Row { name: self.name("at the end of its hops"), steps }
    }

    /// One client port, two frontends, one backend: the second flow gets a port of its own.
    fn two_frontends_of_one_backend(self) -> Row {
        let first = self.first(self.client(), self.vip(80));
        let second = self.first(self.client(), self.vip(86));
        let client = (self.client().ip().into(), Be16::from_host(self.client().port()));
        let dialled = (self.vip(86).ip().into(), Be16::from_host(86));
        let hash = FlowKey::new(client, dialled, self.protocol).hash();
        let port = Ports::outside(PortRange::default()).candidate(client.1, hash, 1).unwrap();
        let other = SocketAddr::new(self.client().ip(), port.to_host());
        let reply = self.reply(self.here(), other);
        let to_client = reply.between(self.vip(86), self.client());
        let (one, two) =
            (first.between(self.client(), self.here()), second.between(other, self.here()));
        Row {
            name: self.name("two frontends of one backend"),
            steps: vec![
                step(Hook::Ingress, &first, NEXT, &one, &NEW),
                step(Hook::Ingress, &second, NEXT, &two, &NEW),
                step(Hook::Egress, &reply, NEXT, &to_client, &[Counter::FlowReply]),
                step(Hook::Ingress, &second, NEXT, &two, &[Counter::FlowForward]),
            ],
        }
    }

    /// Who writes from outside in a local backend's name is not answered for.
    fn forged_reply(self) -> Row {
        let first = self.first(self.client(), self.vip(80));
        let to_pod = first.between(self.client(), self.here());
        let forged = self.reply(self.here(), self.client());
        Row {
            name: self.name("a reply from outside in a local backend's name"),
            steps: vec![
                step(Hook::Ingress, &first, NEXT, &to_pod, &NEW),
                step(Hook::Ingress, &forged, NEXT, &forged, &[Counter::PassNoFrontend]),
            ],
        }
    }
}

fn step(
    hook: Hook,
    packet: &Frame,
    action: i32,
    becomes: &Frame,
    counted: &'static [Counter],
) -> Step {
    Step { hook, packet: packet.bytes(), action, becomes: becomes.bytes(), counted }
}

/// Every world's ports.
pub(crate) fn ports() -> Vec<Port> {
    (1..).step_by(20).zip(WORLDS).flat_map(|(first, world)| world.ports(first)).collect()
}

#[test]
fn packet_table() {
    let mut node = Node::new(&ports());
    let rows: Vec<Row> = WORLDS.into_iter().flat_map(World::rows).collect();
    for row in &rows {
        row.play(&mut node);
    }
    println!("{} rows", rows.len());
}

/// What the first packet of a flow counts.
const NEW: [Counter; 2] = [Counter::Translated, Counter::FlowForward];
