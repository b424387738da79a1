// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One address type for both families.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytemuck::{Pod, Zeroable};

use crate::be::Be32;

/// An IP address in 16 bytes, network order; IPv4 as `::ffff:a.b.c.d` (RFC 4291 2.5.5.2).
///
/// Alignment 4, so that it can follow a 32-bit field without padding.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct Addr {
    /// The bytes as they travel.
    pub octets: [u8; 16],
}

impl Addr {
    /// All zero: no address.
    pub const ZERO: Self = Self { octets: [0; 16] };

    /// Bits of an address.
    pub const BITS: u32 = 128;

    /// Bits of an address that are no IPv4 address's own: the mapping's.
    pub const V4_BITS: u32 = 96;

    /// From an IPv4 address.
    #[inline(always)]
    pub const fn from_v4(address: Be32) -> Self {
        Self::from_words([Be32::ZERO, Be32::ZERO, Be32::from_host(V4_PREFIX), address])
    }

    /// From four 32-bit words in network order, first word first.
    #[inline(always)]
    pub const fn from_words(words: [Be32; 4]) -> Self {
        bytemuck::must_cast(words)
    }

    /// The four 32-bit words in network order, first word first.
    #[inline(always)]
    pub const fn to_words(self) -> [Be32; 4] {
        bytemuck::must_cast(self)
    }

    /// The IPv4 address, or `None` for an IPv6 one.
    #[inline(always)]
    pub const fn to_v4(self) -> Option<Be32> {
        let [w0, w1, w2, w3] = self.to_words();
        if w0.to_wire() == 0 && w1.to_wire() == 0 && w2.to_host() == V4_PREFIX {
            Some(w3)
        } else {
            None
        }
    }

    /// As the standard library's type; a mapped address comes back as IPv4.
    pub const fn to_ip(self) -> IpAddr {
        match self.to_v4() {
            Some(Be32 { bytes: [a, b, c, d] }) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            None => IpAddr::V6(Ipv6Addr::from_octets(self.octets)),
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_v4(Be32 { bytes: address.octets() })
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(address: Ipv6Addr) -> Self {
        Self { octets: address.octets() }
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

/// Bytes 8 to 11 of an IPv4-mapped address.
pub const V4_PREFIX: u32 = 0x0000_ffff;

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use super::*;

    #[test]
    fn ipv4_is_mapped_and_comes_back() {
        let address = Addr::from(Ipv4Addr::new(10, 96, 0, 1));
        assert_eq!(address.octets[10..], [0xff, 0xff, 10, 96, 0, 1]);
        assert_eq!(address.to_v4(), Some(Be32::from_host(0x0a60_0001)));
        assert_eq!(address.to_ip(), IpAddr::from([10, 96, 0, 1]));
    }

    #[test]
    fn ipv6_is_not_ipv4() {
        let address = Addr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0xffff, 1, 2));
        assert_eq!(address.to_v4(), None);
        assert_eq!(Addr::from_words(address.to_words()), address);
        assert_eq!(address.to_ip(), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0xffff, 1, 2)));
    }
}
