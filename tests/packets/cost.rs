// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a packet costs, for docs/decisions.md and for `cargo xtask bench`, which reads the lines
//! of JSON and has many Services and flows there (`crowd`): run with --nocapture, on a quiet
//! machine.
//!
//! A test run hands one packet in again and again, as the run before left it. So that each run
//! does all that a first one does, flows come in pairs, of which one undoes what the other
//! does; and runs are few enough for the packet's hops.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use lb_common::{
    addr::Addr,
    be::Be16,
    config::NetBit,
    counter::Counter,
    flow::{FlowEntry, FlowFlags, FlowKey, Seen},
    protocol::Protocol,
};
use serde_json::json;

use crate::{
    crowd,
    frame::{Frame, NODE, PEER, Said, Segment, Transport, UPLINK},
    node::{Hook, Node, now_ns},
};

/// A kind of packet: the bytes, and the only counter of its runs.
struct Case {
    what: &'static str,
    hook: Hook,
    packet: Vec<u8>,
    counter: Option<Counter>,
}

#[test]
fn what_a_packet_costs() {
    let mut node = crowd::node();
    // The next hops are the node itself, so that a frame that it sends back is one for it.
    for address in ["192.0.2.2", "192.0.2.100", "fd00:192::2"] {
        node.ip(&format!(
            "neigh replace {address} lladdr 02:00:00:00:00:01 dev uplink nud permanent"
        ));
    }
    let mut cases = vec![Case {
        what: "an empty program",
        hook: Hook::Nothing,
        packet: Frame::udp(client(), at("10.9.9.9:80")).bytes(),
        counter: None,
    }];
    cases.extend(strangers());
    for (ipv6, name) in [(false, "IPv4"), (true, "IPv6")] {
        cases.extend(local(&mut node, ipv6).map(|case| (name, case)).map(titled));
        cases.extend(remote(&mut node, ipv6).map(|case| (name, case)).map(titled));
    }
    let mut nanoseconds: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for (case, all) in cases.iter().zip(&mut nanoseconds) {
            all.push(case.time(&node));
        }
    }
    println!("{:.1} s", start.elapsed().as_secs_f64());
    let fresh = new_flows(&node);
    let empty = median(&mut nanoseconds[0]);
    for (case, all) in cases.iter().zip(&mut nanoseconds) {
        tell(case.what, median(all), empty);
    }
    tell("one run: the first packet of a flow", fresh.0, fresh.1);
}

/// Nanoseconds of a kind of packet, and of an empty program.
fn tell(what: &str, ns: f64, empty_ns: f64) {
    println!("{}", json!({ "packet": what, "ns": ns, "empty_ns": empty_ns }));
}

impl Case {
    /// Nanoseconds a run.
    fn time(&self, node: &Node) -> f64 {
        let mut ran = node.run(self.hook, &self.packet);
        let start = Instant::now();
        while self.counter.is_some() && ran.counted.is_empty() && start.elapsed() < A_TURN {
            // It is the kernel's turn to send one.
            ran = node.run(self.hook, &self.packet);
        }
        if let Some(counter) = self.counter {
            assert_eq!(ran.counted, [(counter, 1)].into(), "{}", self.what);
        }
        let time = |_| node.time(self.hook, &self.packet, REPEAT);
        (0..CALLS).map(time).sum::<f64>() / f64::from(CALLS)
    }
}

fn titled((family, case): (&str, Case)) -> Case {
    let what = Box::leak(format!("{}, {family}", case.what).into_boxed_str());
    Case { what, ..case }
}

/// Packets of no flow.
fn strangers() -> [Case; 5] {
    let other = Frame::udp(client(), at("10.9.9.9:80"));
    let segment = Frame::tcp(client(), at("192.0.2.100:80"), Segment::data());
    let guarded = Frame::udp(client(), at("192.0.2.100:84"));
    let case = |what, hook, frame: &Frame, counter| Case {
        what,
        hook,
        packet: frame.bytes(),
        counter: Some(counter),
    };
    [
        case("no frontend", Hook::Ingress, &other, Counter::PassNoFrontend),
        Case { counter: None, ..case("XDP: no frontend", Hook::Xdp, &other, Counter::PassNotIp) },
        case("leaves, no reply", Hook::Egress, &other, Counter::PassNoReply),
        case("a segment of no flow", Hook::Ingress, &segment, Counter::PassNoFlow),
        case("outside of the ranges", Hook::Ingress, &guarded, Counter::DroppedSourceRange),
    ]
}

