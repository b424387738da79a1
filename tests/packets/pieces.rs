// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows of packets in pieces.

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader};
use lb_common::{counter::Counter, protocol::Protocol};

use crate::{
    frame::{ETHERNET, Frame, Said, Transport},
    node::Hook,
    table::{DROP, NEXT, REDIRECT, Row, Step},
    world::{NEW, World},
};

/// A packet cut into pieces of so many bytes above IP; an IPv6 packet may be cut into one.
pub(crate) fn pieces(packet: &[u8], id: u16, len: usize) -> Vec<Vec<u8>> {
    let is_v6 = packet[ETHERNET] >> 4 == 6;
    let payload = &packet[ETHERNET + if is_v6 { 40 } else { 20 }..];
    let last = payload.chunks(len).count() - 1;
    let piece = |(number, part): (usize, &[u8])| {
        let offset = IpFragOffset::try_new(u16::try_from(number * len / 8).unwrap()).unwrap();
        let head = if is_v6 {
            let fragment = Ipv6FragmentHeader::new(
                IpNumber(packet[ETHERNET + 6]),
                offset,
                number != last,
                u32::from(id) << 8,
            );
            let mut base = packet[ETHERNET..ETHERNET + 40].to_vec();
            base[4..6].copy_from_slice(&u16::try_from(part.len() + 8).unwrap().to_be_bytes());
            base[6] = 44;
            [base, fragment.to_bytes().to_vec()].concat()
        } else {
            let (mut header, _) = Ipv4Header::from_slice(&packet[ETHERNET..]).unwrap();
            header.set_payload_len(part.len()).unwrap();
            header.identification = id;
            header.dont_fragment = false;
            header.more_fragments = number != last;
            header.fragment_offset = offset;
            header.header_checksum = header.calc_header_checksum();
            header.to_bytes().to_vec()
        };
        [&packet[..ETHERNET], &head, part].concat()
    };
    payload.chunks(len).enumerate().map(piece).collect()
}

impl World {
    pub(crate) fn piece_rows(self) -> Vec<Row> {
        if self.protocol == Protocol::SCTP {
            return vec![self.pieces_of_sctp()];
        }
        let mut rows = vec![
            self.pieces_there_and_back(),
            self.pieces_here_and_back(),
            self.an_early_piece(),
            self.pieces_for_nobody(),
            self.pieces_refused(),
            self.a_piece_at_the_end_of_its_hops(),
            self.one_identification_twice(),
            self.pieces_of_two_packets(),
            self.a_tiny_piece(),
            self.pieces_that_overlap(),
        ];
        if self.protocol == Protocol::TCP {
            rows.push(self.an_overlap());
        }
        if self.ipv6 {
            rows.push(self.an_atomic_piece());
        }
        rows
    }

    fn large(mut frame: Frame) -> Frame {
        frame.payload = (0..200).collect();
        frame
    }

    /// A request and a reply, both in pieces.
    fn pieces_there_and_back(self) -> Row {
        let source = self.source(self.client().port());
        let first = Self::large(self.first(self.client(), self.vip(81)));
        let reply = Self::large(self.reply(self.there(), source));
        let to_pod = first.between(source, self.there()).routed();
        let to_client = reply.between(self.vip(81), self.client()).routed();
        let mut steps = steps(Hook::Ingress, &first, REDIRECT, &to_pod, FORWARD, 7);
        steps.extend(self::steps(Hook::Ingress, &reply, REDIRECT, &to_client, REPLY, 8));
        Row { name: self.name("pieces to another node and back"), steps }
    }

    fn pieces_here_and_back(self) -> Row {
        let first = Self::large(self.first(self.client(), self.vip(80)));
        let reply = Self::large(self.reply(self.here(), self.client()));
        let to_pod = first.between(self.client(), self.here());
        let to_client = reply.between(self.vip(80), self.client());
        let mut steps = steps(Hook::Ingress, &first, NEXT, &to_pod, FORWARD, 7);
        steps.extend(self::steps(Hook::Egress, &reply, NEXT, &to_client, REPLY, 8));
        Row { name: self.name("pieces to a local backend and back"), steps }
    }

    /// The second piece goes round until the first one is there.
    fn an_early_piece(self) -> Row {
        let first = Self::large(self.first(self.client(), self.vip(81)));
        let to_pod = first.between(self.source(self.client().port()), self.there()).routed();
        let mut steps = steps(Hook::Ingress, &first, REDIRECT, &to_pod, FORWARD, 9);
        let packet = steps[1].packet.clone();
        let becomes = packet.clone();
        let counted = &[Counter::FragmentWaited];
        steps.insert(0, Step { hook: Hook::Ingress, packet, action: REDIRECT, becomes, counted });
        Row { name: self.name("the second piece first"), steps }
    }

