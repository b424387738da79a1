// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The choice of a slot: pure, no division, no loop.

use crate::service::SetWord;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::service::Algorithm;

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

    proptest! {
        #[test]
        fn a_pick_is_inside_its_set(base in 0_u32..1 << 30, count in 1..=SetWord::MAX_COUNT, entropy: u32) {
            let slot = pick(SetWord::new(base, count, Algorithm::Random).unwrap(), entropy).unwrap();
            prop_assert!((base..base + count).contains(&slot));
        }
    }
}
