// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SERVICES: one record per service port, family and kind of frontend.

use bitflags::bitflags;
use bytemuck::{Pod, Zeroable};

/// Value of SERVICES, 64 bytes, indexed by service index; index 0 is never used.
///
/// A record is complete before a frontend key names it. After that the agent changes
/// single fields, each with one aligned store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Service {
    /// The set that clients inside the cluster get.
    pub inside: SetWord,
    /// The set that clients outside the cluster get; equal to `inside` for a ClusterIP.
    pub outside: SetWord,
    /// [`ServiceFlags`], as the number that a dump of the map shows.
    pub flags: u32,
    /// Idle time after which a ClientIP pin lapses, in seconds; 0 without affinity.
    pub affinity_secs: u32,
    /// The service port's own number, shared by all its kinds of frontend and never
    /// reused while the maps live: the key of AFFINITY, MEMBERS and NAMES.
    pub id: u32,
    /// Raised each time this index is given to another service port.
    pub generation: u32,
    /// Always 0.
    pub _pad: [u32; 8],
}

/// A set of backends, in one aligned 64-bit word: storing it is the commit.
///
/// The set is `SLOTS[base .. base + count]`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct SetWord {
    /// First slot of the region.
    pub base: u32,
    /// Low 24 bits: number of slots. High 8 bits: [`Algorithm`] of a set with slots,
    /// [`Empty`] of one without.
    pub count_and_rule: u32,
}

/// How one of a set's slots is picked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Algorithm {
    /// Uniformly at random (TRP-09).
    Random = 0,
    /// By the client's address and port where a packet tells them, so that every node chooses
    /// the same backend for the same client; at random elsewhere. The slots are a Maglev table
    /// (Eisenbud et al., NSDI 2016, 3.4): each backend has many.
    Maglev = 1,
}

/// What a client gets from a set without slots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Empty {
    /// The connection is refused: no endpoint anywhere can serve (NOEP-01).
    Refuse = 0,
    /// Silence: the policy is Local and only other nodes have endpoints (NOEP-02, NOEP-03).
    Drop = 1,
}

/// The kind of frontend a record serves.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u32)]
pub enum FrontendKind {
    /// One of `spec.clusterIPs`.
    ClusterIp = 0,
    /// `spec.ports[].nodePort` on one of this node's eligible addresses.
    NodePort = 1,
    /// One of `spec.externalIPs`.
    ExternalIp = 2,
    /// A `status.loadBalancer.ingress[].ip` with ipMode VIP.
    LoadBalancer = 3,
}

bitflags! {
    /// What is special about a service record.
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
    #[repr(transparent)]
    pub struct ServiceFlags: u32 {
        /// The two low bits hold the [`FrontendKind`].
        const KIND = 0b11;
        /// sessionAffinity is ClientIP: consult AFFINITY before picking.
        const AFFINITY = 1 << 2;
        /// loadBalancerSourceRanges apply: consult SOURCE_RANGES first (LB-06). Of records of
        /// load balancer addresses only (LB-10).
        const SOURCE_RANGES = 1 << 3;
        /// What most records have not: one test tells that there is nothing more to do.
        const SELDOM = Self::AFFINITY.bits() | Self::SOURCE_RANGES.bits();
        /// The record's backends are IPv6.
        const IPV6 = 1 << 4;
        /// internalTrafficPolicy (of a ClusterIP) or externalTrafficPolicy (of the
        /// other kinds) is Local. For people: the sets already follow it.
        const LOCAL = 1 << 5;
        /// No frontend may name the record: its id and generation are those of the service
        /// port that had it last. For the agent: programs never get here.
        const FREE = 1 << 6;
        /// Packets for a backend of another node go on to that node unchanged, where the set is a
        /// Maglev set. Of records of addresses that all nodes have alike.
        const DIRECT = 1 << 7;
    }
}

impl Service {
    /// What is special about the record.
    #[inline(always)]
    pub const fn flags(&self) -> ServiceFlags {
        ServiceFlags::from_bits_retain(self.flags)
    }

    /// Whether packets of clients outside go on unchanged to other nodes' backends.
    pub const fn is_direct(&self) -> bool {
        self.flags().contains(ServiceFlags::DIRECT)
            && matches!(self.outside.algorithm(), Algorithm::Maglev)
    }
}

