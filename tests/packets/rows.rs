// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The packet table: what becomes of packets, both families and all protocols alike. Here the
//! rows that every packet path has; those of `errors`, `pieces` and `odd` are played with them.

use std::net::SocketAddr;

use lb_common::{be::Be16, config::PortRange, counter::Counter, flow::FlowKey, snat::Ports};

use crate::{
    frame::{Frame, Said},
    node::{Hook, Node},
    table::{DROP, NEXT, REDIRECT, Row, Step},
    world::{NEW, WORLDS, World, ports, refused, step},
};

impl World {
    pub(crate) fn rows(self) -> Vec<Row> {
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
            self.two_frontends_of_one_remote_backend(),
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
        let steps = vec![refused(&self.first(self.client(), self.vip(82)))];
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
        let counted = &[Counter::Translated, Counter::FlowBegun, Counter::TtlExpired];
        let becomes = first.error(Said::TtlExpired);
        let (hook, packet, action) = (Hook::Ingress, first.bytes(), REDIRECT);
        let steps = vec![Step { hook, packet, action, becomes, counted }];
        Row { name: self.name("at the end of its hops"), steps }
    }

    /// One client port, two frontends, one backend: the second flow gets a port of its own.
    fn two_frontends_of_one_backend(self) -> Row {
        let first = self.first(self.client(), self.vip(80));
        let second = self.first(self.client(), self.vip(86));
        let other = SocketAddr::new(self.client().ip(), self.second_port(86));
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

    /// The same of another node's: neither flow gets the other's replies.
    fn two_frontends_of_one_remote_backend(self) -> Row {
        let (vip, other_vip) = (self.vip(81), self.vip(87));
        let first = self.first(self.client(), vip);
        let second = self.first(self.client(), other_vip);
        let sources = [self.client().port(), self.second_port(87)].map(|port| self.source(port));
        let [one, two] = sources;
        let reply = |source, vip| {
            let reply = self.reply(self.there(), source);
            let to_client = reply.between(vip, self.client()).routed();
            step(Hook::Ingress, &reply, REDIRECT, &to_client, &[Counter::FlowReply])
        };
        let (to_one, to_two) =
            (first.between(one, self.there()).routed(), second.between(two, self.there()).routed());
        Row {
            name: self.name("two frontends of one backend of another node"),
            steps: vec![
                step(Hook::Ingress, &first, REDIRECT, &to_one, &NEW),
                step(Hook::Ingress, &second, REDIRECT, &to_two, &NEW),
                reply(two, other_vip),
                reply(one, vip),
                step(Hook::Ingress, &second, REDIRECT, &to_two, &[Counter::FlowForward]),
                step(Hook::Ingress, &first, REDIRECT, &to_one, &[Counter::FlowForward]),
            ],
        }
    }

    /// The source port of a flow of the client's to this port of the VIP, if its own is taken.
    fn second_port(self, port: u16) -> u16 {
        let client = (self.client().ip().into(), Be16::from_host(self.client().port()));
        let dialled = (self.vip(port).ip().into(), Be16::from_host(port));
        let hash = FlowKey::new(client, dialled, self.protocol).hash();
        let port = Ports::outside(PortRange::default()).candidate(client.1, hash, 1);
        port.unwrap().to_host()
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

#[test]
fn packet_table() {
    let mut node = Node::new(&ports());
    let topics = [World::rows, World::error_rows, World::piece_rows, World::odd_rows];
    let rows: Vec<Row> =
        topics.iter().flat_map(|topic| WORLDS.into_iter().flat_map(topic)).collect();
    for row in &rows {
        row.play(&mut node);
    }
    let steps: usize = rows.iter().map(|row| row.steps.len()).sum();
    println!("{} rows, {steps} packets", rows.len());
    assert!(rows.len() >= 150, "{} rows", rows.len());
}