    fn pieces_for_nobody(self) -> Row {
        let first = Self::large(self.first(self.client(), self.vip(99)));
        let steps = steps(Hook::Ingress, &first, NEXT, &first, NOBODY, 7);
        Row { name: self.name("pieces to no frontend"), steps }
    }

    /// The first is answered; the others have no flow and nobody hears of them.
    fn pieces_refused(self) -> Row {
        let first = Self::large(self.first(self.client(), self.vip(82)));
        let pieces = pieces(&first.bytes(), 7, 96);
        let (becomes, answer) = match first.transport {
            // Of what the segment holds, the piece tells so much.
            Transport::Tcp(_) => {
                let answered = Frame { payload: vec![0; 96 - 20], ..first.clone() };
                (answered.reset(), Counter::AnsweredReset)
            }
            _ => (self.unreachable(&first, &pieces[0]), Counter::AnsweredUnreachable),
        };
        let counted: &'static [Counter] =
            Box::leak(Box::new([Counter::RefusedNoEndpoints, answer]));
        let mut steps = vec![Step {
            hook: Hook::Ingress,
            packet: pieces[0].clone(),
            action: REDIRECT,
            becomes,
            counted,
        }];
        steps.push(untouched(pieces[1].clone(), &[Counter::PassNoFlow]));
        Row { name: self.name("pieces that are refused"), steps }
    }

    /// Of IP and, over IPv6, the fragment header.
    fn head_len(self) -> usize {
        if self.ipv6 { 48 } else { 20 }
    }

    /// "Port unreachable", quoting the headers of a piece.
    fn unreachable(self, frame: &Frame, piece: &[u8]) -> Vec<u8> {
        frame.error_quoting(Said::PortUnreachable, &piece[ETHERNET..ETHERNET + self.head_len() + 8])
    }

    fn a_piece_at_the_end_of_its_hops(self) -> Row {
        let first = Self::large(self.first(self.client(), self.vip(81)));
        let to_pod = first.between(self.source(self.client().port()), self.there()).routed();
        let mut steps = steps(Hook::Ingress, &first, REDIRECT, &to_pod, FORWARD, 7);
        let late = Frame { hops: 1, ..first };
        let packet = pieces(&late.bytes(), 7, 96).remove(1);
        let becomes = packet.clone();
        let counted = &[Counter::DroppedUnanswered];
        steps.push(Step { hook: Hook::Ingress, packet, action: DROP, becomes, counted });
        Row { name: self.name("a later piece at the end of its hops"), steps }
    }

    /// The number comes round: pieces follow the first one that came last.
    fn one_identification_twice(self) -> Row {
        let source = self.source(self.client().port());
        let first = Self::large(self.first(self.client(), self.vip(81)));
        let second = Self::large(self.first(self.client(), self.vip(80)));
        let beyond = first.between(source, self.there()).routed();
        let inside = second.between(self.client(), self.here());
        let mut steps = steps(Hook::Ingress, &first, REDIRECT, &beyond, FORWARD, 7);
        steps.extend(self::steps(Hook::Ingress, &second, NEXT, &inside, FORWARD, 7));
        Row { name: self.name("one identification, two packets after each other"), steps }
    }

    /// Turn and turn about.
    fn pieces_of_two_packets(self) -> Row {
        let source = self.source(self.client().port());
        let first = Self::large(self.first(self.client(), self.vip(81)));
        let second = Self::large(self.first(self.client(), self.vip(80)));
        let beyond = first.between(source, self.there()).routed();
        let inside = second.between(self.client(), self.here());
        let one = steps(Hook::Ingress, &first, REDIRECT, &beyond, FORWARD, 7);
        let two = steps(Hook::Ingress, &second, NEXT, &inside, FORWARD, 8);
        let steps = one.into_iter().zip(two).flat_map(|(one, two)| [one, two]).collect();
        Row { name: self.name("pieces of two packets, turn and turn about"), steps }
    }

    /// RFC 1858 3: a first piece without the whole header goes by no filter.
    fn a_tiny_piece(self) -> Row {
        let first = Self::large(self.first(self.client(), self.vip(80)));
        let len = if self.protocol == Protocol::TCP { 16 } else { 8 };
        let mut tiny = pieces(&first.bytes(), 7, len).remove(0);
        if self.protocol == Protocol::UDP {
            // A datagram's header is the least that a piece can be: it lies about its length.
            let at = if self.ipv6 { 5 } else { 3 };
            tiny[ETHERNET + at] -= 1;
        }
        let steps = vec![untouched(tiny, &[Counter::PassMalformed])];
        Row { name: self.name("a first piece without the whole header"), steps }
    }

