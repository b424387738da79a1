// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums against the definition: 16-bit words in network order, carries added back.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

extern crate std;

/// RFC 1071, word by word.
fn reference(words: &[[u8; 4]]) -> u16 {
    let halves = words.iter().flat_map(|word| word.chunks(2));
    let mut sum: u32 = halves.map(|half| u32::from(half[0]) << 8 | u32::from(half[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

fn sum(words: &[[u8; 4]]) -> Sum {
    words.iter().fold(Sum::ZERO, |sum, &bytes| sum.with(Be32 { bytes }))
}

/// 0 and 0xffff are one number in one's complement.
fn same(left: u16, right: u16) -> bool {
    left == right || (left.min(right), left.max(right)) == (0, 0xffff)
}

#[test]
fn an_address_counts_as_its_family_has_it() {
    let v4 = Ipv4Addr::new(10, 0, 0, 7);
    assert_eq!(Sum::ZERO.with_address(v4.into()), sum(&[v4.octets()]));
    let v6 = Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, 7);
    let words: Vec<[u8; 4]> = v6.octets().chunks(4).map(|word| word.try_into().unwrap()).collect();
    assert_eq!(Sum::ZERO.with_address(v6.into()), sum(&words));
}

proptest! {
    #[test]
    fn a_sum_is_the_definitions(words in prop::collection::vec(any::<[u8; 4]>(), 0..400)) {
        prop_assert_eq!(sum(&words).folded().to_host(), reference(&words));
        prop_assert_eq!(sum(&words).checksum().to_host(), !reference(&words));
    }

    #[test]
    fn a_difference_turns_one_sum_into_the_other(
        words in prop::collection::vec(any::<[u8; 4]>(), 1..60),
        new: [u8; 4],
        place: prop::sample::Index,
    ) {
        let mut changed = words.clone();
        let place = place.index(words.len());
        changed[place] = new;
        let change = Sum::ZERO.replacing(Be32 { bytes: words[place] }, Be32 { bytes: new });
        let turned = sum(&words).with_sum(change).folded().to_host();
        prop_assert!(same(turned, reference(&changed)), "{turned:#x} {:#x}", reference(&changed));
    }

    #[test]
    fn an_addresss_change_is_that_of_its_words(old: [u8; 16], new: [u8; 16]) {
        let (old, new) = (Addr { octets: old }, Addr { octets: new });
        let words = |address: Addr| address.to_words().map(|word| word.bytes);
        let turned = sum(&words(old)).with_sum(Sum::ZERO.replacing_address(old, new));
        prop_assert!(same(turned.folded().to_host(), reference(&words(new))));
    }
}
