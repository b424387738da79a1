// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A table with many flows: what it takes, what a new flow costs, what looking after it costs.
//!
//! `SLUICE_FLOWS=1000000 cargo test -p lb-tests --test packets -- many --nocapture` measures.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use lb_agent::{datapath::collector::Collector, flows::Census};
use lb_common::{
    flow::{Pass, Phase, Seen},
    maps::Capacities,
};
use serde_json::json;

use crate::{
    bed::SMALL,
    crowd::{self, OPEN},
    frame::{Frame, Segment},
    node::{Hook, Node, now_ns},
    world,
};

/// New flows beside many that are open: each is served, and costs what one costs in an empty
/// table. A look at all of them takes out none; when half are over, it takes out these and no
/// others.
#[test]
fn many_flows_are_looked_after_and_new_ones_served() {
    let count = crowd::count("SLUICE_FLOWS", 100_000);
    let entries = crowd::room_for(count);
    let mut node = Node::sized(&world::ports(), &Capacities { flows: entries, ..SMALL });
    let alone = new_flows(&node, 1);
    let empty = node.flow_bytes();
    let (half, began_ns) = (count / 2, now_ns());
    node.fill_flows((0..count).map(|number| {
        let seen = if number < half { [OPEN, OPEN] } else { [OPEN, OPEN.union(Seen::RST)] };
        crowd::halves(number, seen, began_ns)
    }));
    let full = node.flow_bytes();
    let among = new_flows(&node, 2);
    assert_eq!(alone.len(), among.len());

    let mut collector = Collector::open(&node.flows_pin()).unwrap();
    let mut look = |now_ns| {
        let mut census = Census::default();
        let began = (Instant::now(), cpu());
        let pass = Pass { now_ns, passing_secs: u32::MAX, ..Pass::default() };
        collector.collect(&pass, |visits| census.take(visits)).unwrap();
        (census, began.0.elapsed(), cpu().saturating_sub(began.1))
    };
    let (idle, idle_time, idle_cpu) = look(began_ns);
    let there = u64::from(count) + NEW * 2;
    assert_eq!((idle.removed, idle.halves), (0, there * 2));
    let (busy, busy_time, busy_cpu) = look(began_ns + 11 * SECOND_NS);
    // What shares a bucket with what was removed may wait for the next look.
    let mut removed = busy.removed;
    assert!(removed > u64::from(count - half) * 99 / 100, "{removed}");
    let mut left = look(began_ns + 11 * SECOND_NS).0;
    while left.removed > 0 {
        removed += left.removed;
        left = look(began_ns + 11 * SECOND_NS).0;
    }
    assert_eq!(removed, u64::from(count - half));
    assert_eq!(left.halves, (there - removed) * 2);
    let open = left.phases().find(|(phase, _)| *phase == Phase::Established);
    assert_eq!(open, Some((Phase::Established, u64::from(half))));
    let [alone, among] = [&alone, &among].map(|times| percentiles(times));
    // As `cargo xtask bench` reads it: bytes, nanoseconds at p50 and p99, seconds and those of
    // the processor.
    println!(
        "{}",
        json!({
            "flows": count,
            "bytes": [empty, full],
            "new_ns": [alone, among],
            "look_secs": [idle_time.as_secs_f64(), idle_cpu.as_secs_f64()],
            "half_secs": [busy_time.as_secs_f64(), busy_cpu.as_secs_f64()],
            "removed": busy.removed,
        })
    );
}

/// Begins flows of clients of a network, to another node's backend; nanoseconds of each.
fn new_flows(node: &Node, net: u8) -> Vec<f64> {
    let begin = |number: u64| {
        let [.., high, low] = number.to_be_bytes();
        let from = SocketAddr::new(Ipv4Addr::new(203, net, high, low).into(), 62_000);
        let packet = Frame::tcp(from, "192.0.2.100:81".parse().unwrap(), Segment::syn());
        node.time(Hook::Ingress, &packet.bytes(), 1)
    };
    let mut times: Vec<_> = (0..NEW).map(begin).collect();
    times.sort_unstable_by(f64::total_cmp);
    times
}

fn percentiles(sorted: &[f64]) -> [f64; 2] {
    [50, 99].map(|percent| sorted[(sorted.len() - 1) * percent / 100].round())
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    now.into()
}

/// What the kernel says that a map takes, in bytes (since Linux 6.4 by what is in it).
pub(crate) fn bytes_of(map: &aya::maps::MapData) -> u64 {
    let path = format!("/proc/self/fdinfo/{}", std::os::fd::AsFd::as_fd(map.fd()).as_raw_fd());
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:")).unwrap();
    line.trim().parse().unwrap()
}

const NEW: u64 = 2000;
const SECOND_NS: u64 = 1_000_000_000;
