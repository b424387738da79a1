// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which ports flows are given.

use std::collections::BTreeSet;

use super::*;

extern crate std;

const CLIENT: Be16 = Be16::from_host(62_000);

fn range(first: u32, end: u32) -> PortRange {
    PortRange { first, end }
}

#[test]
fn the_clients_own_port_comes_first_unless_it_is_well_known_or_the_nodes() {
    let ports = Ports::outside(PortRange::default());
    for own in [62_000, 1024, 32_767, 61_000, 65_535] {
        let own = Be16::from_host(own);
        assert_eq!(ports.candidate(own, 7, 0), Some(own));
    }
    for own in [53, 1023, 32_768, 60_999] {
        let other = ports.candidate(Be16::from_host(own), 7, 0).unwrap();
        assert!(ports.holds(other) && other.to_host() != own);
    }
}

#[test]
fn candidates_lie_outside_of_the_nodes_own_range_and_differ() {
    for local in [range(0, 0), range(10_000, 20_000), range(0, 30_000), range(2000, 65_536)] {
        let ports = Ports::outside(local);
        let (first, end) = if local.end == 0 { (32_768, 61_000) } else { (local.first, local.end) };
        let mut seen = BTreeSet::new();
        for attempt in 1..=ATTEMPTS {
            let port = u32::from(ports.candidate(CLIENT, 0xdead_beef, attempt).unwrap().to_host());
            assert!((1024..65_536).contains(&port) && !(first..end).contains(&port), "{port}");
            seen.insert(port);
        }
        assert!(seen.len() > ATTEMPTS as usize * 9 / 10, "{local:?}: {seen:?}");
    }
}

#[test]
fn hashes_reach_every_port() {
    let ports = Ports::outside(PortRange::default());
    assert_eq!(ports.count(), 32_768 - 1024 + 65_536 - 61_000);
    let step = u32::MAX / ports.count();
    let reached: BTreeSet<_> = (0..=ports.count() * 2)
        .map(|n| ports.candidate(CLIENT, n.wrapping_mul(step / 2), 1))
        .collect();
    assert!(reached.len() > ports.count() as usize * 9 / 10, "{}", reached.len());
}

#[test]
fn a_range_of_all_ports_leaves_none() {
    let ports = Ports::outside(range(0, 65_536));
    assert_eq!(ports.candidate(CLIENT, 1, 0), None);
    assert_eq!(ports.candidate(CLIENT, 1, 1), None);
}