/// A flow to a local backend, and its replies.
fn local(node: &mut Node, ipv6: bool) -> [Case; 3] {
    let pick = |v4: &str, v6: &str| at(if ipv6 { v6 } else { v4 });
    let frontend = pick("192.0.2.100:80", "[fd00:100::1]:80");
    let backend = pick("10.1.0.5:8080", "[fd00:10:1::5]:8080");
    let from = pick("203.0.113.7:61000", "[fd00:203::7]:61000");
    pair(node, (from, frontend), (from, backend), FlowFlags::LOCAL);
    let mut error = Frame::tcp(from, backend, Segment::data()).error(Said::PortUnreachable);
    error.splice(..12, [NODE, PEER].concat());
    [
        case("a flow to a local backend", Hook::Ingress, (from, frontend), Counter::FlowForward),
        case("a local backend's reply", Hook::Egress, (backend, from), Counter::FlowReply),
        Case {
            what: "an ICMP error about a packet of that flow",
            hook: Hook::Egress,
            packet: error,
            counter: Some(Counter::IcmpTranslated),
        },
    ]
}

/// A flow to a remote backend, and its replies. Its source stands in for the node's own
/// address, from where there is no way out for the packet that undoes the other.
fn remote(node: &mut Node, ipv6: bool) -> [Case; 4] {
    let pick = |v4: &str, v6: &str| at(if ipv6 { v6 } else { v4 });
    let frontend = pick("192.0.2.100:81", "[fd00:100::1]:81");
    let backend = pick("10.2.0.5:8080", "[fd00:10:2::5]:8080");
    let from = pick("203.0.113.7:61001", "[fd00:203::7]:61001");
    let source = pick("10.2.0.77:61001", "[fd00:10:2::77]:61001");
    pair(node, (from, frontend), (source, backend), FlowFlags::empty());
    [
        case("a flow to a remote backend", Hook::Ingress, (from, frontend), Counter::FlowForward),
        case("a remote backend's reply", Hook::Ingress, (backend, source), Counter::FlowReply),
        case("XDP: a remote backend's flow", Hook::Xdp, (from, frontend), Counter::FlowForward),
        case("XDP: its reply", Hook::Xdp, (backend, source), Counter::FlowReply),
    ]
}

fn case(
    what: &'static str,
    hook: Hook,
    (from, to): (SocketAddr, SocketAddr),
    counter: Counter,
) -> Case {
    let transport = Transport::Tcp(Segment::data());
    // As the next hop's frames, so that a frame that is sent back is one that came.
    let stations = if matches!(hook, Hook::Xdp) { [UPLINK, UPLINK] } else { [PEER, NODE] };
    let frame = Frame { hops: 255, transport, stations, ..Frame::udp(from, to) };
    Case { what, hook, packet: frame.bytes(), counter: Some(counter) }
}

/// A flow, and one that undoes it.
fn pair(
    node: &mut Node,
    there: (SocketAddr, SocketAddr),
    then: (SocketAddr, SocketAddr),
    flags: FlowFlags,
) {
    let end = |at: SocketAddr| (Addr::from(at.ip()), Be16::from_host(at.port()));
    let key = |(from, to)| FlowKey::new(end(from), end(to), Protocol::TCP);
    let (one, two) = (key(there), key(then));
    let seen = Seen::ANY | Seen::SYN | Seen::DATA;
    // Not refreshed while this runs.
    let last_seen_ns = now_ns() + 3_600_000_000_000;
    for (from, to) in [(one, two), (two, one)] {
        for reply in [FlowFlags::empty(), FlowFlags::REPLY] {
            let (key, to) =
                if reply.is_empty() { (from, to) } else { (to.reversed(), from.reversed()) };
            let flags = (flags | reply).bits();
            node.put_flow(
                key,
                FlowEntry { to, last_seen_ns, flags, seen: seen.bits(), ..FlowEntry::default() }
                    .tagged(&key),
            );
            node.configure(|config| {
                let bit = NetBit::of(key.destination);
                config.nets[bit.word as usize] |= bit.mask;
            });
        }
    }
}

/// Nanoseconds of the first packet of a flow to a local backend, one run each, and of an empty
/// program that is run so.
fn new_flows(node: &Node) -> (f64, f64) {
    let (mut new, mut empty) = (Vec::new(), Vec::new());
    for port in 20_000..20_400 {
        let from = SocketAddr::new(client().ip(), port);
        let packet = Frame::udp(from, at("192.0.2.100:80")).bytes();
        new.push(node.time(Hook::Ingress, &packet, 1));
        empty.push(node.time(Hook::Nothing, &packet, 1));
    }
    (median(&mut new), median(&mut empty))
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn client() -> SocketAddr {
    at("203.0.113.7:62000")
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// As long as XDP waits for the classifier, and more.
const A_TURN: Duration = Duration::from_millis(400);
/// Rounds of all cases, of which the medians count.
const ROUNDS: u32 = 15;
/// Calls a round and case, and runs a call: fewer than a packet has hops.
const CALLS: u32 = 100;
const REPEAT: u32 = 200;
