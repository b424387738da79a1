// SPDX-License-Identifier: Apache-2.0 OR MIT
//! In front of the stack: a frame is either sent back as the classifier would have made it, or
//! goes on to the classifier as it came.

use std::{
    cell::Cell,
    net::SocketAddr,
    time::{Duration, Instant},
};

use lb_common::{
    counter::Counter,
    flow::{FlowEntry, REFRESH_NS, TcpFlags},
};
use proptest::prelude::*;

use crate::{
    any::{frames, runner},
    frame::{ETHERNET, Frame, GATEWAY, NODE, PEER, Segment, Transport, UPLINK},
    node::{Hook, Node, Ran, own},
    table::REDIRECT,
    world,
};

/// Every row's kind of packet, and flags, ends and payloads at random: what XDP sends back is
/// byte for byte what the classifier redirects, and counted alike.
#[test]
fn what_is_sent_back_is_what_the_classifier_sends() {
    let node = Node::new(&world::ports());
    let sent = Cell::new(0);
    let property = |frame: Frame| {
        // Whatever flow there is, is there now.
        let _opened = node.run(Hook::Ingress, &frame.bytes());
        let bytes = came(&frame).bytes();
        let Ran { action, bytes: becomes, counted } = node.run(Hook::Xdp, &bytes);
        if action == PASS {
            prop_assert_eq!(becomes, bytes);
            prop_assert!(counted.is_empty(), "{:?}", counted);
            return Ok(());
        }
        sent.set(sent.get() + 1);
        let classified = node.run(Hook::Ingress, &frame.bytes());
        prop_assert_eq!((action, classified.action), (TX, REDIRECT));
        prop_assert_eq!(counted, classified.counted);
        prop_assert_eq!(&becomes[..12], &[GATEWAY, UPLINK].concat()[..]);
        prop_assert_eq!(&becomes[12..], &classified.bytes[12..]);
        Ok(())
    };
    runner(3000).run(&frames(), property).unwrap();
    assert!(sent.get() > 150, "{} were sent", sent.get());
}

/// Both directions of a remote backend's flow, in both families and protocols.
#[test]
fn a_known_flow_is_sent_back_both_ways() {
    let node = Node::new(&world::ports());
    for flow in flows() {
        let (request, reply) = flow.known_to(&node);
        for (frame, counter) in [(request, Counter::FlowForward), (reply, Counter::FlowReply)] {
            let ran = sent(&node, &came(&frame).bytes());
            assert_eq!((ran.action, ran.counted), (TX, [(counter, 1)].into()), "{frame:?}");
            let classified = node.run(Hook::Ingress, &frame.bytes());
            assert_eq!(ran.bytes[12..], classified.bytes[12..]);
        }
    }
}

/// A known flow's packets carry the next hop's address; the kernel sends one now and then, which
/// keeps the neighbour's entry.
#[test]
fn the_classifier_remembers_the_next_hop() {
    let node = Node::new(&world::ports());
    for flow in flows() {
        let (request, _reply) = flow.known_to(&node);
        let ran = node.run(Hook::Ingress, &request.bytes());
        assert_eq!((ran.action, ran.counted), (REDIRECT, [(Counter::FlowForward, 1)].into()));
        assert_eq!(ran.bytes[..12], [GATEWAY, UPLINK].concat()[..], "{request:?}");
    }
    let (request, _reply) = flows()[0].known_to(&node);
    let start = Instant::now();
    let is_kernels = || node.run(Hook::Ingress, &request.bytes()).bytes[..6] == NODE;
    while !is_kernels() {
        assert!(start.elapsed() < Duration::from_secs(5), "the kernel sent none");
    }
}

/// What the stack must see.
#[test]
fn what_is_not_sent_back_goes_on_as_it_came() {
    let mut node = Node::new(&world::ports());
    let [flow, ..] = flows();
    let (request, _reply) = flow.known_to(&node);
    let request = came(&request);
    let with = |flags| Frame {
        transport: Transport::Tcp(Segment { flags, ..Segment::data() }),
        ..request.clone()
    };
    let local = Frame::tcp(request.from, at("192.0.2.100:80"), Segment::syn());
    let _opened = node.run(Hook::Ingress, &local.bytes());
    let mut partial = request.bytes();
    let whole = partial.len() - ETHERNET - 20;
    let sum = pseudo(&partial[ETHERNET..], whole);
    partial[ETHERNET + 36..ETHERNET + 38].copy_from_slice(&sum.to_be_bytes());
    let mut tagged = request.bytes();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    let mut fragment = request.bytes();
    fragment[ETHERNET + 6] = 0x20;
    let big = Frame { payload: vec![7; 1480], ..request.clone() };
    let mut cut = request.bytes();
    cut.truncate(cut.len() - 1);
    let for_another = Frame { stations: [PEER, GATEWAY], ..request.clone() };
    for (what, bytes) in [
        ("a segment with SYN", with(TcpFlags::SYN).bytes()),
        ("a segment with FIN", with(TcpFlags::FIN | TcpFlags::ACK).bytes()),
        ("a segment with RST", with(TcpFlags::RST).bytes()),
        ("a local backend's", came(&local).bytes()),
        ("a checksum that a device is to fill in", partial),
        ("a tagged frame", tagged),
        ("a fragment", fragment),
        ("more than the link takes", big.bytes()),
        ("less than it says", cut),
        ("another station's", for_another.bytes()),
        ("at the end of its hops", Frame { hops: 1, ..request.clone() }.bytes()),
    ] {
        for _ in 0..3 {
            let ran = node.run(Hook::Xdp, &bytes);
            assert_eq!((ran.action, ran.counted), (PASS, [].into()), "{what}");
            assert_eq!(ran.bytes, bytes, "{what}");
        }
    }
    let ran = sent(&node, &request.bytes());
    assert_eq!(ran.action, TX, "the segment that all of them were made of");
    node.ip("route add unreachable 10.2.0.5");
    std::thread::sleep(Duration::from_millis(150));
    let ran = node.run(Hook::Xdp, &request.bytes());
    assert_eq!(ran.action, PASS, "no way any more");
    node.forget_flows();
    assert_eq!(node.run(Hook::Xdp, &request.bytes()).action, PASS, "no flow any more");
}

