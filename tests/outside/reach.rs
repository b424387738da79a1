// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every way in from outside, with the address that the server saw.

use std::collections::BTreeSet;

use lab::{
    driver::Driver,
    need_lab,
    place::Place,
    wire::{AskSpec, Family, Kind},
};

use crate::bed::{Bed, PROTOCOLS, Way};

/// TRP-12, NP-01, NP-11, XIP-01, LB-01, MSQ-04: with policy Cluster a client outside reaches
/// every pod through either node; a pod of the node that it came through sees the client's own
/// address, one of the other node sees the first node's.
#[test]
fn trp_12_a_client_outside_reaches_every_pod_through_either_node() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    bed.expose(&pods, |_| {});
    let outside = bed.served.lab.client();
    for number in [1, 2] {
        let node = bed.node(number);
        bed.through(node);
        for family in Family::BOTH {
            for (way, protocol) in Way::ALL.into_iter().flat_map(|it| PROTOCOLS.map(|p| (it, p))) {
                let to = way.at(node, family);
                let mut seen = BTreeSet::new();
                for _ in 0..TRIES {
                    let echo = bed.ask(protocol, to).unwrap_or_else(|error| {
                        panic!("{protocol} {to} through node-{number}: {error:?}")
                    });
                    let pod = pods.iter().find(|pod| pod.name == echo.pod).unwrap();
                    let is_local = pod.node == node.name;
                    let source = if is_local { outside } else { &node.place };
                    assert_eq!(echo.client.ip(), source.address(family), "{} {to}", echo.pod);
                    seen.insert(echo.pod);
                    if seen.len() == pods.len() {
                        break;
                    }
                }
                assert_eq!(seen.len(), pods.len(), "{protocol} {to}: only {seen:?}");
            }
        }
    }
}

/// TRP-18: a pod of another node is a client like any other one: its socket's own node does not
/// translate this node's NodePort.
#[test]
fn trp_18_a_pod_reaches_the_node_port_of_another_node() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    bed.expose(&pods[2..], |_| {});
    let driver = pods[0].driver().unwrap();
    for family in Family::BOTH {
        let to = Way::NodePort.at(bed.node(2), family);
        for ask in [AskSpec::tcp(to), AskSpec::udp(to)] {
            let echo = driver.ask(ask).unwrap().echo;
            assert!(echo.pod.starts_with("pod-2-"), "{echo:?}");
        }
    }
}

/// A flow that goes on to another node never takes a port that a socket of this node may have:
/// with the client's source port, a process of the node still gets its own answers.
#[test]
fn flows_and_the_nodes_own_sockets_do_not_take_each_others_answers() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    bed.expose(&pods[2..3], |_| {});
    let (client, node) = (bed.served.lab.client(), bed.node(1));
    let host = node.driver().unwrap();
    for family in Family::BOTH {
        for make in [AskSpec::tcp, AskSpec::udp] {
            let ask = |driver: &Driver, from: &Place, to| {
                let mut ask = make(to);
                ask.socket.bind = Some(from.at(family, EPHEMERAL));
                driver.ask(ask).unwrap().echo
            };
            let through = ask(&bed.client, client, Way::NodePort.at(node, family));
            assert_eq!(through.client.ip(), node.address(family));
            assert_ne!(through.client.port(), EPHEMERAL);
            let own = ask(&host, &node.place, pods[2].at(family, 8080));
            assert_eq!(own.client, node.at(family, EPHEMERAL));
        }
    }
}

/// Bulk: what a stream carries arrives as it was sent, in pieces larger than any packet.
#[test]
fn large_requests_come_through_whole() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    // Once on the node itself, once on the other one.
    for served in [&pods[..1], &pods[2..3]] {
        bed.expose(served, |_| {});
        for family in Family::BOTH {
            let to = Way::NodePort.at(bed.node(1), family);
            let sock = bed.client.open(Kind::Tcp, family).unwrap();
            bed.client.connect(sock, to).unwrap();
            let text = "0123456789abcdef".repeat(LARGE / 16);
            bed.client.send(sock, &format!("{text}\n")).unwrap();
            let mut reply = String::new();
            while !reply.ends_with('\n') {
                let (more, _) = bed.client.recv_from(sock).unwrap();
                assert!(!more.is_empty(), "ended after {} bytes", reply.len());
                reply.push_str(&more);
            }
            assert!(reply.contains(&text), "{} bytes came back changed", reply.len());
            bed.client.close(sock).unwrap();
        }
    }
}

/// A fair pick misses one of four pods in so many tries once in 30 million.
const TRIES: u32 = 64;
/// A port that the kernel gives to sockets (net.ipv4.ip_local_port_range).
const EPHEMERAL: u16 = 40_000;
/// Bytes of a request: several segments of the largest size.
const LARGE: usize = 200_000;
