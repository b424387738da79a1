// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What programs tell of packets while somebody monitors.

use std::net::SocketAddr;

use lb_common::{
    addr::Addr,
    counter::Counter,
    event::{Event, EventKind, Lease, WINDOW_EVENTS},
};

use crate::{
    frame::{Frame, Segment},
    node::{Hook, Node, now_ns},
    world,
};

/// A datagram of a client with this port to the port of `rows` whose VIP has this one.
fn datagram(from: u16, to: u16) -> Frame {
    let at = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
    Frame::udp(at("203.0.113.7", from), at("192.0.2.100", to))
}

fn told(node: &mut Node, packet: &Frame) -> Vec<Event> {
    let _ran = node.run(Hook::Ingress, &packet.bytes());
    node.events()
}

fn ask(node: &mut Node, one_in: u8) {
    node.configure(|config| config.events = Lease::until(now_ns() + 60_000_000_000, one_in));
}

/// A flow that begins, a drop and a refusal are told once each, with what they are about; packets
/// of flows and of nobody are not, and nothing is told when nobody asks.
#[test]
fn beginnings_drops_and_refusals_are_told_while_somebody_asks() {
    let mut node = Node::new(&world::ports());
    let (here, nobody, guarded) =
        (datagram(61_000, 80), datagram(61_000, 82), datagram(61_000, 84));
    for packet in [&here, &nobody, &guarded] {
        assert_eq!(told(&mut node, packet), [], "nobody asks");
    }
    node.forget_flows();
    ask(&mut node, 0);
    let [new] = told(&mut node, &here)[..] else { panic!("one event of a new flow") };
    assert_eq!(new.kind, EventKind::NewFlow as u8);
    assert_eq!(new.key.source, Addr::from(here.from.ip()));
    assert_eq!(new.key.destination_port.to_host(), 80);
    assert_eq!(new.target.to_string(), "10.1.0.5");
    assert_eq!(new.target_port.to_host(), 8080);
    assert!(new.service_id != 0 && new.device != 0 && new.netns == 0);
    assert!(new.time_ns.abs_diff(now_ns()) < 10_000_000_000);
    assert_eq!(told(&mut node, &here), [], "a packet of a flow");
    for (packet, kind, reason) in [
        (&nobody, EventKind::Refused, Counter::RefusedNoEndpoints),
        (&guarded, EventKind::Dropped, Counter::DroppedSourceRange),
    ] {
        let [event] = told(&mut node, packet)[..] else { panic!("one event: {reason:?}") };
        assert_eq!((event.kind, event.counter), (kind as u8, reason.index()));
        assert_eq!(event.key.destination, Addr::from(packet.to.ip()));
        assert_eq!(event.target, Addr::ZERO);
    }
    let stray = Frame::tcp(here.from, here.to, Segment::data());
    assert_eq!(told(&mut node, &stray), [], "of no flow");
    node.configure(|config| config.events = Lease::until(now_ns() - 100_000_000, 0));
    assert_eq!(told(&mut node, &nobody), [], "the lease is over");
}

/// A flood is told in part, and what is left out is counted; a sample is one.
#[test]
fn a_flood_is_told_in_part_and_counted() {
    let mut node = Node::new(&world::ports());
    ask(&mut node, 0);
    let dropped = datagram(61_000, 84).bytes();
    let flood = |node: &mut Node| {
        let before = node.counted();
        node.time(Hook::Ingress, &dropped, 2000);
        let after = node.counted();
        let more = |counter| after[&counter] - before[&counter];
        let heard = node.events().len() as u64;
        (more(Counter::DroppedSourceRange), heard, more(Counter::EventsLost))
    };
    let (dropped, heard, lost) = flood(&mut node);
    assert!(dropped >= 2000);
    assert_eq!(heard + lost, dropped);
    // The run may reach into a second window, or even a third.
    assert!((WINDOW_EVENTS..=3 * WINDOW_EVENTS).contains(&heard), "{heard} were told");
    ask(&mut node, 8);
    let (dropped, heard, lost) = flood(&mut node);
    let sampled = heard + lost;
    assert!((1..=dropped / 32).contains(&sampled), "{sampled} of {dropped}, one in 256 asked for");
}
