// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CRC32c, SCTP's checksum (RFC 9260 6.8 and appendix A), and what a change of a word does to it.
//!
//! A CRC is linear: two packets of one length whose bytes differ by `d` have checksums that differ
//! by what `d` alone makes, whatever else is in them. So a port is changed without reading the
//! packet: `d · x^(8n)` modulo the polynomial, with the `n` bytes from the word to the end.
//!
//! Polynomials are reflected: the highest bit is the coefficient of `x^0`.

use crate::be::Be32;

/// The CRC field of a packet in which a word was replaced, `len` bytes before its end (the word's
/// own four count). The field is as the packet has it: least significant byte first.
#[inline(always)]
pub const fn replaced(field: Be32, old: Be32, new: Be32, len: u16) -> Be32 {
    let difference = u32::from_le_bytes(old.bytes) ^ u32::from_le_bytes(new.bytes);
    let crc = u32::from_le_bytes(field.bytes) ^ shifted(difference, len);
    Be32 { bytes: crc.to_le_bytes() }
}

/// A polynomial, `len` zero bytes further from the end.
#[inline(always)]
const fn shifted(polynomial: u32, len: u16) -> u32 {
    let [p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14, p15] = POWERS;
    let shifted = step(polynomial, len, p0);
    let shifted = step(shifted, len >> 1, p1);
    let shifted = step(shifted, len >> 2, p2);
    let shifted = step(shifted, len >> 3, p3);
    let shifted = step(shifted, len >> 4, p4);
    let shifted = step(shifted, len >> 5, p5);
    let shifted = step(shifted, len >> 6, p6);
    let shifted = step(shifted, len >> 7, p7);
    let shifted = step(shifted, len >> 8, p8);
    let shifted = step(shifted, len >> 9, p9);
    let shifted = step(shifted, len >> 10, p10);
    let shifted = step(shifted, len >> 11, p11);
    let shifted = step(shifted, len >> 12, p12);
    let shifted = step(shifted, len >> 13, p13);
    let shifted = step(shifted, len >> 14, p14);
    step(shifted, len >> 15, p15)
}

/// Multiplied by a power, if the lowest bit says so.
#[inline(always)]
const fn step(polynomial: u32, bits: u16, power: u32) -> u32 {
    if bits & 1 == 0 { polynomial } else { product(polynomial, power) }
}

/// The product of two polynomials, without a branch that depends on them.
#[inline(always)]
const fn product(mut left: u32, mut right: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    while bit < u32::BITS {
        product ^= right & 0_u32.wrapping_sub(left >> 31);
        left <<= 1;
        right = (right >> 1) ^ (CASTAGNOLI & 0_u32.wrapping_sub(right & 1));
        bit += 1;
    }
    product
}

/// `x^8`, and each the square of the one before.
#[expect(clippy::indexing_slicing, reason = "a constant: out of bounds does not compile")]
const fn powers() -> [u32; 16] {
    let mut powers = [X_8; 16];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = product(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

/// `x^(8 · 2^k)` for every bit `k` of a length.
const POWERS: [u32; 16] = powers();
/// The polynomial, without its `x^32`.
const CASTAGNOLI: u32 = 0x82f6_3b78;
const X_8: u32 = 1 << (31 - 8);

#[cfg(test)]
mod tests {
    use std::vec;

    use crc::{CRC_32_ISCSI, Crc};
    use proptest::prelude::*;

    use super::*;

    extern crate std;

    /// A packet's own, by another's code.
    fn field(bytes: &[u8]) -> Be32 {
        Be32 { bytes: Crc::<u32>::new(&CRC_32_ISCSI).checksum(bytes).to_le_bytes() }
    }

    proptest! {
        #[test]
        fn a_replaced_word_leaves_the_checksum_that_the_packet_has_then(
            mut packet in prop::collection::vec(any::<u8>(), 4..2000),
            new: [u8; 4],
        ) {
            let before = field(&packet);
            let old = Be32 { bytes: packet[..4].try_into().unwrap() };
            packet[..4].copy_from_slice(&new);
            let len = u16::try_from(packet.len()).unwrap();
            prop_assert_eq!(replaced(before, old, Be32 { bytes: new }, len), field(&packet));
        }
    }

    #[test]
    fn the_longest_packet_counts_every_bit_of_its_length() {
        let mut packet = vec![7_u8; usize::from(u16::MAX)];
        let before = field(&packet);
        packet[..4].copy_from_slice(&[1, 2, 3, 4]);
        let (old, new) = (Be32 { bytes: [7; 4] }, Be32 { bytes: [1, 2, 3, 4] });
        assert_eq!(replaced(before, old, new, u16::MAX), field(&packet));
    }
}