    /// RFC 1858 4: a second piece that begins within the header.
    fn an_overlap(self) -> Row {
        let first = Self::large(self.first(self.client(), self.vip(80)));
        let to_pod = first.between(self.client(), self.here());
        let mut steps = steps(Hook::Ingress, &first, NEXT, &to_pod, FORWARD, 7);
        let overlap = pieces(&first.bytes(), 7, 8).remove(1);
        steps.insert(1, untouched(overlap, &[Counter::PassMalformed]));
        Row { name: self.name("a piece that overlaps the header"), steps }
    }

    /// RFC 5722, RFC 1858: whoever puts the packet together decides what becomes of it. Here each
    /// piece goes where the first one went, and none is taken for a packet of its own: one that
    /// covers the end of the first, one that is there twice, one beyond the longest packet.
    fn pieces_that_overlap(self) -> Row {
        let first = Self::large(self.first(self.client(), self.vip(81)));
        let to_pod = first.between(self.source(self.client().port()), self.there()).routed();
        let mut steps = steps(Hook::Ingress, &first, REDIRECT, &to_pod, FORWARD, 7);
        let [before, after] =
            [&first, &to_pod].map(|frame| pieces(&frame.bytes(), 7, 48).remove(1));
        let beyond = |piece: &[u8]| if self.ipv6 { far6(piece) } else { far4(piece) };
        let far = [beyond(&before), beyond(&after)];
        for [packet, becomes] in [[before.clone(), after.clone()], [before, after], far] {
            let (hook, counted) = (Hook::Ingress, &[Counter::FlowForward]);
            steps.push(Step { hook, packet, action: REDIRECT, becomes, counted });
        }
        Row { name: self.name("pieces that overlap each other"), steps }
    }

    /// RFC 6946: a fragment header on a whole packet.
    fn an_atomic_piece(self) -> Row {
        let first = self.first(self.client(), self.vip(80));
        let to_pod = first.between(self.client(), self.here());
        let steps = steps(Hook::Ingress, &first, NEXT, &to_pod, FORWARD, 7);
        assert_eq!(steps.len(), 1);
        Row { name: self.name("a fragment header on a whole packet"), steps }
    }

    /// Their checksum cannot be told from the first piece.
    fn pieces_of_sctp(self) -> Row {
        let first = Self::large(self.first(self.client(), self.vip(80)));
        let pieces = pieces(&first.bytes(), 7, 96).into_iter();
        let steps = pieces.map(|piece| untouched(piece, &[Counter::PassFragment])).collect();
        Row { name: self.name("pieces"), steps }
    }
}

/// A later piece as one that begins at the last offset that there is.
fn far4(piece: &[u8]) -> Vec<u8> {
    let (mut header, _) = Ipv4Header::from_slice(&piece[ETHERNET..]).unwrap();
    header.fragment_offset = IpFragOffset::try_new(LAST).unwrap();
    header.header_checksum = header.calc_header_checksum();
    [&piece[..ETHERNET], &header.to_bytes(), &piece[ETHERNET + 20..]].concat()
}

fn far6(piece: &[u8]) -> Vec<u8> {
    let mut piece = piece.to_vec();
    piece[ETHERNET + 42..ETHERNET + 44].copy_from_slice(&(LAST << 3 | 1).to_be_bytes());
    piece
}

/// What the first piece counts, and what the others do.
type Counts = [&'static [Counter]; 2];

fn steps(
    hook: Hook,
    packet: &Frame,
    action: i32,
    becomes: &Frame,
    counts: Counts,
    id: u16,
) -> Vec<Step> {
    let (before, after) = (pieces(&packet.bytes(), id, 96), pieces(&becomes.bytes(), id, 96));
    let step = |(number, (packet, becomes)): (usize, (Vec<u8>, Vec<u8>))| {
        let counted = counts[usize::from(number > 0)];
        Step { hook, packet, action, becomes, counted }
    };
    before.into_iter().zip(after).enumerate().map(step).collect()
}

fn untouched(packet: Vec<u8>, counted: &'static [Counter]) -> Step {
    Step { hook: Hook::Ingress, becomes: packet.clone(), packet, action: NEXT, counted }
}

const FORWARD: Counts = [&NEW, &[Counter::FlowForward]];
const REPLY: Counts = [&[Counter::FlowReply], &[Counter::FlowReply]];
const NOBODY: Counts = [&[Counter::PassNoFrontend], &[Counter::PassNoFlow]];

/// The largest offset, in units of eight bytes.
const LAST: u16 = 0x1fff;
