// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Places in the arrays: indexes one by one, and regions of slots.
//!
//! Both are restored from what the maps hold, so that a restart moves nothing. What is given
//! back is taken again at once: the caller waits for the grace period first.

use std::collections::{BTreeMap, BTreeSet};

/// The indexes of an array; index 0 is never given out.
#[derive(Clone, Debug)]
pub struct Indexes {
    /// Free ones below `next`.
    free: BTreeSet<u32>,
    /// Every index from here on is free.
    next: u32,
    capacity: u32,
}

/// The slots of SLOTS, handed out in regions.
///
/// Best fit, with neighbours joined when they come back. Sizes are rounded up to one of eight
/// steps between powers of two, so that a region which one set leaves fits many others; at
/// most an eighth of a region is unused.
#[derive(Clone, Debug)]
pub struct Regions {
    /// Length of each free stretch by its first slot.
    by_base: BTreeMap<u32, u32>,
    /// The same as (length, first slot).
    by_length: BTreeSet<(u32, u32)>,
    capacity: u32,
    free: u32,
}

impl Indexes {
    /// Those of an array of `capacity` elements, of which some are in use.
    pub fn new(capacity: u32, used: impl IntoIterator<Item = u32>) -> Self {
        let used: BTreeSet<u32> = used.into_iter().collect();
        let next = used.last().map_or(1, |last| last.saturating_add(1));
        Self { free: (1..next).filter(|index| !used.contains(index)).collect(), next, capacity }
    }

    /// The lowest free index; `None` if all are in use.
    pub fn take(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop_first() {
            return Some(index);
        }
        let index = self.next;
        (index < self.capacity).then(|| {
            self.next += 1;
            index
        })
    }

    /// Gives an index back.
    pub fn give(&mut self, index: u32) {
        self.free.insert(index);
    }

    /// How many are free.
    pub fn free(&self) -> u32 {
        let below = u32::try_from(self.free.len()).unwrap_or(u32::MAX);
        self.capacity.saturating_sub(self.next).saturating_add(below)
    }

    /// How many are in use.
    pub fn used(&self) -> usize {
        (self.next as usize - 1).saturating_sub(self.free.len())
    }
}

impl Regions {
    /// All of an array of `capacity` slots.
    pub fn new(capacity: u32) -> Self {
        let mut regions =
            Self { by_base: BTreeMap::new(), by_length: BTreeSet::new(), capacity, free: 0 };
        regions.insert(0, capacity);
        regions
    }

    /// Takes the region that a set of `count` slots at `base` has. `false` if it is not wholly
    /// free: two sets that overlap, or a set outside the array.
    pub fn claim(&mut self, base: u32, count: u32) -> bool {
        let Some(length) = rounded(count) else { return false };
        let Some((&start, &stretch)) = self.by_base.range(..=base).next_back() else {
            return false;
        };
        let (Some(end), Some(stretch_end)) = (base.checked_add(length), start.checked_add(stretch))
        else {
            return false;
        };
        if end > stretch_end {
            return false;
        }
        self.remove(start, stretch);
        self.insert(start, base - start);
        self.insert(end, stretch_end - end);
        true
    }

    /// The first slot of a free region for `count` slots; `None` if there is none.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        let length = rounded(count)?;
        let &(stretch, base) = self.by_length.range((length, 0)..).next()?;
        self.remove(base, stretch);
        self.insert(base + length, stretch - length);
        Some(base)
    }

    /// Gives back the region of a set of `count` slots at `base`.
    pub fn give(&mut self, base: u32, count: u32) {
        let Some(mut length) = rounded(count) else { return };
        let mut base = base;
        if let Some((&before, &stretch)) = self.by_base.range(..base).next_back()
            && before + stretch == base
        {
            self.remove(before, stretch);
            base = before;
            length += stretch;
        }
        if let Some(&stretch) = self.by_base.get(&(base + length)) {
            self.remove(base + length, stretch);
            length += stretch;
        }
        self.insert(base, length);
    }

    /// How many slots are free.
    pub const fn free(&self) -> u32 {
        self.free
    }

    /// How many slots are in use.
    pub const fn used(&self) -> u32 {
        self.capacity - self.free
    }

    fn insert(&mut self, base: u32, length: u32) {
        if length != 0 {
            self.by_base.insert(base, length);
            self.by_length.insert((length, base));
            self.free += length;
        }
    }

    fn remove(&mut self, base: u32, length: u32) {
        self.by_base.remove(&base);
        self.by_length.remove(&(length, base));
        self.free -= length;
    }
}

/// The size of a region for `count` slots; it follows from the count alone, so that a set
/// word says all about its region. `None` if it does not fit in 32 bits.
fn rounded(count: u32) -> Option<u32> {
    let step = 1 << count.checked_ilog2()?.saturating_sub(STEPS_LOG2);
    count.checked_next_multiple_of(step)
}

/// Eight steps from one power of two to the next.
const STEPS_LOG2: u32 = 3;

#[cfg(test)]
mod tests;
