// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices whose packets begin with the IP header.
//!
//! A test run takes what is handed in for an Ethernet frame, and tells the family by what is at
//! the EtherType's place: in these packets that is part of the sender's address, which is chosen
//! so. IPv6 packets have a traffic class that makes them look like a multicast frame, as IPv4's
//! do: others would be for another station.

use std::net::SocketAddr;

use lb_common::{counter::Counter, protocol::Protocol};

use crate::{
    frame::{ETHERNET, Frame, Segment, Transport},
    node::{Hook, Node, Port, Serves},
    table::{NEXT, REDIRECT, Row, Step},
    world::{NEW, WORLDS, World},
};

/// LB-01, TRP-12, NOEP-01: what the packet table says of a local backend, of a remote one and of
/// none holds without Ethernet headers as well. What goes on to a neighbour gets one, which the
/// kernel fills in.
#[test]
fn packets_without_ethernet_headers_are_served_alike() {
    let ports: Vec<_> =
        (1..).step_by(20).zip(WORLDS).flat_map(|(at, it)| it.bare_ports(at)).collect();
    let mut node = Node::new(&ports);
    node.load_bare();
    for way in ["8.0.2.0/24 via 192.0.2.2", "2001:db8:86dd:2::/64 via fd00:192::2"] {
        node.ip(&format!("route add {way}"));
    }
    for world in WORLDS {
        for row in world.bare_rows() {
            row.play(&mut node);
        }
    }
}

impl World {
    fn bare_ports(self, first: u32) -> Vec<Port> {
        let serves =
            [Serves::Here(self.bare(1, 8080)), Serves::There(self.bare(2, 8080)), Serves::Nobody];
        let ports = (80..).zip(serves).zip(first..);
        let port = |((port, serves), index)| Port {
            index,
            frontend: self.vip(port),
            protocol: self.protocol,
            serves,
            guarded: false,
        };
        ports.map(port).collect()
    }

    fn bare_rows(self) -> Vec<Row> {
        let mut rows = vec![self.bare_local(), self.bare_remote(), self.bare_stranger()];
        rows.extend((self.protocol == Protocol::TCP).then(|| self.bare_refused()));
        rows
    }

    /// Somebody in a network whose addresses are an EtherType at the right place.
    fn bare(self, network: u8, port: u16) -> SocketAddr {
        self.at(&format!("8.0.{network}.5"), &format!("2001:db8:86dd:{network}::5"), port)
    }

    fn bare_local(self) -> Row {
        let (client, here) = (self.bare(0, 62_000), self.bare(1, 8080));
        let first = self.first(client, self.vip(80));
        let reply = self.reply(here, client);
        let next = next(&first);
        let mut steps = vec![
            bare(Hook::BareIngress, &first, NEXT, &first.between(client, here), &NEW),
            bare(
                Hook::BareEgress,
                &reply,
                NEXT,
                &reply.between(self.vip(80), client),
                &[Counter::FlowReply],
            ),
        ];
        // The short way has nothing more to learn the second time.
        let again = bare(
            Hook::BareIngress,
            &next,
            NEXT,
            &next.between(client, here),
            &[Counter::FlowForward],
        );
        steps.extend([again.clone(), again]);
        Row { name: self.name("without Ethernet headers, a local backend"), steps }
    }

    fn bare_remote(self) -> Row {
        let (client, there) = (self.bare(0, 62_000), self.bare(2, 8080));
        let source = self.source(client.port());
        let first = self.first(client, self.vip(81));
        let reply = self.reply(there, source);
        let next = next(&first);
        let on = |packet: &Frame, from, to, counted| {
            let becomes = packet.between(from, to).routed();
            let step = bare(Hook::BareIngress, packet, REDIRECT, &becomes, counted);
            Step { becomes: [vec![0; ETHERNET], step.becomes.clone()].concat(), ..step }
        };
        let again = on(&next, source, there, &[Counter::FlowForward]);
        let steps = vec![
            on(&first, source, there, &NEW),
            on(&reply, self.vip(81), client, &[Counter::FlowReply]),
            again.clone(),
            again,
        ];
        Row { name: self.name("without Ethernet headers, a remote backend"), steps }
    }

    fn bare_stranger(self) -> Row {
        let packet = self.first(self.bare(0, 62_000), self.at("10.9.9.9", "fd00:9::9", 80));
        let pass = |hook, counted| bare(hook, &packet, NEXT, &packet, counted);
        let steps = vec![
            pass(Hook::BareIngress, &[Counter::PassNoFrontend]),
            pass(Hook::BareEgress, &[Counter::PassNoReply]),
        ];
        Row { name: self.name("without Ethernet headers, no frontend"), steps }
    }

    fn bare_refused(self) -> Row {
        let first = self.first(self.bare(0, 62_000), self.vip(82));
        let counted = &[Counter::RefusedNoEndpoints, Counter::AnsweredReset];
        let step = bare(Hook::BareIngress, &first, REDIRECT, &first, counted);
        let becomes = first.reset().split_off(ETHERNET);
        let steps = vec![Step { becomes, ..step }];
        Row { name: self.name("without Ethernet headers, no endpoints"), steps }
    }
}

/// What a client says after it began.
fn next(first: &Frame) -> Frame {
    match first.transport {
        Transport::Tcp(_) => Frame::tcp(first.from, first.to, Segment::data()),
        _ => first.clone(),
    }
}

fn bare(
    hook: Hook,
    packet: &Frame,
    action: i32,
    becomes: &Frame,
    counted: &'static [Counter],
) -> Step {
    Step { hook, packet: stripped(packet), action, becomes: stripped(becomes), counted }
}

/// A packet from its IP header on.
fn stripped(packet: &Frame) -> Vec<u8> {
    let mut bytes = packet.bytes().split_off(ETHERNET);
    bytes[0] |= 1;
    bytes
}
