// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the rows have in common: the addresses and ports of each family and protocol.

use std::net::SocketAddr;

use lb_common::{counter::Counter, protocol::Protocol};

use crate::{
    frame::{Frame, Said, Segment, Transport},
    node::{Hook, Port, Serves, own},
    table::{REDIRECT, Step},
};

/// One family and protocol.
#[derive(Clone, Copy)]
pub(crate) struct World {
    pub(crate) ipv6: bool,
    pub(crate) protocol: Protocol,
}

pub(crate) const WORLDS: [World; 6] = [
    World { ipv6: false, protocol: Protocol::TCP },
    World { ipv6: false, protocol: Protocol::UDP },
    World { ipv6: true, protocol: Protocol::TCP },
    World { ipv6: true, protocol: Protocol::UDP },
    World { ipv6: false, protocol: Protocol::SCTP },
    World { ipv6: true, protocol: Protocol::SCTP },
];

impl World {
    pub(crate) fn at(self, v4: &str, v6: &str, port: u16) -> SocketAddr {
        let address = if self.ipv6 { v6 } else { v4 };
        SocketAddr::new(address.parse().unwrap(), port)
    }

    pub(crate) fn client(self) -> SocketAddr {
        self.at("203.0.113.7", "fd00:203::7", 62_000)
    }

    /// A client inside the ranges of the guarded port.
    pub(crate) fn friend(self) -> SocketAddr {
        self.at("198.51.100.9", "fd00:198::9", 62_000)
    }

    pub(crate) fn vip(self, port: u16) -> SocketAddr {
        self.at("192.0.2.100", "fd00:100::1", port)
    }

    pub(crate) fn here(self) -> SocketAddr {
        self.at("10.1.0.5", "fd00:10:1::5", 8080)
    }

    pub(crate) fn there(self) -> SocketAddr {
        self.at("10.2.0.5", "fd00:10:2::5", 8080)
    }

    pub(crate) fn node_port(self) -> SocketAddr {
        SocketAddr::new(own(self.ipv6).ip(), 30_080)
    }

    pub(crate) fn source(self, port: u16) -> SocketAddr {
        SocketAddr::new(own(self.ipv6).ip(), port)
    }

    /// What a client begins with.
    pub(crate) fn first(self, from: SocketAddr, to: SocketAddr) -> Frame {
        match self.protocol {
            Protocol::TCP => Frame::tcp(from, to, Segment::syn()),
            Protocol::SCTP => Frame::sctp(from, to, INIT),
            _ => Frame::udp(from, to),
        }
    }

    /// What a backend answers.
    pub(crate) fn reply(self, from: SocketAddr, to: SocketAddr) -> Frame {
        match self.protocol {
            Protocol::TCP => Frame::tcp(from, to, Segment::syn_ack()),
            Protocol::SCTP => Frame::sctp(from, to, INIT_ACK),
            _ => Frame::udp(from, to),
        }
    }

    pub(crate) fn name(self, what: &str) -> String {
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
}

pub(crate) fn step(
    hook: Hook,
    packet: &Frame,
    action: i32,
    becomes: &Frame,
    counted: &'static [Counter],
) -> Step {
    Step { hook, packet: packet.bytes(), action, becomes: becomes.bytes(), counted }
}

/// A packet to a Service without endpoints: its sender is told.
pub(crate) fn refused(packet: &Frame) -> Step {
    let (becomes, counted): (_, &[Counter]) = match packet.transport {
        Transport::Tcp(_) => {
            (packet.reset(), &[Counter::RefusedNoEndpoints, Counter::AnsweredReset])
        }
        _ => (
            packet.error(Said::PortUnreachable),
            &[Counter::RefusedNoEndpoints, Counter::AnsweredUnreachable],
        ),
    };
    Step { hook: Hook::Ingress, packet: packet.bytes(), action: REDIRECT, becomes, counted }
}

/// Every world's ports.
pub(crate) fn ports() -> Vec<Port> {
    (1..).step_by(20).zip(WORLDS).flat_map(|(first, world)| world.ports(first)).collect()
}

/// The chunks that an association begins with (RFC 9260 3.3.2, 3.3.3).
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// What the first packet of a flow counts.
pub(crate) const NEW: [Counter; 3] =
    [Counter::Translated, Counter::FlowBegun, Counter::FlowForward];
