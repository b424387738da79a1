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
        .map(|n| ports.candidate(Be16::from_host(33_000), n.wrapping_mul(step / 2), 0))
        .collect();
    assert!(reached.len() > ports.count() as usize * 9 / 10, "{}", reached.len());
}

/// How many of 1000 new flows find no port when so many of a hundred are in use, by others
/// that were chosen in the same way.
fn failures(ports: Ports, percent: u32) -> usize {
    let mut used = std::vec![false; 1 << 16];
    let mut hash = 0x1234_5678_u32;
    let mut find = |used: &[bool]| {
        hash = hash.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // A client's port of the node's own range: it is never the flow's.
        let candidate = |attempt| ports.candidate(Be16::from_host(33_000), hash, attempt).unwrap();
        (0..ATTEMPTS).map(|attempt| usize::from(candidate(attempt).to_host())).find(|it| !used[*it])
    };
    let mut count = 0;
    while count < ports.count() * percent / 100 {
        if let Some(port) = find(&used) {
            used[port] = true;
            count += 1;
        }
    }
    (0..1000).filter(|_| find(&used).is_none()).count()
}

#[test]
fn flows_find_ports_until_nearly_all_are_in_use() {
    // 61 176 ports, where an operator gives the node's own sockets few; and the default's 36 280.
    for ports in [Ports::outside(range(32_768, 36_104)), Ports::outside(range(0, 0))] {
        let found = [50, 90, 99].map(|percent| failures(ports, percent));
        assert_eq!(found[..2], [0, 0], "{found:?}");
        assert!(found[2] < 150, "{found:?}");
    }
}

#[test]
fn a_range_of_all_ports_leaves_none() {
    let ports = Ports::outside(range(0, 65_536));
    assert_eq!(ports.candidate(CLIENT, 1, 0), None);
    assert_eq!(ports.candidate(CLIENT, 1, 1), None);
}
