// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows of ICMP errors: about requests and about replies, whether the backend is here or there, by
//! the other end and by routers on the way.

use std::net::IpAddr;

use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder};
use lb_common::{counter::Counter, protocol::Protocol};

use crate::{
    frame::{ETHERNET, Frame, NODE, PEER},
    node::{Hook, own},
    table::{DROP, NEXT, REDIRECT, Row, Step},
    world::{NEW, World, step},
};

/// What an error says: type, code, and the rest of the header.
type Said = (u8, u8, [u8; 4]);

/// An error before and after: sender, receiver, hops that are left, and the packet that it quotes.
#[derive(Clone)]
struct Error {
    from: IpAddr,
    to: IpAddr,
    hops: u8,
    quoted: Vec<u8>,
}

/// Where errors come from and go to.
struct Way {
    name: &'static str,
    /// What opens the flow.
    opening: Vec<Step>,
    /// The packet as it left here, and as its sender knows it.
    quoted: [Vec<u8>; 2],
    hook: Hook,
    action: i32,
    /// Who reports, and who seems to.
    reporters: Vec<[IpAddr; 2]>,
    /// Who the error is for, and who gets it.
    receivers: [IpAddr; 2],
}

impl Error {
    fn bytes(&self, said: Said) -> Vec<u8> {
        let link = PacketBuilder::ethernet2(PEER, NODE);
        let (type_u8, code_u8, bytes5to8) = said;
        let mut bytes = Vec::new();
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let what = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
                let ip = link.ipv4(from.octets(), to.octets(), self.hops);
                ip.icmpv4(what).write_to_vec(&mut bytes, &self.quoted).unwrap();
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let what = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
                let ip = link.ipv6(from.octets(), to.octets(), self.hops);
                ip.icmpv6(what).write_to_vec(&mut bytes, &self.quoted).unwrap();
            }
            mixed => panic!("{mixed:?}"),
        }
        bytes
    }
}

/// "Destination unreachable" by somebody, about a packet.
pub(crate) fn unreachable(from: IpAddr, to: IpAddr, hops: u8, quoted: &[u8]) -> Vec<u8> {
    let kind = if from.is_ipv6() { 1 } else { 3 };
    Error { from, to, hops, quoted: quoted.to_vec() }.bytes((kind, 0, [0; 4]))
}

impl World {
    pub(crate) fn error_rows(self) -> Vec<Row> {
        let ways = [
            self.about_requests_there(),
            self.about_requests_here(),
            self.about_replies_from_there(),
            self.about_replies_from_here(),
        ];
        let translated = ways.into_iter().flat_map(|way| self.translated(&way));
        translated.chain(self.left_alone()).collect()
    }

