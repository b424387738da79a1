// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The smallest Ethernet frame with a datagram.

use std::net::{Ipv4Addr, SocketAddrV4};

/// A frame of the first flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame([u8; LEN]);

impl Frame {
    /// From a client to a node's device.
    pub(super) fn new(station: [u8; 6], from: Ipv4Addr, to: SocketAddrV4) -> Self {
        let udp_len = 8 + PAYLOAD;
        let udp = words([FIRST_PORT, to.port(), udp_len, 0]);
        let pseudo = [&from.octets()[..], &to.ip().octets(), &[0, 17], &words([udp_len])];
        let sum = checksum(&[&pseudo.concat()[..], &udp].concat());
        let mut ip = [&words([0x4500, 20 + udp_len, 0, 0x4000, 0x4011, 0])[..]].concat();
        ip.extend(from.octets());
        ip.extend(to.ip().octets());
        let ip_sum = checksum(&ip);
        let ethernet = [&station[..], &SENDER, &words([0x0800])].concat();
        let mut bytes = [ethernet, ip, udp].concat();
        for (at, sum) in [(14 + 10, ip_sum), (14 + 20 + 6, sum)] {
            bytes.splice(at..at + 2, sum.to_be_bytes());
        }
        bytes.resize(LEN, 0);
        Self(bytes.try_into().unwrap_or([0; LEN]))
    }

    /// All of it.
    pub(super) const fn bytes(&self) -> [u8; LEN] {
        self.0
    }

    /// Its first bytes, as words of memory.
    pub(super) fn head(&self) -> [u64; 6] {
        let mut head = [0; 6];
        for (word, bytes) in head.iter_mut().zip(self.0.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        head
    }
}

/// 16-bit words as they are sent.
fn words<const COUNT: usize>(words: [u16; COUNT]) -> Vec<u8> {
    words.into_iter().flat_map(u16::to_be_bytes).collect()
}

/// The internet checksum of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 =
        bytes.as_chunks().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (folded + (folded >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

/// Bytes of a frame, without what the device adds.
const LEN: usize = 60;
/// Bytes after the UDP header, all 0.
const PAYLOAD: u16 = 18;
/// The source port of the first flow: none that a socket of the client has.
const FIRST_PORT: u16 = 0x5000;
/// A station that no device has: locally administered.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_right_checksums() {
        let to = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 30_080);
        let frame = Frame::new([2; 6], Ipv4Addr::new(203, 0, 113, 7), to).bytes();
        assert_eq!(checksum(&frame[14..34]), 0);
        let pseudo = [&frame[26..34], &[0, 17, 0, 26]].concat();
        assert_eq!(checksum(&[&pseudo[..], &frame[34..]].concat()), 0);
        assert_eq!(frame[34..36], FIRST_PORT.to_be_bytes());
    }
}
