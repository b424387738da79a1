// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SCTP between two ends that are made by hand, as this kernel need not have it (RFC 9260).

use std::net::SocketAddr;

use crc::{CRC_32_ISCSI, Crc};
use etherparse::IpNumber;
use lab::pod::Pod;

use crate::{
    raw::{self, Raw},
    road::{ASSOCIATIONS, Road},
};

/// One end.
struct End {
    raw: Raw,
    own: u16,
    /// The tag that it wants to see.
    tag: u32,
}

/// A packet's one chunk.
struct Chunk {
    kind: u8,
    value: Vec<u8>,
}

/// An association from its first packet to its last, with data of many lengths both ways, to a
/// port that is not the one dialled. Each end checks each checksum, tag and port.
pub(crate) fn is_carried(road: &Road, pod: &Pod) {
    let client = road.bed.served.lab.client();
    for (number, (family, to)) in (0..).zip(road.entries()) {
        let open = || Raw::of(IpNumber::SCTP, family);
        let own = 48_000 + number;
        let there = End { raw: client.run(open).unwrap(), own, tag: 0xcafe_0001 };
        let here = End { raw: pod.run(open).unwrap(), own: ASSOCIATIONS, tag: 0xbeef_0002 };
        let seen = there.tells(&here, to, 0, Chunk::init(INIT, there.tag));
        assert_eq!(seen.ip(), road.seen_by(pod, family), "{} by {to}", pod.name);
        let ask = |kind, value: &[u8]| {
            assert_eq!(there.tells(&here, to, here.tag, Chunk::new(kind, value)), seen);
        };
        let answer = |chunk| assert_eq!(here.tells(&there, seen, there.tag, chunk), to);
        answer(Chunk::init(INIT_ACK, here.tag));
        ask(COOKIE_ECHO, &raw::noise(1, 200));
        answer(Chunk::new(COOKIE_ACK, &[]));
        for len in LENGTHS {
            let payload = raw::noise(7, len);
            ask(DATA, &[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &payload[..]].concat());
            answer(Chunk::new(SACK, &[0; 12]));
            answer(Chunk::new(
                DATA,
                &[&[0, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0, 0], &payload[..]].concat(),
            ));
        }
        ask(SHUTDOWN, &[0; 4]);
        answer(Chunk::new(SHUTDOWN_ACK, &[]));
        ask(SHUTDOWN_COMPLETE, &[]);
    }
}

impl End {
    /// Sends a chunk, and sees to it that the other end gets it: who that saw as its sender.
    fn tells(&self, other: &Self, to: SocketAddr, tag: u32, chunk: Chunk) -> SocketAddr {
        let Chunk { kind, value } = chunk;
        let len = u16::try_from(value.len() + 4).unwrap();
        let mut packet = [
            &self.own.to_be_bytes()[..],
            &to.port().to_be_bytes(),
            &tag.to_be_bytes(),
            &[0, 0, 0, 0, kind, 0],
            &len.to_be_bytes(),
            &value,
        ]
        .concat();
        packet.resize(packet.len().next_multiple_of(4), 0);
        let sum = checksum(&packet);
        packet[8..12].copy_from_slice(&sum);
        self.raw.send(&packet, to.ip());
        let (from, got) = other.raw.receive().unwrap_or_else(|error| {
            panic!("chunk {kind} from {} to {to}: {error}", self.own);
        });
        assert_eq!(got[8..12], checksum(&got), "chunk {kind} to {to}: CRC32c");
        assert_eq!(got[2..4], other.own.to_be_bytes(), "chunk {kind} to {to}: port");
        assert!(got[4..8] == packet[4..8] && got[12..] == packet[12..], "chunk {kind} to {to}");
        SocketAddr::new(from, u16::from_be_bytes([got[0], got[1]]))
    }
}

impl Chunk {
    fn new(kind: u8, value: &[u8]) -> Self {
        Self { kind, value: value.to_vec() }
    }

    /// What begins: the tag that its sender wants to see, its window, streams and first number.
    fn init(kind: u8, tag: u32) -> Self {
        let rest = [0, 1, 0, 0, 0, 2, 0, 2, 0, 0, 0, 1];
        Self { kind, value: [&tag.to_be_bytes()[..], &rest].concat() }
    }
}

/// The checksum of a packet, whose own field counts as zero (RFC 9260 appendix A).
fn checksum(packet: &[u8]) -> [u8; 4] {
    let mut blank = packet.to_vec();
    blank[8..12].fill(0);
    Crc::<u32>::new(&CRC_32_ISCSI).checksum(&blank).to_le_bytes()
}

/// Bytes of payload: what is not a multiple of four is padded.
const LENGTHS: [usize; 6] = [1, 2, 7, 64, 777, 1400];
/// Types of chunks (RFC 9260 3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