impl SetWord {
    /// Most slots that a set can have.
    pub const MAX_COUNT: u32 = (1 << 24) - 1;
    /// Refuses every client.
    pub const REFUSE: Self = Self::empty(Empty::Refuse);
    /// Answers no client.
    pub const DROP: Self = Self::empty(Empty::Drop);

    /// A set of `count` slots from `base`; `None` if there are too many for the word.
    pub const fn new(base: u32, count: u32, algorithm: Algorithm) -> Option<Self> {
        if count == 0 || count > Self::MAX_COUNT {
            return None;
        }
        Some(Self { base, count_and_rule: (algorithm as u32) << 24 | count })
    }

    /// A set without slots.
    pub const fn empty(rule: Empty) -> Self {
        Self { base: 0, count_and_rule: (rule as u32) << 24 }
    }

    /// Number of slots.
    #[inline(always)]
    pub const fn count(self) -> u32 {
        self.count_and_rule & Self::MAX_COUNT
    }

    /// How a slot is picked. Of an empty set there is none to pick: the same bits say what its
    /// clients get instead.
    #[inline(always)]
    pub const fn algorithm(self) -> Algorithm {
        if self.count() != 0 && self.count_and_rule >> 24 == Algorithm::Maglev as u32 {
            Algorithm::Maglev
        } else {
            Algorithm::Random
        }
    }

    /// What a client gets when [`count`](Self::count) is 0.
    #[inline(always)]
    pub const fn on_empty(self) -> Empty {
        if self.count_and_rule >> 24 == Empty::Drop as u32 { Empty::Drop } else { Empty::Refuse }
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

impl ServiceFlags {
    /// The kind of frontend.
    pub const fn kind(self) -> FrontendKind {
        match self.bits() & Self::KIND.bits() {
            0 => FrontendKind::ClusterIp,
            1 => FrontendKind::NodePort,
            2 => FrontendKind::ExternalIp,
            _ => FrontendKind::LoadBalancer,
        }
    }
}

impl From<FrontendKind> for ServiceFlags {
    fn from(kind: FrontendKind) -> Self {
        Self::from_bits_retain(kind as u32)
    }
}

impl Algorithm {
    /// The name that people read and write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Maglev => "maglev",
        }
    }
}

impl FrontendKind {
    /// The name that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::ExternalIp => "ExternalIP",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_word_is_one_store_and_one_load() {
        let set = SetWord::new(70_000, 5_000, Algorithm::Random).unwrap();
        assert_eq!(SetWord::from_word(set.to_word()), set);
        assert_eq!(bytemuck::cast::<_, u64>(set), set.to_word());
        assert_eq!((set.base, set.count()), (70_000, 5_000));
    }

    #[test]
    fn a_set_that_the_word_cannot_hold_is_no_set() {
        assert_eq!(SetWord::new(0, 0, Algorithm::Random), None);
        assert_eq!(SetWord::new(0, SetWord::MAX_COUNT + 1, Algorithm::Random), None);
        assert!(SetWord::new(0, SetWord::MAX_COUNT, Algorithm::Random).is_some());
    }

    #[test]
    fn a_set_says_how_its_slots_are_picked() {
        for algorithm in [Algorithm::Random, Algorithm::Maglev] {
            let set = SetWord::new(1 << 30, SetWord::MAX_COUNT, algorithm).unwrap();
            assert_eq!((set.algorithm(), set.count()), (algorithm, SetWord::MAX_COUNT));
        }
        assert_eq!(SetWord::DROP.algorithm(), Algorithm::Random);
    }

    #[test]
    fn an_empty_set_says_why_and_zeroed_memory_refuses() {
        assert_eq!(SetWord::DROP.count(), 0);
        assert_eq!(SetWord::DROP.on_empty(), Empty::Drop);
        assert_eq!(SetWord::default(), SetWord::REFUSE);
    }

    #[test]
    fn a_kind_survives_in_the_flags() {
        for kind in [
            FrontendKind::ClusterIp,
            FrontendKind::NodePort,
            FrontendKind::ExternalIp,
            FrontendKind::LoadBalancer,
        ] {
            assert_eq!((ServiceFlags::from(kind) | ServiceFlags::AFFINITY).kind(), kind);
        }
    }
}
