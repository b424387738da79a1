// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SOURCE_RANGES and SERVICE_CIDRS: the two maps that are looked up by prefix.
//!
//! The kernel's trie wants the prefix's length first, then the bytes that it compares from
//! the first bit on (`struct bpf_lpm_trie_key`).

use core::cmp::Ordering;

use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, be::Be32};

/// Key of SOURCE_RANGES, 24 bytes: one range of one service port, or one client of it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct RangeKey {
    /// Bits of `guard` that count, host order: 32 and the prefix's length; an IPv4 prefix
    /// has 96 more, as its address has.
    pub prefix_len: u32,
    /// Whose range, and the network.
    pub guard: Guard,
}

/// What SOURCE_RANGES compares, 20 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct Guard {
    /// [`Service::id`](crate::service::Service::id); all of its bits always count.
    pub service_id: u32,
    /// A network, or a client's address; or [`Guard::NODE`].
    pub address: Addr,
}

/// Value of SOURCE_RANGES, 4 bytes: why clients of the range are admitted.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(transparent)]
pub struct Admission {
    /// [`Admission::LISTED`], [`Admission::VIP`] or [`Admission::NODE`].
    pub reason: u32,
}

/// Key of SERVICE_CIDRS, 20 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct CidrKey {
    /// Bits of `address` that count, host order; an IPv4 prefix has 96 more than it says.
    pub prefix_len: u32,
    /// The network, or an address that is looked up.
    pub address: Addr,
}

/// Value of SERVICE_CIDRS, 4 bytes: what becomes of a flow to an address inside that has no
/// frontend.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(transparent)]
pub struct CidrRule {
    /// [`CidrRule::SERVICE_CIDR`] or [`CidrRule::CLUSTER_IPS`].
    pub rule: u32,
}

impl RangeKey {
    /// A client as it is looked up: all bits count.
    #[inline(always)]
    pub const fn client(service_id: u32, address: Addr) -> Self {
        Self { prefix_len: 32 + Addr::BITS, guard: Guard { service_id, address } }
    }

    /// A range; `bits` counts as in [`Addr`], where an IPv4 prefix has 96 more.
    pub const fn range(service_id: u32, address: Addr, bits: u32) -> Self {
        Self { prefix_len: 32 + bits, guard: Guard { service_id, address } }
    }

    /// The bits of the address that count.
    pub const fn bits(&self) -> u32 {
        self.prefix_len.saturating_sub(32)
    }

    /// Whether a client is inside.
    pub fn contains(&self, client: &Guard) -> bool {
        self.guard.service_id == client.service_id
            && contains(self.guard.address, self.bits(), client.address)
    }
}

impl Guard {
    /// Processes in the node's own network namespace whose source the kernel has not chosen
    /// yet: an address of the discard-only block 0100::/64 (RFC 6666), which no client has.
    /// Only [`Admission::NODE`] admits it: a range as wide as `::/1` holds it by chance.
    pub const NODE: Addr = Addr::from_words([
        Be32::from_host(0x0100_0000),
        Be32::ZERO,
        Be32::ZERO,
        Be32::from_host(1),
    ]);
}

impl Admission {
    /// A range of `spec.loadBalancerSourceRanges` (LB-06).
    pub const LISTED: Self = Self { reason: 1 };
    /// One of the Service's own load balancer addresses, since a range holds the node's
    /// address (LB-09).
    pub const VIP: Self = Self { reason: 2 };
    /// The node's own processes, since a range holds the node's address.
    pub const NODE: Self = Self { reason: 3 };
}

impl CidrKey {
    /// An address as it is looked up: all bits count.
    #[inline(always)]
    pub const fn address(address: Addr) -> Self {
        Self { prefix_len: Addr::BITS, address }
    }

    /// A prefix; `bits` counts as in [`Addr`], where an IPv4 prefix has 96 more.
    pub const fn prefix(address: Addr, bits: u32) -> Self {
        Self { prefix_len: bits, address }
    }

    /// Whether an address is inside.
    pub fn contains(&self, address: Addr) -> bool {
        contains(self.address, self.prefix_len, address)
    }
}

impl CidrRule {
    /// A ServiceCIDR: a known ClusterIP refuses (CIP-04), a free address drops (CIP-05).
    pub const SERVICE_CIDR: Self = Self { rule: 1 };
    /// Holds ClusterIPs that are in no ServiceCIDR: those refuse (CIP-04, CIP-06), what else
    /// it holds is nobody's.
    pub const CLUSTER_IPS: Self = Self { rule: 2 };
}

impl Ord for RangeKey {
    /// All ranges of a service id together.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.guard, self.prefix_len).cmp(&(other.guard, other.prefix_len))
    }
}

impl PartialOrd for RangeKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CidrKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.address, self.prefix_len).cmp(&(other.address, other.prefix_len))
    }
}

impl PartialOrd for CidrKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether the first `bits` of two addresses are the same.
fn contains(network: Addr, bits: u32, address: Addr) -> bool {
    let differ = u128::from_be_bytes(network.octets) ^ u128::from_be_bytes(address.octets);
    differ.leading_zeros() >= bits
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_range_holds_what_has_its_first_bits() {
        let v4 = |last| Addr::from(Ipv4Addr::new(10, 1, 2, last));
        let range = RangeKey::range(7, v4(0), 96 + 30);
        assert!(range.contains(&RangeKey::client(7, v4(3)).guard));
        assert!(!range.contains(&RangeKey::client(7, v4(4)).guard));
        assert!(!range.contains(&RangeKey::client(8, v4(3)).guard));
        assert!(CidrKey::prefix(v4(0), 96).contains(v4(200)), "all of IPv4");
        assert!(!CidrKey::prefix(v4(0), 96).contains(Ipv6Addr::LOCALHOST.into()));
        assert!(CidrKey::address(v4(1)).contains(v4(1)));
    }
}
