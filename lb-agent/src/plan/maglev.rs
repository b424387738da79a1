// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
//! Balancer", NSDI 2016, 3.4): which backend each slot of a set has.
//!
//! A table follows from its backends' addresses, ports and protocol alone. No index, no order
//! of events and nothing that was before has a part in it, so that every node that sends to
//! the same backends has the same table.

use super::backends::BackendKey;
use crate::{fnv::fnv1a, model::service::Choice};

/// The length of a table for so many backends: the one that the Service asks for, if it is
/// long enough to hold them, or the first that has `PER_BACKEND` slots for each. `None`: there
/// are too many for a table.
pub fn length(backends: usize, asked: Option<u32>) -> Option<u32> {
    let holds = |length: &u32, each: usize| backends.saturating_mul(each) <= *length as usize;
    let last = Choice::LENGTHS.into_iter().next_back().filter(|length| holds(length, LEAST));
    asked
        .filter(|length| holds(length, LEAST))
        .or_else(|| Choice::LENGTHS.into_iter().find(|length| holds(length, PER_BACKEND)))
        .or(last)
}

/// For each slot of a table of this length, which of the backends it has: its place in `keys`,
/// of which no two are the same. Empty without backends.
///
/// Backends take turns, in the order of what they are; each takes the next slot of its own
/// permutation that is free.
pub fn table(keys: &[BackendKey], length: u32) -> Vec<usize> {
    let mut turns: Vec<Turn> = Vec::with_capacity(keys.len());
    turns.extend(keys.iter().enumerate().map(|(place, key)| Turn::new(place, key, length)));
    turns.sort_unstable_by_key(|turn| (keys.get(turn.place).map(order), turn.place));
    let mut slots = vec![FREE; length as usize];
    let mut left = if turns.is_empty() { 0 } else { slots.len() };
    while left > 0 {
        for turn in turns.iter_mut().take(left) {
            turn.take(&mut slots);
            left -= 1;
        }
    }
    if turns.is_empty() { Vec::new() } else { slots }
}

/// Where a backend is in its permutation of the slots.
struct Turn {
    /// Its place in the list of backends.
    place: usize,
    next: u32,
    skip: u32,
    length: u32,
}

impl Turn {
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of a u32 is one")]
    fn new(place: usize, key: &BackendKey, length: u32) -> Self {
        let address = key.address.octets.into_iter();
        let hash = fnv1a(address.chain(key.port.bytes).chain([key.protocol.number]));
        let offset = mixed(hash);
        let skip = mixed(offset);
        let length64 = u64::from(length);
        Self {
            place,
            next: (offset % length64) as u32,
            skip: (skip % (length64 - 1)) as u32 + 1,
            length,
        }
    }

    /// Takes the first slot of the permutation that is free, from where it stands. There is one.
    fn take(&mut self, slots: &mut [usize]) {
        while let Some(slot) = slots.get_mut(self.next as usize) {
            let next = self.next + self.skip;
            self.next = if next < self.length { next } else { next - self.length };
            if *slot == FREE {
                *slot = self.place;
                return;
            }
        }
    }
}

/// Orders backends alike on every node.
const fn order(key: &BackendKey) -> ([u8; 16], [u8; 2], u8) {
    (key.address.octets, key.port.bytes, key.protocol.number)
}

/// The bits of a hash, stirred: FNV leaves the high ones of short keys alike. The finaliser of
/// SplitMix64 (Steele et al., OOPSLA 2014).
const fn mixed(hash: u64) -> u64 {
    let hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Slots for each backend: with fewer, more than one in a hundred flows of other backends would
/// move when one of a hundred goes.
const PER_BACKEND: usize = 500;
/// Slots that each backend has at least: with fewer, shares would be too uneven.
const LEAST: usize = 10;
/// A slot that nobody has taken.
const FREE: usize = usize::MAX;

#[cfg(test)]
mod tests;
