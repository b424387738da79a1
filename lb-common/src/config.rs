// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CONFIG: what the agent tells the kernel programs while they run.

use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, be::Be32, event::Lease, key};

/// The one value of CONFIG, 8256 bytes. Each word is changed with one aligned store.
///
/// What never changes while a program is loaded (the host's namespace cookie, the size
/// of SOCKETS, what the kernel can do) is a read-only global of the program instead, so
/// that the verifier can drop dead branches.
///
/// `node_ports` and `nets` say of most destinations that they are no frontend, for the
/// price of one cache line. They only ever grow: a frontend that is gone may still have
/// sockets that hold its backends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Config {
    /// Number of entries in BYPASS; 0 spares the lookup.
    pub bypassed_namespaces: u32,
    /// Always 0.
    pub _pad0: u32,
    /// The ports that have been NodePorts lie in this range.
    pub node_ports: PortRange,
    /// The ports that the node's own sockets are given (net.ipv4.ip_local_port_range), which
    /// flows are not; empty for the kernel's default.
    pub local_ports: PortRange,
    /// The node's IPv4 address that flows to other nodes' backends leave with, as [`Addr`] has
    /// it; zero if there is none.
    pub snat4: Addr,
    /// The same for IPv6.
    pub snat6: Addr,
    /// Until when events are wanted, and how many; written by whoever monitors.
    pub events: Lease,
    /// A bit for each network that has had a frontend, see [`NetBit`].
    pub nets: [u64; NETS_WORDS],
}

/// Ports from one up to another, 8 bytes; empty when zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct PortRange {
    /// The lowest, in host order.
    pub first: u32,
    /// The highest and one, in host order.
    pub end: u32,
}

/// The place of an address's network in [`Config::nets`]: a hash of all but the address's
/// last byte, so a /24 or a /120 has one bit, and may share it with others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NetBit {
    /// Index into `nets`, below [`NETS_WORDS`].
    pub word: u32,
    /// The bit in it.
    pub mask: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self::zeroed()
    }
}

impl PortRange {
    /// Whether the port (host order) is in the range.
    #[inline(always)]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port as u32 && (port as u32) < self.end
    }

    /// The smallest range with this one and a port (host order).
    #[must_use]
    pub const fn with(self, port: u16) -> Self {
        let port = port as u32;
        if self.end == 0 {
            return Self { first: port, end: port + 1 };
        }
        let first = if port < self.first { port } else { self.first };
        let end = if port < self.end { self.end } else { port + 1 };
        Self { first, end }
    }

    /// From the word that the kernel program loaded.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        bytemuck::must_cast(word)
    }

    /// The word that the agent stores.
    pub const fn to_word(self) -> u64 {
        bytemuck::must_cast(self)
    }
}

impl NetBit {
    /// Bits of an address that name its network; an IPv4 address has 96 of them before it.
    pub const BITS: u32 = 120;

    /// The bit of an address's network.
    #[inline(always)]
    pub const fn of(address: Addr) -> Self {
        let [w0, w1, w2, w3] = address.to_words();
        let w3 = Be32::from_wire(w3.to_wire() & BUT_LAST.to_wire());
        let hash = key::hash_words([w0, w1, w2, w3]);
        // The upper half: a product's upper bits hang on all of its factors' bits.
        Self { word: hash >> 22, mask: 1 << (hash >> 16 & 63) }
    }
}

/// Words of [`Config::nets`]: 65 536 bits. A service range of a /12 with 10 000 Services all
/// over it sets 6 % of them.
pub const NETS_WORDS: usize = 1024;

/// All but the last byte of a word.
const BUT_LAST: Be32 = Be32 { bytes: [0xff, 0xff, 0xff, 0] };

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_network_has_one_bit_and_networks_are_spread() {
        let bit = |c: u8, d: u8| NetBit::of(Ipv4Addr::new(10, 96, c, d).into());
        assert_eq!(bit(0, 1), bit(0, 255));
        let mut seen = [0_u64; NETS_WORDS];
        for third in 0..=255 {
            for second in 96..112 {
                let NetBit { word, mask } = NetBit::of(Ipv4Addr::new(10, second, third, 9).into());
                seen[word as usize] |= mask;
            }
        }
        let set: u32 = seen.iter().map(|word| word.count_ones()).sum();
        assert!((3850..=4096).contains(&set), "{set} bits for 4096 networks");
        let v6 = |low: u16| NetBit::of(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, low).into());
        assert_eq!(v6(0x101), v6(0x1ff));
        assert_ne!(v6(0x101), v6(0x201));
    }

    #[test]
    fn a_range_grows_to_what_it_is_given() {
        let empty = PortRange::default();
        assert!(!empty.contains(0) && !empty.contains(u16::MAX));
        let range = empty.with(30_000).with(u16::MAX).with(31_000);
        assert_eq!(range, PortRange { first: 30_000, end: 65_536 });
        assert!(range.contains(30_000) && range.contains(u16::MAX) && !range.contains(29_999));
        assert_eq!(range.with(0).first, 0);
        assert_eq!(PortRange::from_word(range.to_word()), range);
    }
}
