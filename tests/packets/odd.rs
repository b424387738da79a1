// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows of packets that are not as most are: long headers, padding, lying lengths, missing
//! checksums.

use lb_common::{counter::Counter, protocol::Protocol};

use crate::{
    frame::{ETHERNET, Frame, Head, Transport},
    node::Hook,
    table::{NEXT, REDIRECT, Row, Step},
    world::{NEW, World, refused, step},
};

impl World {
    pub(crate) fn odd_rows(self) -> Vec<Row> {
        let mut rows = vec![
            self.long_local(),
            self.long_remote(),
            self.long_refused(),
            self.padded(),
            self.uncut(),
        ];
        rows.extend(self.lying());
        if self.protocol == Protocol::UDP && !self.ipv6 {
            rows.push(self.without_checksum());
        }
        rows
    }

    /// What a client begins with, behind options or extension headers.
    fn long(self, port: u16) -> Frame {
        Frame { head: Head::Long, ..self.first(self.client(), self.vip(port)) }
    }

    fn long_local(self) -> Row {
        let first = self.long(80);
        let to_pod = first.between(self.client(), self.here());
        let reply = Frame { head: Head::Long, ..self.reply(self.here(), self.client()) };
        let to_client = reply.between(self.vip(80), self.client());
        Row {
            name: self.name("long headers, a local backend"),
            steps: vec![
                step(Hook::Ingress, &first, NEXT, &to_pod, &NEW),
                step(Hook::Egress, &reply, NEXT, &to_client, &[Counter::FlowReply]),
            ],
        }
    }

    fn long_remote(self) -> Row {
        let source = self.source(self.client().port());
        let first = self.long(81);
        let to_pod = first.between(source, self.there()).routed();
        let reply = Frame { head: Head::Long, ..self.reply(self.there(), source) };
        let to_client = reply.between(self.vip(81), self.client()).routed();
        Row {
            name: self.name("long headers, a remote backend"),
            steps: vec![
                step(Hook::Ingress, &first, REDIRECT, &to_pod, &NEW),
                step(Hook::Ingress, &reply, REDIRECT, &to_client, &[Counter::FlowReply]),
            ],
        }
    }

    fn long_refused(self) -> Row {
        let steps = vec![refused(&self.long(82))];
        Row { name: self.name("long headers, nobody serves"), steps }
    }

    /// Ethernet frames have 60 bytes at least.
    fn padded(self) -> Row {
        let first = self.first(self.client(), self.vip(80));
        let to_pod = first.between(self.client(), self.here());
        let padded = |frame: &Frame| [frame.bytes(), vec![0xee; 9]].concat();
        let steps = vec![Step {
            hook: Hook::Ingress,
            packet: padded(&first),
            action: NEXT,
            becomes: padded(&to_pod),
            counted: &NEW,
        }];
        Row { name: self.name("padding"), steps }
    }

    /// A length of 0: a packet of more than 64 kB that the kernel has not cut yet. SCTP has none.
    fn uncut(self) -> Row {
        let first = self.first(self.client(), self.vip(80));
        let without_len = |frame: &Frame| {
            let mut bytes = frame.bytes();
            if self.ipv6 {
                bytes[ETHERNET + 4..ETHERNET + 6].fill(0);
            } else {
                let len = u16::from_be_bytes([bytes[ETHERNET + 2], bytes[ETHERNET + 3]]);
                bytes[ETHERNET + 2..ETHERNET + 4].fill(0);
                let sum = u16::from_be_bytes([bytes[ETHERNET + 10], bytes[ETHERNET + 11]]);
                let sum = u32::from(sum) + u32::from(len);
                let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
                bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
            }
            bytes
        };
        let to_pod = first.between(self.client(), self.here());
        let steps = if self.protocol == Protocol::SCTP {
            let data = Frame::sctp(self.client(), self.vip(80), 0);
            vec![step(Hook::Ingress, &data, NEXT, &data, &[Counter::PassNoFlow])]
        } else {
            vec![Step {
                hook: Hook::Ingress,
                packet: without_len(&first),
                action: NEXT,
                becomes: without_len(&to_pod),
                counted: &NEW,
            }]
        };
        Row { name: self.name("not cut yet, or in the middle"), steps }
    }

    /// Lengths and versions that the packet does not bear out.
    fn lying(self) -> Vec<Row> {
        let ip = if self.ipv6 { 40 } else { 20 };
        let first = self.first(self.client(), self.vip(80)).bytes();
        let with = |at: usize, byte: u8| {
            let mut packet = first.clone();
            packet[ETHERNET + at] = byte;
            packet
        };
        let mut rows = if self.ipv6 {
            vec![
                ("a length beyond the frame", with(4, 9)),
                ("a length within the transport header", with(5, 6)),
                ("another version", with(0, 0x40)),
                ("an extension header beyond the frame", with(6, 60)),
            ]
        } else {
            vec![
                ("a length beyond the frame", with(2, 9)),
                ("a length within the transport header", with(3, 26)),
                ("another version", with(0, 0x65)),
                ("a header without its own length", with(0, 0x44)),
            ]
        };
        rows.push(("no more than an IP header", first[..ETHERNET + ip].to_vec()));
        rows.push(("half a transport header", first[..ETHERNET + ip + 7].to_vec()));
        let row = |(name, packet): (&str, Vec<u8>)| {
            let (hook, becomes) = (Hook::Ingress, packet.clone());
            let counted = &[Counter::PassMalformed];
            let steps = vec![Step { hook, packet, action: NEXT, becomes, counted }];
            Row { name: self.name(name), steps }
        };
        rows.into_iter().map(row).collect()
    }

    fn without_checksum(self) -> Row {
        let bare = |frame: Frame| Frame { transport: Transport::BareUdp, ..frame };
        let first = bare(self.first(self.client(), self.vip(81)));
        let source = self.source(self.client().port());
        let to_pod = first.between(source, self.there()).routed();
        let steps = vec![step(Hook::Ingress, &first, REDIRECT, &to_pod, &NEW)];
        Row { name: self.name("no checksum"), steps }
    }
}
