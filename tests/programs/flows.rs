// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FLOWS, as the agent reads and clears it.

use std::net::Ipv4Addr;

use lb_agent::{
    datapath::{collector::Collector, load, view},
    flows::{self, Census},
};
use lb_common::{
    be::Be16,
    flow::{FlowEntry, FlowFlags, FlowKey, Pass, Seen},
    protocol::Protocol,
};

use crate::bed::Bed;

/// A flow whose time is over goes with both its halves; one that is alive stays, whatever its
/// age, and so does a half whose other half is. The same from inside the kernel and, where that
/// cannot be, from outside.
#[test]
fn flows_whose_time_is_over_go_as_a_whole() {
    for means in [inside, outside] {
        let left = left_over(means, u32::MAX, false);
        assert_eq!(left, FLOWS.iter().filter(|it| it.3).map(|it| it.0).collect::<Vec<_>>());
    }
}

/// In a table that fills, phases that pass have less time, and connections as much as ever.
#[test]
fn only_flows_that_pass_make_room_in_a_table_that_fills() {
    for means in [inside, outside] {
        assert_eq!(left_over(means, 3, false), [2, 3, 7]);
    }
}

/// A half whose other half was lost goes when a flow goes of which no more was ever seen: it
/// would keep its port for ever.
#[test]
fn halves_that_are_alone_go_too() {
    for means in [inside, outside] {
        assert_eq!(left_over(means, u32::MAX, true), [3, 6, 8, 9]);
    }
}

/// Port, what its halves have seen, how many seconds ago; whether it is to stay.
type Case = (u16, [Seen; 2], [u64; 2], bool);

/// A reading of FLOWS.
type Means = fn(&Bed, &Pass) -> Census;

fn inside(bed: &Bed, pass: &Pass) -> Census {
    let mut census = Census::default();
    let mut collector = Collector::open(&load::flows_pin(&bed.options.bpf_root)).unwrap();
    collector.collect(pass, |visits| census.take(visits)).unwrap();
    census
}

fn outside(bed: &Bed, pass: &Pass) -> Census {
    let mut flows = load::open_flows(&bed.options.bpf_root).unwrap();
    flows::collect(&mut flows, pass).unwrap()
}

/// The client's ports of those of [`FLOWS`] that a reading leaves; `alone`: of flows that have
/// a reply's half only.
fn left_over(means: Means, passing_secs: u32, alone: bool) -> Vec<u16> {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    agent.attach().unwrap();
    let now_ns = view::now_ns().max(WEEK_NS);
    for (port, seen, ages, _) in FLOWS {
        let [forward, reply] = halves(port, seen, ages.map(|age| now_ns - age * SECOND_NS));
        let there = &[reply, forward][..if alone { 1 } else { 2 }];
        let (keys, halves): (Vec<_>, Vec<_>) = there.iter().copied().unzip();
        agent.maps_mut().flows.put_all(&keys, &halves).unwrap();
    }
    let pass = Pass { now_ns, passing_secs, ..Pass::default() };
    let before = agent.maps().flows.dump().unwrap().len();
    let census = means(&bed, &pass);
    let left = agent.maps().flows.dump().unwrap();
    let a_flow = if alone { 1 } else { 2 };
    assert_eq!(before, FLOWS.len() * a_flow);
    assert_eq!(census.removed, (before - left.len()) as u64 / a_flow as u64);
    assert_eq!(means(&bed, &pass).removed, 0, "at once again");
    assert_eq!(means(&bed, &pass).halves, 2 * left.len() as u64 / a_flow as u64);
    let replies = left.iter().filter(|(_, half)| half.flags().contains(FlowFlags::REPLY));
    let mut ports: Vec<_> = replies.map(|(_, half)| half.to.destination_port.to_host()).collect();
    ports.sort_unstable();
    drop(agent);
    assert!(load::unload(&bed.options.bpf_root).unwrap());
    ports
}

/// Both halves of a TCP flow from a client's port, each with its key.
fn halves(port: u16, seen: [Seen; 2], last_seen_ns: [u64; 2]) -> [(FlowKey, FlowEntry); 2] {
    let at = |last: u8, port: u16| (Ipv4Addr::new(192, 0, 2, last).into(), Be16::from_host(port));
    let forward = FlowKey::new(at(1, port), at(2, 80), Protocol::TCP);
    let to = FlowKey::new(at(1, port), at(3, 8080), Protocol::TCP);
    let half = FlowEntry {
        to,
        last_seen_ns: last_seen_ns[0],
        seen: seen[0].bits(),
        ..FlowEntry::default()
    };
    let reply =
        FlowEntry { last_seen_ns: last_seen_ns[1], seen: seen[1].bits(), ..half.other(&forward) };
    [(forward, half), (half.other_key(), reply)]
}

const DATA: Seen = Seen::ANY.union(Seen::SYN).union(Seen::DATA);
const FLOWS: [Case; 9] = [
    (1, [DATA, DATA], [100_000, 100_000], false),
    (2, [DATA, DATA], [80_000, 80_000], true),
    (3, [DATA, DATA], [100_000, 10], true),
    (4, [DATA, Seen::empty()], [130, 130], false),
    (5, [DATA, DATA.union(Seen::RST)], [11, 11], false),
    (6, [DATA, DATA.union(Seen::RST)], [9, 9], true),
    (7, [DATA, DATA], [4, 86_399], true),
    (8, [DATA, Seen::empty()], [4, 4], true),
    (9, [Seen::ANY.union(Seen::SYN), Seen::ANY], [5, 5], true),
];
const SECOND_NS: u64 = 1_000_000_000;
/// Longer than any time-out, so that no time is before the clock's beginning.
const WEEK_NS: u64 = 7 * 86_400 * SECOND_NS;
