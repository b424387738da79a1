// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FRONTENDS4 and FRONTENDS6: the address, port and protocol that clients dial.

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::Addr,
    be::{Be16, Be32},
    protocol::Protocol,
};

/// Key of FRONTENDS4, 8 bytes.
///
/// A key of its own because a 20-byte key costs 31 ns more a lookup than this one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct FrontendKey4 {
    /// The frontend's IPv4 address.
    pub address: Be32,
    /// The frontend's port.
    pub port: Be16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Always 0.
    pub _pad: u8,
}

/// Key of FRONTENDS6, 20 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct FrontendKey6 {
    /// The frontend's IPv6 address; never an IPv4-mapped one.
    pub address: Addr,
    /// The frontend's port.
    pub port: Be16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Always 0.
    pub _pad: u8,
}

/// Value of both frontend maps, read with one 64-bit load.
///
/// An element of a BPF hash can be recycled for another key under a reader's eyes;
/// the tag tells the reader that this is not the element it looked up.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct FrontendValue {
    /// Index into SERVICES, never 0.
    pub service: u32,
    /// [`FrontendKey4::tag`] or [`FrontendKey6::tag`] of the element's own key.
    pub tag: u32,
}

impl FrontendKey4 {
    /// A key from its parts.
    #[inline(always)]
    pub const fn new(address: Be32, port: Be16, protocol: Protocol) -> Self {
        Self { address, port, protocol, _pad: 0 }
    }

    /// The key that says that an address is a ClusterIP, whatever the port: no client can
    /// dial it (CIP-04).
    #[inline(always)]
    pub const fn any_port(address: Be32) -> Self {
        Self::new(address, Be16::ZERO, Protocol::NONE)
    }

    /// Whether it is one of [`any_port`](Self::any_port).
    pub fn is_any_port(&self) -> bool {
        *self == Self::any_port(self.address)
    }

    /// A cheap hash of the key; two keys that meet in one recycled element rarely share it.
    #[inline(always)]
    pub const fn tag(&self) -> u32 {
        mix(mix(SEED, self.address.to_wire()), port_word(self.port, self.protocol))
    }
}

impl FrontendKey6 {
    /// A key from its parts.
    #[inline(always)]
    pub const fn new(address: Addr, port: Be16, protocol: Protocol) -> Self {
        Self { address, port, protocol, _pad: 0 }
    }

    /// As [`FrontendKey4::any_port`].
    #[inline(always)]
    pub const fn any_port(address: Addr) -> Self {
        Self::new(address, Be16::ZERO, Protocol::NONE)
    }

    /// Whether it is one of [`any_port`](Self::any_port).
    pub fn is_any_port(&self) -> bool {
        *self == Self::any_port(self.address)
    }

    /// A cheap hash of the key; two keys that meet in one recycled element rarely share it.
    #[inline(always)]
    pub const fn tag(&self) -> u32 {
        mix(hash_words(self.address.to_words()), port_word(self.port, self.protocol))
    }
}

impl FrontendValue {
    /// From the word that the kernel program loaded.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        bytemuck::must_cast(word)
    }
}

/// A cheap hash of an address's words.
#[inline(always)]
pub(crate) const fn hash_words([w0, w1, w2, w3]: [Be32; 4]) -> u32 {
    let high = mix(mix(SEED, w0.to_wire()), w1.to_wire());
    mix(mix(high, w2.to_wire()), w3.to_wire())
}

/// The last four bytes of a key as one word.
#[inline(always)]
const fn port_word(port: Be16, protocol: Protocol) -> u32 {
    let [high, low] = port.bytes;
    u32::from_ne_bytes([high, low, protocol.number, 0])
}

/// One multiply and one shift a word (the finaliser constant of MurmurHash3).
#[inline(always)]
pub(crate) const fn mix(hash: u32, word: u32) -> u32 {
    let hash = (hash ^ word).wrapping_mul(0x85eb_ca6b);
    hash ^ (hash >> 15)
}

/// Any odd start: keys of zeros must not hash to zero.
const SEED: u32 = 0x9e37_79b9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_key_changes_its_tag() {
        let key =
            FrontendKey4::new(Be32::from_host(0x0a60_0001), Be16::from_host(80), Protocol::TCP);
        assert_ne!(key.tag(), FrontendKey4 { port: Be16::from_host(81), ..key }.tag());
        assert_ne!(key.tag(), FrontendKey4 { protocol: Protocol::UDP, ..key }.tag());
        assert_ne!(key.tag(), FrontendKey4 { address: Be32::from_host(0x0a60_0002), ..key }.tag());
    }

    #[test]
    fn a_value_is_what_one_load_of_its_memory_gives() {
        let value = FrontendValue { service: 7, tag: 0xdead_beef };
        let word: u64 = bytemuck::cast(value);
        assert_eq!(FrontendValue::from_word(word), value);
    }
}
