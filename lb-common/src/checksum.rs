// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Internet checksum (RFC 1071) and what a change of the summed words does to it
//! (RFC 1624).
//!
//! Words are taken as memory has them: the sum is the same in either byte order (RFC 1071 2 B).

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::Addr,
    be::{Be16, Be32},
};

/// A one's complement sum that is not folded yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Sum {
    /// Carries gather in the upper half: 2^32 words may be added.
    total: u64,
}

impl Sum {
    /// Of nothing.
    pub const ZERO: Self = Self { total: 0 };

    /// With a word more.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, word: Be32) -> Self {
        Self { total: self.total + word.to_wire() as u64 }
    }

    /// With half a word more, at the place of a word's second half.
    #[inline(always)]
    #[must_use]
    pub const fn with_low(self, word: Be16) -> Self {
        let [high, low] = word.bytes;
        self.with(Be32 { bytes: [0, 0, high, low] })
    }

    /// With an address more; the mapping of an IPv4 address does not count.
    #[inline(always)]
    #[must_use]
    pub const fn with_address(self, address: Addr) -> Self {
        let [w0, w1, w2, w3] = address.to_words();
        if address.to_v4().is_some() {
            self.with(w3)
        } else {
            self.with(w0).with(w1).with(w2).with(w3)
        }
    }

    /// With what another word in the place of this one adds.
    #[inline(always)]
    #[must_use]
    pub const fn replacing(self, old: Be32, new: Be32) -> Self {
        Self { total: self.total + (!old.to_wire()) as u64 + new.to_wire() as u64 }
    }

    /// With what other half a word in the place of this one adds.
    #[inline(always)]
    #[must_use]
    pub const fn replacing_low(self, old: Be16, new: Be16) -> Self {
        let ([o0, o1], [n0, n1]) = (old.bytes, new.bytes);
        self.replacing(Be32 { bytes: [0, 0, o0, o1] }, Be32 { bytes: [0, 0, n0, n1] })
    }

    /// With what another address in the place of this one adds, in the same family.
    #[inline(always)]
    #[must_use]
    pub const fn replacing_address(self, old: Addr, new: Addr) -> Self {
        let [old0, old1, old2, old3] = old.to_words();
        let [new0, new1, new2, new3] = new.to_words();
        self.replacing(old0, new0).replacing(old1, new1).replacing(old2, new2).replacing(old3, new3)
    }

    /// With all that another sum has.
    #[inline(always)]
    #[must_use]
    pub const fn with_sum(self, other: Self) -> Self {
        Self { total: self.total + other.difference() as u64 }
    }

    /// What makes up for all that this sum has.
    #[inline(always)]
    #[must_use]
    pub const fn negated(self) -> Self {
        Self { total: !self.difference() as u64 }
    }

    /// Folded to 32 bits: the kernel's `__wsum`, which its helpers take as a difference.
    #[expect(clippy::cast_possible_truncation, reason = "two folds leave 32 bits")]
    #[inline(always)]
    pub const fn difference(self) -> u32 {
        let once = (self.total & 0xffff_ffff) + (self.total >> 32);
        ((once & 0xffff_ffff) + (once >> 32)) as u32
    }

    /// Folded to 16 bits, not complemented.
    #[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits")]
    #[inline(always)]
    pub const fn folded(self) -> Be16 {
        let sum = self.difference();
        let once = (sum & 0xffff) + (sum >> 16);
        Be16::from_wire(((once & 0xffff) + (once >> 16)) as u16)
    }

    /// A checksum after this change of what it sums (RFC 1624 3, equation 3).
    #[inline(always)]
    #[must_use]
    pub const fn applied(self, checksum: Be16) -> Be16 {
        Self { total: self.total + (!checksum.to_wire()) as u64 }.checksum()
    }

    /// The checksum of what was added.
    #[inline(always)]
    pub const fn checksum(self) -> Be16 {
        Be16::from_wire(!self.folded().to_wire())
    }
}

#[cfg(test)]
mod tests;
