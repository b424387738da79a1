// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every way in from outside, with the address that the server saw.

use std::{collections::BTreeSet, net::SocketAddr};

use lab::{
    driver::Driver,
    need_lab,
    node::Node,
    place::Place,
    wire::{AskSpec, Family, Kind},
};

use crate::bed::{Bed, PROTOCOLS, Way};

/// TRP-12, NP-01, NP-11, XIP-01, LB-01, CIP-03, MSQ-04, TRP-13: a client outside reaches, by either
/// node, in every way, every pod that it may. With policy Cluster that is every one: a pod of
/// the node that it came through sees the client's own address, one of the other node sees the
/// first node's. With policy Local it is the node's own pods, by whatever external frontend.
#[test]
fn trp_12_a_client_outside_reaches_every_pod_that_it_may() {
    need_lab!();
    reaches_every_pod(&Bed::start());
}

/// A client outside, by each way and through each node.
pub(crate) fn reaches_every_pod(bed: &Bed) {
    let pods = bed.pods();
    for policy in ["Cluster", "Local"] {
        bed.expose(&pods, |spec| spec.external_traffic_policy = Some(policy.to_owned()));
        for (number, way) in [1, 2].into_iter().flat_map(|number| Way::ALL.map(|it| (number, it))) {
            let node = bed.node(number);
            bed.through(node);
            let is_local = policy == "Local" && way != Way::ClusterIp;
            let may = pods.iter().filter(|pod| !is_local || pod.node == node.name);
            let may: BTreeSet<_> = may.map(|pod| pod.name.clone()).collect();
            for family in Family::BOTH {
                for protocol in PROTOCOLS {
                    let seen = answering(bed, node, (protocol, way.at(node, family)), may.len());
                    assert_eq!(seen, may, "{policy} {protocol} {way:?} {family:?} {}", node.name);
                }
            }
        }
    }
}

/// The pods that answer at an address until there are so many, each of which has seen the
/// right client.
pub(crate) fn answering(
    bed: &Bed,
    node: &Node,
    (protocol, to): (&str, SocketAddr),
    count: usize,
) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for _ in 0..TRIES {
        let asked = bed.ask(protocol, to);
        let echo = asked.unwrap_or_else(|error| {
            panic!("{protocol} {to} through {}: {error:?}", node.name);
        });
        let pod = bed.served.lab.pod(&echo.pod).unwrap();
        let is_local = pod.node == node.name;
        let source = if is_local { bed.served.lab.client() } else { &node.place };
        assert_eq!(echo.client.ip(), source.address(Family::of(to)), "{} {to}", echo.pod);
        seen.insert(echo.pod);
        if seen.len() == count {
            break;
        }
    }
    seen
}

/// TRP-18: pods and processes of another node are clients like any other one: their sockets'
/// own node does not translate this node's NodePort, so that policy Local holds for them.
#[test]
fn trp_18_another_node_is_a_client_like_any_other_one() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    let clients = [(&pods[0].place, pods[0].driver()), (&bed.node(1).place, bed.node(1).driver())];
    for policy in ["Cluster", "Local"] {
        // With policy Local no pod of the client's own node may answer.
        let exposed = if policy == "Local" { &pods[..] } else { &pods[2..] };
        bed.expose(exposed, |spec| spec.external_traffic_policy = Some(policy.to_owned()));
        for (client, driver) in &clients {
            for family in Family::BOTH {
                let to = Way::NodePort.at(bed.node(2), family);
                for ask in [AskSpec::tcp(to), AskSpec::udp(to)] {
                    let echo = driver.as_ref().unwrap().ask(ask).unwrap().echo;
                    assert!(echo.pod.starts_with("pod-2-"), "{echo:?}");
                    assert_eq!(echo.client.ip(), client.address(family), "{policy} {echo:?}");
                }
            }
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
    carries_large_requests(&Bed::start());
}

/// A request of many segments, to a pod of the node and to one of the other.
pub(crate) fn carries_large_requests(bed: &Bed) {
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