/// A half is refreshed in front of the stack, too; one whose other half is lost is the
/// classifier's, who makes it anew.
#[test]
fn a_half_is_refreshed_and_a_lost_one_left_to_the_classifier() {
    let mut node = Node::new(&world::ports());
    let [flow, ..] = flows();
    let (request, _reply) = flow.known_to(&node);
    let request = came(&request).bytes();
    assert_eq!(sent(&node, &request).action, TX);
    let age = |node: &mut Node| {
        for (key, entry) in node.flows() {
            let last_seen_ns = entry.last_seen_ns - 2 * REFRESH_NS;
            node.put_flow(key, FlowEntry { last_seen_ns, ..entry });
        }
    };
    let before = node.flows();
    age(&mut node);
    assert_eq!(sent(&node, &request).action, TX);
    let fresh = node
        .flows()
        .into_iter()
        .filter(|(key, entry)| entry.last_seen_ns >= before[key].last_seen_ns);
    assert_eq!(fresh.count(), 1, "the half that the frame is of");
    age(&mut node);
    let reply = before.iter().find(|(_, entry)| entry.flags != 0).unwrap();
    node.remove_flows(&[*reply.0]);
    assert_eq!(node.run(Hook::Xdp, &request).action, PASS);
    assert_eq!(node.flows().len(), 1);
}

/// A client and the frontend that it dials.
pub(crate) struct Dialled {
    from: SocketAddr,
    to: SocketAddr,
    backend: SocketAddr,
    transport: [Transport; 3],
}

impl Dialled {
    /// Whether it is of IPv4.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.from.is_ipv4()
    }

    /// Opens the flow, so that the next packets of it change nothing: such a one, and a reply.
    pub(crate) fn known_to(&self, node: &Node) -> (Frame, Frame) {
        let [first, answer, next] = self.transport;
        let request = Frame::udp(self.from, self.to);
        let source = SocketAddr::new(own(self.from.is_ipv6()).ip(), self.from.port());
        let reply = Frame::udp(self.backend, source);
        for (frame, transport) in
            [(&request, first), (&reply, answer), (&request, next), (&reply, next)]
        {
            let ran = node.run(Hook::Ingress, &Frame { transport, ..frame.clone() }.bytes());
            assert_eq!(ran.action, REDIRECT, "{:?}", ran.counted);
        }
        (Frame { transport: next, ..request }, Frame { transport: next, ..reply })
    }
}

pub(crate) fn flows() -> [Dialled; 4] {
    let tcp = [Segment::syn(), Segment::syn_ack(), Segment::data()].map(Transport::Tcp);
    let dialled = |ipv6, transport| {
        let pick = |v4: &str, v6: &str| at(if ipv6 { v6 } else { v4 });
        Dialled {
            from: pick("203.0.113.7:62000", "[fd00:203::7]:62000"),
            to: pick("192.0.2.100:81", "[fd00:100::1]:81"),
            backend: pick("10.2.0.5:8080", "[fd00:10:2::5]:8080"),
            transport,
        }
    };
    let udp = [Transport::Udp; 3];
    [dialled(false, tcp), dialled(false, udp), dialled(true, tcp), dialled(true, udp)]
}

/// Hands a frame over, once more if the kernel was to send one and the classifier saw to that.
pub(crate) fn sent(node: &Node, bytes: &[u8]) -> Ran {
    let ran = node.run(Hook::Xdp, bytes);
    if ran.action != PASS {
        return ran;
    }
    let _classified = node.run(Hook::Ingress, &[&NODE, &PEER, &bytes[12..]].concat());
    node.run(Hook::Xdp, bytes)
}

/// The frame as it comes in by the uplink.
pub(crate) fn came(frame: &Frame) -> Frame {
    assert_eq!(frame.stations, [PEER, NODE]);
    Frame { stations: [GATEWAY, UPLINK], ..frame.clone() }
}

/// The sum of an IPv4 pseudo header.
fn pseudo(packet: &[u8], len: usize) -> u16 {
    let words =
        packet[12..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.sum::<u32>() + u32::from(packet[9]) + u32::try_from(len).unwrap();
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// XDP_PASS and XDP_TX.
pub(crate) const PASS: i32 = 2;
pub(crate) const TX: i32 = 3;
