// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FLOWS, as the agent reads and clears it.

use std::net::Ipv4Addr;

use lb_agent::{
    datapath::{load, view},
    flows,
};
use lb_common::{
    be::Be16,
    flow::{FlowEntry, FlowFlags, FlowKey, Seen},
    protocol::Protocol,
};

use crate::bed::Bed;

/// A flow whose time is over goes with both its halves; one that is alive stays, whatever its
/// age, and so does a half whose other half is.
#[test]
fn flows_whose_time_is_over_go_as_a_whole() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    agent.attach().unwrap();
    let now_ns = view::now_ns().max(WEEK_NS);
    let data = Seen::ANY.union(Seen::SYN).union(Seen::DATA);
    // Port, what its halves have seen, how many seconds ago; whether it is to stay.
    let flows = [
        (1, [data, data], [100_000, 100_000], false),
        (2, [data, data], [80_000, 80_000], true),
        (3, [data, data], [100_000, 10], true),
        (4, [data, Seen::empty()], [130, 130], false),
        (5, [data, data.union(Seen::RST)], [11, 11], false),
        (6, [data, data.union(Seen::RST)], [9, 9], true),
    ];
    for (port, seen, ages, _) in flows {
        let [forward, reply] = halves(port, seen, ages.map(|age| now_ns - age * SECOND_NS));
        agent.maps_mut().flows.put_all(&[forward.0, reply.0], &[forward.1, reply.1]).unwrap();
    }
    let mut pinned = load::open_flows(&bed.options.bpf_root).unwrap();
    let census = flows::collect(&mut pinned, now_ns).unwrap();
    assert_eq!((census.halves, census.removed), (12, 6));
    let mut left: Vec<_> = pinned.dump().unwrap().into_iter().map(|(_, half)| half).collect();
    left.retain(|half| !half.flags().contains(FlowFlags::REPLY));
    let mut left: Vec<_> = left.iter().map(|half| half.to.source_port.to_host()).collect();
    left.sort_unstable();
    let stay: Vec<_> = flows.iter().filter(|(.., stays)| *stays).map(|(port, ..)| *port).collect();
    assert_eq!(left, stay);
    assert_eq!(flows::collect(&mut pinned, now_ns).unwrap().removed, 0);
    drop(agent);
    assert!(load::unload(&bed.options.bpf_root).unwrap());
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

const SECOND_NS: u64 = 1_000_000_000;
/// Longer than any time-out, so that no time is before the clock's beginning.
const WEEK_NS: u64 = 7 * 86_400 * SECOND_NS;
