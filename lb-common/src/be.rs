// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Integers in network byte order, as types: the only doors to and from host order.

use bytemuck::{Pod, Zeroable};

/// A 16-bit integer in network byte order: ports.
///
/// The field is a byte array so that `bpftool map dump` shows the bytes as they
/// travel, whatever the node's endianness.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C, align(2))]
pub struct Be16 {
    /// Most significant byte first.
    pub bytes: [u8; 2],
}

impl Be16 {
    /// Zero: no port.
    pub const ZERO: Self = Self { bytes: [0; 2] };

    /// From a number in host order.
    #[inline(always)]
    pub const fn from_host(value: u16) -> Self {
        Self { bytes: value.to_be_bytes() }
    }

    /// The number in host order.
    #[inline(always)]
    pub const fn to_host(self) -> u16 {
        u16::from_be_bytes(self.bytes)
    }

    /// From a word as the kernel holds it (`__be16`): its memory is network order.
    #[inline(always)]
    pub const fn from_wire(word: u16) -> Self {
        Self { bytes: word.to_ne_bytes() }
    }

    /// The word as the kernel holds it (`__be16`).
    #[inline(always)]
    pub const fn to_wire(self) -> u16 {
        u16::from_ne_bytes(self.bytes)
    }
}

/// A 32-bit integer in network byte order: an IPv4 address or a quarter of an IPv6 one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct Be32 {
    /// Most significant byte first.
    pub bytes: [u8; 4],
}

impl Be32 {
    /// Zero: the unspecified address.
    pub const ZERO: Self = Self { bytes: [0; 4] };

    /// From a number in host order.
    #[inline(always)]
    pub const fn from_host(value: u32) -> Self {
        Self { bytes: value.to_be_bytes() }
    }

    /// The number in host order.
    #[inline(always)]
    pub const fn to_host(self) -> u32 {
        u32::from_be_bytes(self.bytes)
    }

    /// From a word as the kernel holds it (`__be32`): its memory is network order.
    #[inline(always)]
    pub const fn from_wire(word: u32) -> Self {
        Self { bytes: word.to_ne_bytes() }
    }

    /// The word as the kernel holds it (`__be32`).
    #[inline(always)]
    pub const fn to_wire(self) -> u32 {
        u32::from_ne_bytes(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_order_survives_a_round_trip_and_bytes_are_in_network_order() {
        assert_eq!(Be16::from_host(8080).bytes, [0x1f, 0x90]);
        assert_eq!(Be16::from_host(8080).to_host(), 8080);
        assert_eq!(Be32::from_host(0x0a60_0001).bytes, [10, 96, 0, 1]);
        assert_eq!(Be32::from_host(0x0a60_0001).to_host(), 0x0a60_0001);
    }

    #[test]
    fn a_wire_word_keeps_its_memory() {
        let word = u32::from_ne_bytes([10, 96, 0, 1]);
        assert_eq!(Be32::from_wire(word).bytes, [10, 96, 0, 1]);
        assert_eq!(Be32::from_wire(word).to_wire(), word);
        assert_eq!(Be16::from_wire(u16::from_ne_bytes([0, 53])).to_host(), 53);
    }
}
