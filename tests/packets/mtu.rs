// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Links that become narrower and wider while flows are known.

use std::time::{Duration, Instant};

use lb_common::counter::Counter;

use crate::{
    frame::Said,
    node::{Hook, Node},
    table::REDIRECT,
    world,
    xdp::{PASS, TX, came, flows, sent},
};

/// What is too big by now is told so with the link's size of now, in both directions of a flow,
/// and goes on as soon as the link takes it again. What is remembered of a way is not remembered
/// for long, in front of the stack neither.
#[test]
fn a_link_that_changes_its_size_is_followed_by_known_flows() {
    let node = Node::new(&world::ports());
    let mut frames = Vec::new();
    for flow in flows() {
        let (request, reply) = flow.known_to(&node);
        frames.extend([(request, Counter::FlowForward), (reply, Counter::FlowReply)]);
    }
    for (frame, _) in &mut frames {
        frame.payload = vec![7; 1350];
    }
    for mtu in [1500, 1300, 1500, 1290, 1420] {
        node.ip(&format!("link set uplink mtu {mtu}"));
        let changed = Instant::now();
        for (frame, passes) in &frames {
            let (bytes, arrived) = (frame.bytes(), came(frame).bytes());
            let is_big = bytes.len() > usize::from(mtu) + 14;
            let followed = || {
                let (ran, early) = (node.run(Hook::Ingress, &bytes), sent(&node, &arrived));
                assert_eq!(ran.action, REDIRECT, "{frame:?}");
                let counter = if is_big { Counter::TooBig } else { *passes };
                let is_answered = !is_big || ran.bytes == frame.error(Said::TooBig(mtu));
                let action = if is_big { PASS } else { TX };
                ran.counted.contains_key(&counter) && is_answered && early.action == action
            };
            while !followed() {
                assert!(changed.elapsed() < MEMORY, "{frame:?} at a link of {mtu}");
            }
        }
    }
}

/// TRP-12: a route's own limit counts as its device's does, for a flow's first packet and for those
/// of known ones.
#[test]
fn what_is_too_big_for_a_route_is_told_so() {
    let node = Node::new(&world::ports());
    for flow in flows() {
        let (mut request, _) = flow.known_to(&node);
        let to_pods = if flow.is_ipv4() {
            "10.2.0.0/16 via 192.0.2.2"
        } else {
            "fd00:10:2::/48 via fd00:192::2"
        };
        let limit = |mtu: &str| node.ip(&format!("route change {to_pods} {mtu}"));
        request.payload = vec![7; 1350];
        let bytes = request.bytes();
        let followed = |counter, is_told: &dyn Fn(&[u8]) -> bool| {
            let start = Instant::now();
            loop {
                let ran = node.run(Hook::Ingress, &bytes);
                if ran.counted.contains_key(&counter) && is_told(&ran.bytes) {
                    return;
                }
                assert!(start.elapsed() < MEMORY, "{request:?}: {:?}", ran.counted);
            }
        };
        limit("mtu lock 1290");
        followed(Counter::TooBig, &|answer| answer == request.error(Said::TooBig(1290)));
        limit("");
        followed(Counter::FlowForward, &|_| true);
    }
}

/// How long a way may be remembered, and a little more for a busy machine.
const MEMORY: Duration = Duration::from_millis(400);
