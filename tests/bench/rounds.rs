// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much is measured, and in which order.

use std::io::{self, Write as _};

use serde::Serialize;

/// Sizes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Scale {
    /// Services in the large cluster, each with two endpoints.
    pub(crate) services: u32,
    /// Rounds of each kind of traffic.
    pub(crate) rounds: u32,
    /// New connections of each column in a round.
    pub(crate) connections: u32,
    /// Datagrams, or exchanges on a kept connection, of each column in a round.
    pub(crate) exchanges: u32,
    /// Slices that are written, per proxy.
    pub(crate) samples: u32,
    /// Flows beside those that are measured, packet by packet.
    pub(crate) flows: u32,
}

impl Scale {
    /// What the goals are about.
    pub(crate) const FULL: Self = Self {
        services: 10_000,
        rounds: 120,
        connections: 400,
        exchanges: 1000,
        samples: 50,
        flows: 1_000_000,
    };
    /// Whether everything works.
    pub(crate) const QUICK: Self = Self {
        services: 200,
        rounds: 6,
        connections: 100,
        exchanges: 200,
        samples: 3,
        flows: 10_000,
    };
}

/// Numbers from 0 below `count`, in another order every round, so that no column always
/// comes after the same other one.
pub(crate) fn order(count: usize, round: u32) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    let mut seed = (u64::from(round) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for last in (1..count).rev() {
        seed ^= seed >> 29;
        seed = seed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        seed ^= seed >> 32;
        let other = usize::try_from(seed % (last as u64 + 1)).unwrap_or(0);
        order.swap(last, other);
    }
    order
}

/// A line of progress, on standard error: standard output has the report only.
pub(crate) fn say(line: &str) {
    drop(writeln!(io::stderr(), "bench: {line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_visits_all_in_its_own_order() {
        let orders: Vec<_> = (0..20).map(|round| order(8, round)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        }
        assert!(orders.windows(2).any(|pair| pair[0] != pair[1]));
        for column in 0..8 {
            assert!(orders.iter().any(|order| order[0] == column), "{column} is never first");
        }
    }
}
