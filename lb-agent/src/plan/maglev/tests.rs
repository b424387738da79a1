// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a Maglev table promises, counted over its slots.

use std::net::Ipv4Addr;

use lb_common::{be::Be16, protocol::Protocol};
use proptest::{collection::btree_set, prelude::*};

use super::*;

fn key(address: u32, port: u16) -> BackendKey {
    let address = Ipv4Addr::from(0x0af4_0000 + address).into();
    BackendKey { address, port: Be16::from_host(port), protocol: Protocol::UDP }
}

fn keys(count: u32) -> Vec<BackendKey> {
    (0..count).map(|at| key(at, 8080)).collect()
}

/// The backend of each slot.
fn names(keys: &[BackendKey], length: u32) -> Vec<BackendKey> {
    table(keys, length).into_iter().map(|place| keys[place]).collect()
}

#[test]
fn lengths_are_primes() {
    for length in Choice::LENGTHS {
        let root = length.isqrt();
        assert!((2..=root).all(|divisor| !length.is_multiple_of(divisor)), "{length}");
    }
}

#[test]
fn a_length_follows_from_how_many_backends_there_are_now() {
    let lengths = [1, 4, 5, 16, 17, 65, 100, 131, 132, 1000, 13_107].map(|it| length(it, None));
    let wanted =
        [2_039, 2_039, 8_191, 8_191, 32_749, 32_749, 65_521, 65_521, 131_071, 131_071, 131_071];
    assert_eq!(lengths, wanted.map(Some));
    assert_eq!(length(13_108, None), None);
    assert_eq!(length(3, Some(65_521)), Some(65_521));
    assert_eq!(length(203, Some(2_039)), Some(2_039));
    assert_eq!(length(204, Some(2_039)), Some(131_071));
}

#[test]
fn without_backends_there_is_no_table() {
    assert_eq!(table(&[], 2_039), Vec::<usize>::new());
}

/// Addresses one after the other, as a node gives them to its pods.
#[test]
fn each_backend_has_its_share() {
    for (backends, length) in [(3, 2_039), (10, 8_191), (100, 65_521), (1000, 131_071)] {
        let mut shares = vec![0_u32; backends as usize];
        for place in table(&keys(backends), length) {
            shares[place] += 1;
        }
        let even = f64::from(length) / f64::from(backends);
        let worst = shares.iter().map(|&it| (f64::from(it) / even - 1.0).abs()).fold(0.0, f64::max);
        println!("{backends} backends, {length} slots: no share is off by more than {worst:.4}");
        assert!(worst < 0.02, "{backends} backends: {worst}");
    }
}

/// Each of a hundred in turn: of the slots that were not its own, how many have another backend
/// than before?
#[test]
fn one_of_a_hundred_that_goes_moves_at_most_one_in_a_hundred_other_flows() {
    let keys = keys(100);
    let length = length(keys.len(), None).unwrap();
    let before = names(&keys, length);
    let mut worst = 0;
    for gone in &keys {
        let left: Vec<_> = keys.iter().copied().filter(|key| key != gone).collect();
        let after = names(&left, length);
        let others = before.iter().zip(&after).filter(|(before, _)| *before != gone);
        let moved = others.clone().filter(|(before, after)| before != after).count();
        worst = worst.max(moved * 100_000 / others.count());
        assert!(after.iter().all(|key| key != gone));
    }
    println!("one of 100 gone, {length} slots: at most {worst} of 100000 others move");
    assert!(worst <= 1_000, "{worst}");
}

/// Tables are a promise between nodes and between releases: a change of the hash moves every
/// flow of a node that is upgraded while others are not.
#[test]
fn a_table_is_the_same_in_every_build() {
    let slots = names(&keys(7), 8_191);
    let text = slots.iter().flat_map(|key| order(key).0);
    assert_eq!(format!("{:016x}", fnv1a(text)), TABLE);
}

proptest! {
    #[test]
    fn a_table_knows_no_order(
        parts in btree_set((0_u32..1 << 16, 1_u16..100), 1..40),
        seed: prop::sample::Index,
    ) {
        let keys: Vec<_> = parts.into_iter().map(|(address, port)| key(address, port)).collect();
        let mut others = keys.clone();
        others.rotate_left(seed.index(keys.len()));
        others[..seed.index(keys.len())].reverse();
        prop_assert_eq!(names(&keys, 2_039), names(&others, 2_039));
    }
}

/// The hash of a table's addresses.
const TABLE: &str = "f35c075303dba2e1";
