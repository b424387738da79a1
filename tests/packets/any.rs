// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Properties: whatever comes, and wherever it ends.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use etherparse::{IpNumber, NetHeaders, PacketHeaders, PayloadSlice, TransportHeader};
use lb_common::{
    counter::Counter,
    flow::{FlowEntry, FlowFlags, REFRESH_NS, TcpFlags},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    errors,
    frame::{ETHERNET, Frame, Segment, Transport, wrong_checksum},
    node::{Hook, Node, own},
    pieces::pieces,
    table::{NEXT, REDIRECT},
    world,
};

/// A packet that one of the ports may know: any family, protocol, ends, flags and payload.
pub(crate) fn frames() -> impl Strategy<Value = Frame> {
    let segment = (any::<u8>(), any::<(u32, u32, u16)>()).prop_map(
        |(flags, (sequence, acknowledgement, window))| {
            let flags = TcpFlags::from_bits_truncate(flags);
            Transport::Tcp(Segment { flags, sequence, acknowledgement, window })
        },
    );
    let transport = prop_oneof![
        2 => Just(Transport::Udp),
        1 => Just(Transport::BareUdp),
        2 => Just(Transport::Tcp(Segment::syn())),
        1 => segment,
        1 => prop_oneof![Just(1), any::<u8>()].prop_map(Transport::Sctp),
    ];
    (
        any::<bool>(),
        transport,
        0_u8..4,
        1024_u16..,
        79_u16..90,
        vec(any::<u8>(), 0..64),
        any::<u8>(),
    )
        .prop_map(|(ipv6, transport, host, port, to_port, payload, hops)| {
            let at = |v4: &str, v6: &str, port| {
                SocketAddr::new(if ipv6 { v6 } else { v4 }.parse().unwrap(), port)
            };
            let from = match host {
                0 => at("198.51.100.9", "fd00:198::9", port),
                1 => at("10.2.0.5", "fd00:10:2::5", 8080),
                _ => at("203.0.113.7", "fd00:203::7", port),
            };
            let to = match to_port {
                88 => SocketAddr::new(own(ipv6).ip(), 30_080),
                89 => SocketAddr::new(own(ipv6).ip(), port),
                _ => at("192.0.2.100", "fd00:100::1", to_port),
            };
            // IPv6 has no datagrams without a checksum outside of tunnels (RFC 8200 8.1).
            let transport = match transport {
                Transport::BareUdp if ipv6 => Transport::Udp,
                other => other,
            };
            Frame { hops, payload, ..Frame::udp(from, to) }.with(transport)
        })
}

impl Frame {
    fn with(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }
}

pub(crate) fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn what_leaves_has_right_checksums_and_is_whole() {
    let node = Node::new(&world::ports());
    let property = |frame: Frame| {
        for hook in [Hook::Ingress, Hook::Egress] {
            let packet = frame.bytes();
            let ran = node.run(hook, &packet);
            prop_assert!([NEXT, 2, REDIRECT].contains(&ran.action), "{}", ran.action);
            if ran.action != 2 {
                prop_assert_eq!(wrong_checksum(&ran.bytes), None);
            }
            let counted: u64 = ran.counted.values().sum();
            prop_assert!(counted > 0, "every exit is counted");
        }
        Ok(())
    };
    runner(2000).run(&frames(), property).unwrap();
}

#[test]
fn a_packet_cut_anywhere_is_left_alone() {
    let node = Node::new(&world::ports());
    let property = |frame: Frame| {
        let packet = frame.bytes();
        for len in shortest(frame.from.is_ipv6())..packet.len() {
            for hook in [Hook::Ingress, Hook::Egress] {
                let ran = node.run(hook, &packet[..len]);
                prop_assert_eq!(ran.action, NEXT, "{} of {} bytes", len, packet.len());
                prop_assert_eq!(&ran.bytes, &packet[..len]);
            }
        }
        Ok(())
    };
    runner(60).run(&frames(), property).unwrap();
}