    /// Every kind of error that is about a packet, quoting it whole and no more than it must.
    fn said(self) -> &'static [Said] {
        if self.ipv6 {
            &[
                (1, 0, [0; 4]),
                (1, 1, [0; 4]),
                (1, 4, [0; 4]),
                (2, 0, [0, 0, 5, 0]),
                (3, 0, [0; 4]),
                (3, 1, [0; 4]),
                (4, 0, [0, 0, 0, 6]),
            ]
        } else {
            &[
                (3, 0, [0; 4]),
                (3, 1, [0; 4]),
                (3, 3, [0; 4]),
                (3, 4, [0, 0, 5, 0x78]),
                (3, 13, [0; 4]),
                (11, 0, [0; 4]),
                (11, 1, [0; 4]),
                (12, 0, [9, 0, 0, 0]),
            ]
        }
    }

    fn router(self) -> IpAddr {
        self.at("10.99.0.1", "fd00:99::1", 0).ip()
    }

    /// A packet as an error quotes it.
    fn quotation(frame: &Frame) -> Vec<u8> {
        frame.bytes()[ETHERNET..].to_vec()
    }

    /// What an error quotes, before and after; the checksum of SCTP stays as it was.
    fn quotations(self, sent: &Frame, known: &Frame) -> [Vec<u8>; 2] {
        let (sent, mut known) = (Self::quotation(sent), Self::quotation(known));
        if self.protocol == Protocol::SCTP {
            let field = self.ip_len() + 8..self.ip_len() + 12;
            known[field.clone()].copy_from_slice(&sent[field]);
        }
        [sent, known]
    }

    fn ip_len(self) -> usize {
        if self.ipv6 { 40 } else { 20 }
    }

    fn about_requests_there(self) -> Way {
        let first = self.first(self.client(), self.vip(81));
        let sent = first.between(self.source(self.client().port()), self.there()).routed();
        let vip = self.vip(81).ip();
        Way {
            name: "about a request to another node",
            opening: vec![step(Hook::Ingress, &first, REDIRECT, &sent, &NEW)],
            quoted: self.quotations(&sent, &first.routed()),
            hook: Hook::Ingress,
            action: REDIRECT,
            reporters: vec![[self.there().ip(), vip], [self.router(), vip]],
            receivers: [own(self.ipv6).ip(), self.client().ip()],
        }
    }

    fn about_requests_here(self) -> Way {
        let first = self.first(self.client(), self.vip(80));
        let sent = first.between(self.client(), self.here());
        let vip = self.vip(80).ip();
        Way {
            name: "about a request to a local backend",
            opening: vec![step(Hook::Ingress, &first, NEXT, &sent, &NEW)],
            quoted: self.quotations(&sent, &first),
            hook: Hook::Egress,
            action: NEXT,
            reporters: vec![[self.here().ip(), vip], [own(self.ipv6).ip(), vip]],
            receivers: [self.client().ip(), self.client().ip()],
        }
    }

    fn about_replies_from_there(self) -> Way {
        let source = self.source(self.client().port());
        let first = self.first(self.client(), self.node_port());
        let reply = self.reply(self.there(), source);
        let sent = reply.between(self.node_port(), self.client()).routed();
        let to_pod = first.between(source, self.there()).routed();
        Way {
            name: "about a reply of another node",
            opening: vec![
                step(Hook::Ingress, &first, REDIRECT, &to_pod, &NEW),
                step(Hook::Ingress, &reply, REDIRECT, &sent, &[Counter::FlowReply]),
            ],
            quoted: self.quotations(&sent, &reply.routed()),
            hook: Hook::Ingress,
            action: REDIRECT,
            reporters: vec![[self.client().ip(), source.ip()], [self.router(), source.ip()]],
            receivers: [self.node_port().ip(), self.there().ip()],
        }
    }

    fn about_replies_from_here(self) -> Way {
        let first = self.first(self.client(), self.vip(80));
        let reply = self.reply(self.here(), self.client());
        let sent = reply.between(self.vip(80), self.client());
        let to_pod = first.between(self.client(), self.here());
        Way {
            name: "about a reply of a local backend",
            opening: vec![
                step(Hook::Ingress, &first, NEXT, &to_pod, &NEW),
                step(Hook::Egress, &reply, NEXT, &sent, &[Counter::FlowReply]),
            ],
            quoted: self.quotations(&sent, &reply),
            hook: Hook::Ingress,
            action: NEXT,
            reporters: vec![
                [self.client().ip(), self.client().ip()],
                [self.router(), self.router()],
            ],
            receivers: [self.vip(80).ip(), self.here().ip()],
        }
    }

    /// A row for each reporter: all that it may say, in full and as short as RFC 792 has it.
    fn translated(self, way: &Way) -> Vec<Row> {
        let Way { name, opening, quoted: [sent, known], hook, action, reporters, receivers } = way;
        let (hook, action) = (*hook, *action);
        let least = self.ip_len() + 8;
        let row = |(number, [reporter, seems]): (usize, [IpAddr; 2])| {
            let errors = self.said().iter().flat_map(|said| {
                [sent.len(), least].map(|len| {
                    let routed = if action == REDIRECT { 49 } else { 50 };
                    let before = Error {
                        from: reporter,
                        to: receivers[0],
                        hops: 50,
                        quoted: sent[..len].to_vec(),
                    };
                    let after = Error {
                        from: seems,
                        to: receivers[1],
                        hops: routed,
                        quoted: known[..len].to_vec(),
                    };
                    Step {
                        hook,
                        packet: before.bytes(*said),
                        action,
                        becomes: after.bytes(*said),
                        counted: &[Counter::IcmpTranslated],
                    }
                })
            });
            let by = if number == 0 { "by its receiver" } else { "by a router" };
            let name = self.name(&format!("an error {name}, {by}"));
            Row { name, steps: opening.iter().cloned().chain(errors).collect() }
        };
        reporters.iter().copied().enumerate().map(row).collect()
    }

    /// Errors that are about no flow, or lie, and ICMP that is no error.
    fn left_alone(self) -> Vec<Row> {
        let Way { opening, quoted: [sent, _], receivers, .. } = self.about_requests_there();
        let unreachable = self.said()[0];
        let right = Error { from: self.there().ip(), to: receivers[0], hops: 50, quoted: sent };
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut error = right.clone();
            change(&mut error.quoted);
            error.bytes(unreachable)
        };
        let (ip, transport) = (self.ip_len(), self.ip_len());
        let elsewhere = Error { to: self.vip(81).ip(), ..right.clone() };
        let (later, len, protocol) = if self.ipv6 { (6, 5, 6) } else { (7, 3, 9) };
        let mut rows = vec![
            ("of another port", with(&|it| it[transport] ^= 1), Counter::PassIcmp),
            ("of another protocol", with(&|it| it[protocol] = 1), Counter::PassIcmp),
            ("to another address", elsewhere.bytes(unreachable), Counter::PassIcmpMalformed),
            ("cut short", with(&|it| it.truncate(ip + 7)), Counter::PassIcmpMalformed),
            ("cut within IP", with(&|it| it.truncate(ip - 1)), Counter::PassIcmpMalformed),
            ("of another version", with(&|it| it[0] = 0x55), Counter::PassIcmpMalformed),
            ("of a packet without ports", with(&|it| it[len] = 7), Counter::PassIcmpMalformed),
            ("of nothing", with(&Vec::clear), Counter::PassIcmpMalformed),
            ("that is an echo request", right.bytes(self.echo()), Counter::PassProtocol),
            ("that is a redirect", right.bytes(self.redirect()), Counter::PassProtocol),
        ];
        if !self.ipv6 {
            rows.push((
                "of a later fragment",
                with(&|it| it[later] = 1),
                Counter::PassIcmpMalformed,
            ));
            rows.push((
                "with a header that is too short",
                with(&|it| it[0] = 0x44),
                Counter::PassIcmpMalformed,
            ));
        }
        let row = |(name, packet, counter)| self.untouched(name, &opening, packet, counter);
        let mut rows: Vec<Row> = rows.into_iter().map(row).collect();
        rows.push(self.at_the_end_of_its_hops());
        rows.push(self.forged());
        rows
    }

    fn untouched(self, name: &str, opening: &[Step], packet: Vec<u8>, why: Counter) -> Row {
        let counted: &'static [Counter] = Box::leak(Box::new([why]));
        let (hook, becomes) = (Hook::Ingress, packet.clone());
        let untouched = Step { hook, packet, action: NEXT, becomes, counted };
        let steps = opening.iter().cloned().chain([untouched]).collect();
        Row { name: self.name(&format!("an error {name}")), steps }
    }

    fn echo(self) -> Said {
        if self.ipv6 { (128, 0, [0; 4]) } else { (8, 0, [0; 4]) }
    }

    fn redirect(self) -> Said {
        if self.ipv6 { (137, 0, [0; 4]) } else { (5, 0, [0; 4]) }
    }

    /// RFC 1122 3.2.2: nobody is told about an error.
    fn at_the_end_of_its_hops(self) -> Row {
        let Way { mut opening, quoted: [quoted, _], receivers, .. } = self.about_requests_there();
        let error = Error { from: self.there().ip(), to: receivers[0], hops: 1, quoted };
        let packet = error.bytes(self.said()[0]);
        let counted = &[Counter::DroppedUnanswered];
        let becomes = packet.clone();
        opening.push(Step { hook: Hook::Ingress, packet, action: DROP, becomes, counted });
        Row { name: self.name("an error at the end of its hops"), steps: opening }
    }

    /// What went to a local backend is nothing that anybody outside has seen.
    fn forged(self) -> Row {
        let Way { mut opening, quoted: [quoted, _], receivers, .. } = self.about_requests_here();
        let error = Error { from: self.here().ip(), to: receivers[0], hops: 50, quoted };
        let packet = error.bytes(self.said()[0]);
        let becomes = packet.clone();
        let counted = &[Counter::PassIcmp];
        opening.push(Step { hook: Hook::Ingress, packet, action: NEXT, becomes, counted });
        Row { name: self.name("an error from outside in a local backend's name"), steps: opening }
    }
}
