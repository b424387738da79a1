// SPDX-License-Identifier: Apache-2.0 OR MIT

use lb_common::flow::{Phase, Visit};

use super::*;

const CAPACITY: u64 = 1 << 21;
const SECOND_NS: u64 = 1_000_000_000;

/// After a census of flows in phases, all heard of just now.
fn pace(flows: &[(Phase, u64)]) -> Pace {
    let mut census = Census::default();
    for (phase, count) in flows {
        for _ in 0..*count {
            let flow = Visit::of(*phase, SECOND_NS / 2, phase.timeout_secs());
            census.take(&[flow, Visit::COUNTED]);
        }
    }
    Pace::new(CAPACITY, census, 1000, Duration::from_millis(400))
}

/// The first second at which it is due, with so many flows begun a second.
fn first_due(mut pace: Pace, begun_a_sec: u64) -> Option<u64> {
    (1..=400).find(|second| {
        pace.pass(Duration::from_secs(1));
        pace.is_due(1000 + begun_a_sec * second)
    })
}

#[test]
fn an_empty_table_is_never_read_and_a_quiet_one_seldom() {
    assert_eq!(first_due(pace(&[]), 0), None);
    assert_eq!(first_due(pace(&[(Phase::Established, 400_000)]), 0), Some(300));
    assert_eq!(first_due(pace(&[(Phase::Established, 600_000)]), 0), Some(60));
    assert_eq!(first_due(pace(&[(Phase::Established, 600_000)]), 100), Some(60), "a few new ones");
}

#[test]
fn it_is_read_when_an_eighth_may_be_over() {
    let mixed = [(Phase::Established, 100_000), (Phase::Replied, 20_000)];
    assert_eq!(first_due(pace(&mixed), 0), Some(120), "when the datagrams' time is over");
    let few = [(Phase::Established, 200_000), (Phase::Replied, 20_000)];
    assert_eq!(first_due(pace(&few), 0), Some(300));
    // 1000 a second to 100 000: each of them may be closed.
    assert_eq!(first_due(pace(&[(Phase::Established, 100_000)]), 1000), Some(15));
    assert_eq!(first_due(pace(&[(Phase::Established, 10)]), 1), Some(10), "few cost nothing");
}

#[test]
fn under_pressure_it_is_read_each_second_unless_nothing_passes() {
    assert_eq!(first_due(pace(&[(Phase::SynSent, 900_000)]), 0), Some(1));
    assert_eq!(first_due(pace(&[(Phase::Established, 900_000)]), 0), Some(60));
    assert_eq!(first_due(pace(&[(Phase::Established, 900_000)]), 5_000), Some(3));
    assert_eq!(first_due(pace(&[(Phase::Established, 600_000)]), 200_000), Some(1), "a flood");
    let mut slow = pace(&[(Phase::SynSent, 900_000)]);
    slow.cost = Duration::from_secs(3);
    assert_eq!(first_due(slow, 0), Some(3), "half of a processor at most");
}

#[test]
fn what_passes_has_less_time_as_the_table_fills() {
    let secs = |used| Tightness::of(used, 100).passing_secs();
    assert_eq!((secs(74), secs(75), secs(89), secs(90), secs(100)), (u32::MAX, 10, 10, 3, 3));
    let pace = pace(&[(Phase::Established, 10)]);
    assert_eq!((pace.used(1000), pace.used(1010), pace.used(0)), (20, 40, 20));
}