#[test]
fn random_bytes_do_no_harm() {
    let node = Node::new(&world::ports());
    let heads = (any::<bool>(), vec(any::<u8>(), 40..200)).prop_map(|(ipv6, rest)| {
        let kind = if ipv6 { [0x86, 0xdd, 0x60] } else { [0x08, 0x00, 0x45] };
        [&[0; 12], &kind[..], &rest].concat()
    });
    let property = |packet: Vec<u8>| {
        for hook in [Hook::Ingress, Hook::Egress] {
            let ran = node.run(hook, &packet);
            let counted: u64 = ran.counted.values().sum();
            prop_assert!(counted > 0, "every exit is counted");
        }
        Ok(())
    };
    runner(3000).run(&heads, property).unwrap();
}

#[test]
fn a_reply_undoes_what_was_done_to_its_packet() {
    let node = Node::new(&world::ports());
    let answers = TcpFlags::SYN | TcpFlags::ACK;
    let property = |frame: Frame| {
        // In a flow that is closed such a reply is another connection's.
        if matches!(frame.transport, Transport::Tcp(segment) if segment.flags == answers) {
            return Ok(());
        }
        let ran = node.run(Hook::Ingress, &frame.bytes());
        let Some(there) = ends(&ran.bytes) else { return Ok(()) };
        if ran.action == 2 || there == (frame.from, frame.to) || there == (frame.to, frame.from) {
            return Ok(());
        }
        let hook = if ran.action == NEXT { Hook::Egress } else { Hook::Ingress };
        let reply = Frame { hops: 60, ..frame.between(there.1, there.0) };
        let back = node.run(hook, &reply.bytes());
        prop_assert_eq!(ends(&back.bytes), Some((frame.to, frame.from)));
        prop_assert_eq!(wrong_checksum(&back.bytes), None);
        Ok(())
    };
    runner(2000).run(&frames(), property).unwrap();
}

/// Whoever sent a packet finds in an error what he sent.
#[test]
fn an_error_quotes_what_its_receiver_sent() {
    let node = Node::new(&world::ports());
    let translated = std::cell::Cell::new(0);
    let property = |(frame, more): (Frame, usize)| {
        let ran = node.run(Hook::Ingress, &frame.bytes());
        let Some((from, to)) = ends(&ran.bytes) else { return Ok(()) };
        if ran.action == 2 || (from, to) == (frame.from, frame.to) || to == frame.from {
            return Ok(());
        }
        let hops = if ran.action == NEXT { frame.hops } else { frame.hops - 1 };
        let known = Frame { hops, ..frame.clone() }.bytes();
        // The quoted checksum of SCTP stays as it was.
        let most = if matches!(frame.transport, Transport::Sctp(_)) { 0 } else { more };
        let len = (shortest(frame.from.is_ipv6()) + 8 + most).min(known.len());
        let before = errors::unreachable(to.ip(), from.ip(), 50, &ran.bytes[ETHERNET..len]);
        let hook = if ran.action == NEXT { Hook::Egress } else { Hook::Ingress };
        let back = node.run(hook, &before);
        let hops = if ran.action == NEXT { 50 } else { 49 };
        let after =
            errors::unreachable(frame.to.ip(), frame.from.ip(), hops, &known[ETHERNET..len]);
        prop_assert_eq!(back.counted, [(Counter::IcmpTranslated, 1)].into());
        prop_assert_eq!(back.bytes, after);
        translated.set(translated.get() + 1);
        Ok(())
    };
    // Half a checksum cannot be made right, so that no quotation ends within one.
    let more = (0_usize..30).prop_map(|halves| halves * 2);
    runner(500).run(&(frames(), more), property).unwrap();
    println!("{} errors translated", translated.get());
    assert!(translated.get() > 100);
}

/// Pieces together are what the whole would be.
#[test]
fn pieces_are_what_the_whole_is_cut_into() {
    let node = Node::new(&world::ports());
    let property = |(frame, eighths, id): (Frame, usize, u16)| {
        if matches!(frame.transport, Transport::Sctp(_)) {
            return Ok(());
        }
        let frame = Frame { payload: (0..=255).collect(), hops: 9, ..frame };
        let whole = node.run(Hook::Ingress, &frame.bytes());
        if whole.action == 2 || ends(&whole.bytes) == Some((frame.from, frame.to)) {
            return Ok(());
        }
        // Answers are as short as they can be.
        if ends(&whole.bytes).is_none_or(|(_, to)| to == frame.from) {
            return Ok(());
        }
        let cut = pieces(&frame.bytes(), id, eighths * 8);
        for (before, after) in cut.iter().zip(pieces(&whole.bytes, id, eighths * 8)) {
            let ran = node.run(Hook::Ingress, before);
            prop_assert_eq!((ran.action, ran.bytes), (whole.action, after));
        }
        Ok(())
    };
    runner(200).run(&(frames(), 3_usize..30, any::<u16>()), property).unwrap();
}

