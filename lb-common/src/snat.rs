// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The source port of a flow that leaves the node with the node's address.
//!
//! Only ports that no socket of the node is given by chance: those outside of
//! ip_local_port_range. Of these the client's own first, so that a flow whose state is lost
//! finds its way again. Which of them is free, FLOWS tells.

use bytemuck::{Pod, Zeroable};

use crate::{be::Be16, config::PortRange, key::mix};

/// The ports that flows may be given.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Ports {
    /// Below the local range: from [`FIRST`].
    below: u32,
    /// First above it.
    above: u32,
    /// In both together.
    count: u32,
}

impl Ports {
    /// All from 1024 on that are not in the node's own range.
    #[inline(always)]
    pub const fn outside(local: PortRange) -> Self {
        let (first, end) = if local.end == 0 { LOCAL_DEFAULT } else { (local.first, local.end) };
        let below = first.saturating_sub(FIRST);
        let above = if end > FIRST { end } else { FIRST };
        let count = if above < END { below + (END - above) } else { below };
        Self { below, above, count }
    }

    /// How many there are.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether a port is one of them.
    #[inline(always)]
    const fn holds(&self, port: Be16) -> bool {
        let port = port.to_host() as u32;
        (port >= FIRST && port < FIRST + self.below) || port >= self.above
    }

    /// The port to try at an attempt, from 0 on; `None` if there is none. Attempts of one
    /// hash that follow each other differ. The client's own port goes first if no socket of
    /// the node may be given it: else the answer to such a socket would be taken for the
    /// client's.
    #[expect(clippy::cast_possible_truncation, reason = "below 65536 by construction")]
    #[inline(always)]
    pub const fn candidate(&self, client: Be16, hash: u32, attempt: u32) -> Option<Be16> {
        if attempt == 0 && self.holds(client) {
            return Some(client);
        }
        if self.count == 0 {
            return None;
        }
        // Multiply-shift, as in `pick`: a start by the hash, and steps that differ from hash to
        // hash: with the same for all, flows keep out of each other's way for so long that
        // those that come last meet nothing but ports in use.
        let step = mix(hash, GOLDEN) | 1;
        let mixed = hash.wrapping_add(attempt.wrapping_mul(step));
        let place = ((mixed as u64 * self.count as u64) >> 32) as u32;
        let port = if place < self.below { FIRST + place } else { self.above + place - self.below };
        Some(Be16::from_host(port as u16))
    }
}

/// Attempts before a flow is given up, as many as the kernel's own NAT makes
/// (`nf_nat_l4proto_unique_tuple` in net/netfilter/nf_nat_core.c: 128, 64, 32 and 16 in a row):
/// with nine tenths of the ports in use, all flows find one; with 99 of 100, twelve of
/// thirteen.
pub const ATTEMPTS: u32 = 256;

/// The first port that is not well known.
const FIRST: u32 = 1024;
/// The last port and one.
const END: u32 = 1 << 16;
/// ip_local_port_range as the kernel has it when nobody sets it.
const LOCAL_DEFAULT: (u32, u32) = (32_768, 61_000);
/// 2^32 divided by the golden ratio.
const GOLDEN: u32 = 0x9e37_79b9;

#[cfg(test)]
mod tests;
