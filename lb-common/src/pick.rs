// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The choice of a slot: pure, no division, no loop.

use crate::{
    addr::Addr,
    be::Be16,
    key::{hash_words, mix},
    service::SetWord,
};

/// The slot that 32 uniformly random bits choose from a set (TRP-09).
///
/// Multiply-shift (Lemire, "Fast Random Integer Generation in an Interval", 2019): the
/// bias is at most count / 2^32. `None` if the set has no slot.
#[inline(always)]
pub const fn pick(set: SetWord, entropy: u32) -> Option<u32> {
    let count = set.count();
    if count == 0 {
        return None;
    }
    let offset = (entropy as u64 * count as u64) >> 32;
    Some(set.base.wrapping_add(offset as u32))
}

/// 32 bits of a client, the same on every node: they choose a slot of a Maglev set. What the
/// client dialled has no part in it, so that it may come back by another node's NodePort. With
/// port zero: of a client with all its ports, for ClientIP affinity (AFF-01).
#[inline(always)]
pub const fn client_bits(address: Addr, port: Be16) -> u32 {
    let [high, low] = port.bytes;
    let hash = mix(hash_words(address.to_words()), u32::from_be_bytes([0, 0, high, low]));
    // What the last word changes must reach the high bits, by which a slot is picked.
    mix(hash, hash >> 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{be::Be32, service::Algorithm};

    #[test]
    fn an_empty_set_has_no_slot() {
        assert_eq!(pick(SetWord::REFUSE, 12345), None);
        assert_eq!(pick(SetWord::DROP, 12345), None);
    }

    /// MOD-09: by chance, whatever came before.
    #[test]
    fn trp_09_every_slot_is_equally_likely() {
        const SLOTS: u32 = 7;
        const ROUNDS: u32 = 70_000;
        let set = SetWord::new(100, SLOTS, Algorithm::Random).unwrap();
        let mut hits = [0_i64; SLOTS as usize];
        let mut state = 0x2545_f491_u32;
        for _ in 0..ROUNDS {
            // xorshift32 (Marsaglia 2003): any decent source of bits will do.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            hits[(pick(set, state).unwrap() - 100) as usize] += 1;
        }
        let expected = i64::from(ROUNDS / SLOTS);
        let deviation: i64 = hits.iter().map(|hit| (hit - expected).pow(2)).sum();
        // Chi-square with 6 degrees of freedom stays below 22.46 in 99.9 % of runs.
        assert!(deviation < expected * 2246 / 100, "{hits:?}");
    }

    /// Clients that differ in their last bits alone, as those of one network do.
    #[test]
    fn the_bits_of_like_clients_are_spread_evenly() {
        const SLOTS: u32 = 16;
        const CLIENTS: u32 = 64;
        const PORTS: u16 = 256;
        let set = SetWord::new(0, SLOTS, Algorithm::Maglev).unwrap();
        let networks = [[10, 0, 0, 0], [192, 168, 50, 0], [203, 0, 113, 0]];
        for network in networks {
            let mut hits = [0_i64; SLOTS as usize];
            for client in 0..CLIENTS {
                let address = Addr::from_v4(Be32::from_host(u32::from_be_bytes(network) + client));
                for port in 0..PORTS {
                    let bits = client_bits(address, Be16::from_host(32_768 + port));
                    hits[pick(set, bits).unwrap() as usize] += 1;
                }
            }
            let expected = i64::from(CLIENTS) * i64::from(PORTS) / i64::from(SLOTS);
            let deviation: i64 = hits.iter().map(|hit| (hit - expected).pow(2)).sum();
            // Chi-square with 15 degrees of freedom stays below 37.70 in 99.9 % of runs.
            assert!(deviation < expected * 3770 / 100, "{network:?}: {hits:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pick_is_inside_its_set(base in 0_u32..1 << 30, count in 1..=SetWord::MAX_COUNT, entropy: u32) {
            let slot = pick(SetWord::new(base, count, Algorithm::Random).unwrap(), entropy).unwrap();
            prop_assert!((base..base + count).contains(&slot));
        }
    }
}
