// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The smallest Ethernet frames with a datagram, or with the segments of a client.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::programs::{FRAMES, WORDS};

/// The heads of frames, as the flood's program is told them.
type Heads = [u64; WORDS * FRAMES];

/// A datagram of the first flow.
pub(super) fn datagram(station: [u8; 6], from: Ipv4Addr, to: SocketAddrV4) -> Heads {
    let len = 8 + PAYLOAD;
    let udp = words(&[FIRST_PORT, to.port(), len, 0]);
    heads(&[frame(station, [from, *to.ip()], (UDP, udp, 6, len))])
}

/// What a client sends on the first flow: SYN, ACK, a byte, RST.
pub(super) fn connection(station: [u8; 6], from: Ipv4Addr, to: SocketAddrV4) -> Heads {
    let segment = |(sequence, acknowledgement, flags, bytes): (u16, u16, u16, u16)| {
        let ports = [FIRST_PORT, to.port()];
        let rest = [0, sequence, 0, acknowledgement, 0x5000 | flags, WINDOW, 0, 0];
        let tcp = words(&[&ports[..], &rest].concat());
        frame(station, [from, *to.ip()], (TCP, tcp, 16, 20 + bytes))
    };
    let [client, server] = [CLIENT_FIRST + 1, SERVER_FIRST + 1];
    let steps = [
        (CLIENT_FIRST, 0, SYN, 0),
        (client, server, ACK, 0),
        (client, server, PSH | ACK, 1),
        (client + 1, server + 1, RST | ACK, 0),
    ];
    heads(&steps.map(segment))
}

/// A frame between two ends: the transport's protocol, header, where its checksum is, and its
/// length with what follows, which is 0.
fn frame(
    station: [u8; 6],
    ends: [Ipv4Addr; 2],
    (protocol, mut transport, sum_at, len): (u8, Vec<u8>, usize, u16),
) -> [u8; LEN] {
    let ends: Vec<u8> = ends.iter().flat_map(Ipv4Addr::octets).collect();
    let pseudo = [&ends[..], &[0, protocol], &words(&[len])].concat();
    let sum = checksum(&[&pseudo[..], &transport].concat());
    transport.splice(sum_at..sum_at + 2, sum.to_be_bytes());
    let first = words(&[0x4500, 20 + len, 0, 0x4000, 0x4000 | u16::from(protocol), 0]);
    let mut ip = [&first[..], &ends].concat();
    let sum = checksum(&ip);
    ip.splice(10..12, sum.to_be_bytes());
    let mut bytes = [&station[..], &SENDER, &words(&[0x0800]), &ip, &transport].concat();
    bytes.resize(LEN, 0);
    bytes.try_into().unwrap_or([0; LEN])
}

/// Each frame's first bytes, as words of memory.
fn heads(frames: &[[u8; LEN]]) -> Heads {
    let mut heads = [0; WORDS * FRAMES];
    for (head, frame) in heads.chunks_mut(WORDS).zip(frames) {
        for (word, bytes) in head.iter_mut().zip(frame.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
    }
    heads
}

/// 16-bit words as they are sent.
fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The internet checksum of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.as_chunks().0.iter();
    let sum: u32 = pairs.map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (folded + (folded >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

/// Bytes of a frame, without what the device adds.
pub(super) const LEN: usize = 60;
/// Bytes of a datagram, all 0.
const PAYLOAD: u16 = 18;
/// The source port of the first flow: none that a socket of the client has.
const FIRST_PORT: u16 = 0x5000;
/// A station that no device has: locally administered.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const UDP: u8 = 17;
const TCP: u8 = 6;
/// Flags.
const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const PSH: u16 = 0x08;
const ACK: u16 = 0x10;
const WINDOW: u16 = 64_000;
/// First sequence numbers, as the flood's programs know them.
const CLIENT_FIRST: u16 = 0x1000;
const SERVER_FIRST: u16 = 0x2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_right_checksums() {
        let to = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 30_080);
        let from = Ipv4Addr::new(203, 0, 113, 7);
        let bytes = |heads: Heads| heads.map(u64::to_ne_bytes).concat();
        let datagram = bytes(datagram([2; 6], from, to));
        let connection = bytes(connection([2; 6], from, to));
        let segments = connection.chunks(WORDS * 8).zip([40, 40, 41, 40]);
        for (frame, len) in [(&datagram[..], 46)].into_iter().chain(segments) {
            assert_eq!(checksum(&frame[14..34]), 0);
            assert_eq!(frame[16..18], u16::to_be_bytes(len));
            let pseudo = [&frame[26..34], &[0, frame[23]], &(len - 20).to_be_bytes()].concat();
            let end = if frame[23] == TCP { 54 } else { 42 };
            assert_eq!(checksum(&[&pseudo[..], &frame[34..end]].concat()), 0);
            assert_eq!(frame[34..36], FIRST_PORT.to_be_bytes());
        }
    }
}
