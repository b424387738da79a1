// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FRAGMENTS: the ports of packets that came in pieces. Only the first piece has them.

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::Addr,
    be::{Be16, Be32},
    protocol::Protocol,
};

/// Key of FRAGMENTS, 40 bytes: what the pieces of one packet have in common (RFC 791 3.2,
/// RFC 8200 4.5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct FragmentKey {
    /// The sender's address.
    pub source: Addr,
    /// The receiver's address.
    pub destination: Addr,
    /// The identification; over IPv4 the upper half is 0.
    pub id: Be32,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Always 0.
    pub _pad: [u8; 3],
}

/// Value of FRAGMENTS, 16 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct FragmentPorts {
    /// When the first piece came, or the first of those that came before it, in nanoseconds of
    /// CLOCK_MONOTONIC.
    pub since_ns: u64,
    /// The sender's port.
    pub source_port: Be16,
    /// The receiver's port. Both are 0 while the first piece is waited for.
    pub destination_port: Be16,
    /// Always 0.
    pub _pad: u32,
}

impl FragmentPorts {
    /// Whether the first piece has come, and not so long ago that the rest may be another
    /// packet's.
    #[inline(always)]
    pub const fn are_known(&self, now_ns: u64) -> bool {
        !self.is_empty() && now_ns.saturating_sub(self.since_ns) < LIFETIME_NS
    }

    /// Whether a piece without its first one may still wait for it.
    #[inline(always)]
    pub const fn may_wait(&self, now_ns: u64) -> bool {
        self.is_empty() && now_ns.saturating_sub(self.since_ns) < WAIT_NS
    }

    /// Whether it has waited in vain: other pieces of the packet need not wait, too.
    #[inline(always)]
    pub const fn is_given_up(&self, now_ns: u64) -> bool {
        self.is_empty() && now_ns.saturating_sub(self.since_ns) < LIFETIME_NS
    }

    #[inline(always)]
    const fn is_empty(&self) -> bool {
        self.source_port.to_wire() | self.destination_port.to_wire() == 0
    }
}

/// Packets of which pieces are remembered at once.
pub const FRAGMENTS_LEN: u32 = 8192;
/// How long the pieces of a packet belong together: the kernel's `ipfrag_time`, 30 s.
pub const LIFETIME_NS: u64 = 30_000_000_000;
/// How long a piece that is early goes round.
pub const WAIT_NS: u64 = 200_000;

const _: () = assert!(size_of::<FragmentKey>() == 40 && size_of::<FragmentPorts>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_known_until_the_packet_is_given_up() {
        let ports = FragmentPorts {
            since_ns: 7,
            source_port: Be16::from_host(53),
            ..FragmentPorts::default()
        };
        assert!(ports.are_known(7) && ports.are_known(6 + LIFETIME_NS));
        assert!(!ports.are_known(7 + LIFETIME_NS));
        let early = FragmentPorts { since_ns: 7, ..FragmentPorts::default() };
        assert!(!early.are_known(8) && early.may_wait(8) && !early.may_wait(7 + WAIT_NS));
        assert!(early.is_given_up(7 + WAIT_NS) && !early.is_given_up(7 + LIFETIME_NS));
    }
}
