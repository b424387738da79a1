// SPDX-License-Identifier: Apache-2.0 OR MIT
use proptest::prelude::*;

use super::*;

#[test]
fn indexes_start_at_one_and_are_reused_lowest_first() {
    let mut indexes = Indexes::new(4, []);
    assert_eq!([indexes.take(), indexes.take(), indexes.take()], [Some(1), Some(2), Some(3)]);
    assert_eq!(indexes.take(), None);
    indexes.give(3);
    indexes.give(1);
    assert_eq!(indexes.used(), 1);
    assert_eq!([indexes.take(), indexes.take(), indexes.take()], [Some(1), Some(3), None]);
}

#[test]
fn indexes_that_are_in_use_are_not_given_out() {
    let mut indexes = Indexes::new(8, [2, 5]);
    assert_eq!(indexes.used(), 2);
    let all: Vec<_> = std::iter::from_fn(|| indexes.take()).collect();
    assert_eq!(all, [1, 3, 4, 6, 7]);
}

#[test]
fn a_region_is_at_most_an_eighth_larger_than_its_set() {
    for count in 1..5000 {
        let length = rounded(count).unwrap();
        assert!(length >= count && (length - count) * 8 <= count, "{count} becomes {length}");
    }
    assert_eq!(rounded(0), None);
    assert_eq!(rounded(u32::MAX), None);
}

#[test]
fn neighbours_join_when_they_come_back() {
    let mut regions = Regions::new(12);
    let bases: Vec<_> = (0..4).map(|_| regions.take(3).unwrap()).collect();
    assert_eq!(regions.take(1), None);
    for index in [0, 2, 1, 3] {
        regions.give(bases[index], 3);
    }
    assert_eq!((regions.take(12), regions.used()), (Some(0), 12));
}

#[test]
fn a_claim_takes_exactly_what_a_set_has() {
    let mut regions = Regions::new(100);
    assert!(regions.claim(10, 5));
    assert!(!regions.claim(14, 1), "overlaps");
    assert!(!regions.claim(8, 3), "overlaps");
    assert!(!regions.claim(99, 2), "beyond the end");
    assert!(!regions.claim(u32::MAX, 2), "far beyond the end");
    assert!(!regions.claim(50, 0), "no set");
    assert!(regions.claim(15, 80));
    assert_eq!((regions.take(10), regions.take(5), regions.take(1)), (Some(0), Some(95), None));
}

#[test]
fn churn_of_sets_of_all_sizes_never_fails_below_two_thirds_full() {
    let capacity = 1 << 16;
    let mut regions = Regions::new(capacity);
    let mut held: Vec<(u32, u32)> = Vec::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for round in 0..200_000 {
        let exponent = draw(11);
        let count = u32::try_from((1 << exponent) + draw(1 << exponent)).unwrap();
        if regions.used() + count < capacity / 3 * 2 {
            let base = regions.take(count);
            held.push((base.unwrap_or_else(|| panic!("round {round}: no {count}")), count));
        } else {
            let (base, count) = held.swap_remove(usize::try_from(draw(held.len() as u64)).unwrap());
            regions.give(base, count);
        }
    }
}

proptest! {
    #[test]
    fn regions_never_overlap_and_all_come_back(
        steps in prop::collection::vec((1_u32..40, any::<prop::sample::Index>(), any::<bool>()), 0..200),
    ) {
        let mut regions = Regions::new(512);
        let mut held: Vec<(u32, u32)> = Vec::new();
        for (count, which, takes) in steps {
            if takes || held.is_empty() {
                held.extend(regions.take(count).map(|base| (base, count)));
            } else {
                let (base, count) = held.swap_remove(which.index(held.len()));
                regions.give(base, count);
            }
            held.sort_unstable();
            prop_assert!(held.windows(2).all(|pair| pair[0].0 + rounded(pair[0].1).unwrap() <= pair[1].0));
            prop_assert!(held.last().is_none_or(|(base, count)| base + count <= 512));
            let used: u32 = held.iter().map(|(_, count)| rounded(*count).unwrap()).sum();
            prop_assert_eq!(regions.used(), used);
            // A restart finds the same.
            let mut restored = Regions::new(512);
            prop_assert!(held.iter().all(|&(base, count)| restored.claim(base, count)));
            prop_assert_eq!(&restored.by_base, &regions.by_base);
            prop_assert_eq!(&restored.by_length, &regions.by_length);
        }
        for (base, count) in held {
            regions.give(base, count);
        }
        prop_assert_eq!(regions.take(512), Some(0));
    }
}