/// Design 5: one lost half is how others lose connections.
#[test]
fn either_half_of_a_flow_is_made_anew_from_the_other() {
    let mut node = Node::new(&world::ports());
    let from: SocketAddr = "203.0.113.7:62000".parse().unwrap();
    let there: SocketAddr = "10.2.0.5:8080".parse().unwrap();
    let to: SocketAddr = "192.0.2.100:81".parse().unwrap();
    let request = Frame::tcp(from, to, Segment::syn());
    let reply = Frame::tcp(there, SocketAddr::new(own(false).ip(), 62_000), Segment::syn_ack());
    assert_eq!(node.run(Hook::Ingress, &request.bytes()).action, REDIRECT);
    let whole = node.flows();
    assert_eq!(whole.len(), 2);
    let tuples = |flows: &BTreeMap<_, FlowEntry>| -> Vec<_> {
        flows.iter().map(|(key, entry)| (*key, entry.to, entry.flags, entry.backend)).collect()
    };
    for (lost, entry) in &whole {
        let (other, lost_ones) = if entry.flags().contains(FlowFlags::REPLY) {
            (&request, &reply)
        } else {
            (&reply, &request)
        };
        node.remove_flows(&[*lost]);
        // A packet looks at the other half when it refreshes its own.
        for (key, entry) in node.flows() {
            let last_seen_ns = entry.last_seen_ns - 2 * REFRESH_NS;
            node.put_flow(key, FlowEntry { last_seen_ns, ..entry });
        }
        let ran = node.run(Hook::Ingress, &other.bytes());
        assert_eq!((ran.action, ran.counted.get(&Counter::FlowRebuilt)), (REDIRECT, Some(&1)));
        assert_eq!(tuples(&node.flows()), tuples(&whole), "without {lost:?}");
        let ran = node.run(Hook::Ingress, &lost_ones.bytes());
        assert_eq!((ran.action, ran.counted.get(&Counter::FlowRebuilt)), (REDIRECT, None));
    }
    // The client says its first word again, and the forward half is lost.
    let forward =
        whole.iter().find(|(_, entry)| !entry.flags().contains(FlowFlags::REPLY)).unwrap();
    node.remove_flows(&[*forward.0]);
    assert_eq!(node.run(Hook::Ingress, &request.bytes()).action, REDIRECT);
    assert_eq!(tuples(&node.flows()), tuples(&whole), "the same source port");
}

/// Sender and receiver of a TCP or UDP packet.
fn ends(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let packet = PacketHeaders::from_ethernet_slice(packet).ok()?;
    let (from, to) = match packet.net? {
        NetHeaders::Ipv4(header, _) => {
            (IpAddr::from(header.source), IpAddr::from(header.destination))
        }
        NetHeaders::Ipv6(header, _) => {
            (IpAddr::from(header.source), IpAddr::from(header.destination))
        }
        NetHeaders::Arp(_) => return None,
    };
    if let PayloadSlice::Ip(ip) = &packet.payload
        && ip.ip_number == IpNumber::SCTP
    {
        let port =
            |at: usize| Some(u16::from_be_bytes(ip.payload.get(at..at + 2)?.try_into().ok()?));
        return Some((SocketAddr::new(from, port(0)?), SocketAddr::new(to, port(2)?)));
    }
    let (from_port, to_port) = match packet.transport? {
        TransportHeader::Udp(header) => (header.source_port, header.destination_port),
        TransportHeader::Tcp(header) => (header.source_port, header.destination_port),
        _ => return None,
    };
    Some((SocketAddr::new(from, from_port), SocketAddr::new(to, to_port)))
}

/// What the kernel takes for a test: an Ethernet header and an IP header.
fn shortest(ipv6: bool) -> usize {
    ETHERNET + if ipv6 { 40 } else { 20 }
}
