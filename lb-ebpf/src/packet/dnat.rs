// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What becomes of a packet that came in: a flow's, a new flow's, or none of ours.

use core::mem::offset_of;

use lb_common::{
    addr::Addr,
    backend::BackendFlags,
    config::Config,
    counter::Counter,
    flow::{FlowEntry, FlowFlags, FlowKey, Seen},
    key::{FrontendKey4, FrontendKey6},
    service::Algorithm,
    translate::{Client, Destination, Scope, ServiceView, translate},
    verdict::{Target, Verdict},
};

use super::{
    answer, direct, drop,
    flow::Flow,
    forward,
    headers::NoHop,
    icmp,
    outcome::{
        DIRECT, REFUSE, TARGET, TO_BACKEND, TO_CLIENT, TO_STACK, UNKNOWN, is_action, is_too_big,
    },
    parse::Packet,
    pass, seen, snat,
};
use crate::{
    kernel::{self, Live},
    maps::{self, KernelMaps, Occupied},
    monitor,
};

/// The action on a packet that came in by an external device.
#[inline(always)]
pub(super) fn ingress(packet: &Packet) -> i32 {
    let outcome = if packet.is_error() { icmp::ingress(packet) } else { outcome(packet) };
    match forward::forward(packet, outcome) {
        outcome if is_action(outcome) => outcome,
        outcome => answer::answer(packet, outcome),
    }
}

/// What becomes of a packet that is no ICMP error.
#[inline(always)]
fn outcome(packet: &Packet) -> i32 {
    let Some(config) = maps::config() else {
        return pass(Counter::PassNoFrontend);
    };
    let key = &packet.key;
    // Most packets are no Service's: two cache lines tell.
    if !maps::may_be_ours(config, key.destination, key.destination_port, packet.ipv6) {
        return pass(Counter::PassNoFrontend);
    }
    let mut outcome = known(packet);
    if outcome == UNKNOWN {
        outcome = decide(packet);
        if outcome == TARGET {
            outcome = begin(packet, config);
            if !is_action(outcome) && !is_too_big(outcome) {
                seen::opened(packet);
            }
        }
    }
    outcome
}

/// The outcome for a packet of a flow; [`UNKNOWN`] if there is none, or if it is the first of
/// another one.
#[inline(never)]
fn known(packet: &Packet) -> i32 {
    let Some(flow) = Flow::find(&packet.key) else {
        return UNKNOWN;
    };
    let is_reply = flow.flags.contains(FlowFlags::REPLY);
    let is_local = flow.flags.contains(FlowFlags::LOCAL);
    if is_reply && is_local {
        // From outside, in a local backend's name.
        return pass(Counter::PassNoFlow);
    }
    if !is_reply && flow.starts_anew(packet) {
        flow.forget(packet);
        return UNKNOWN;
    }
    if !flow.keep(packet) {
        return UNKNOWN;
    }
    match maps::put_down(flow.to()) {
        Some(()) if is_reply => TO_CLIENT,
        Some(()) if is_local => TO_STACK,
        Some(()) if flow.is_direct() => DIRECT,
        Some(()) => TO_BACKEND,
        None => pass(Counter::PassNoFlow),
    }
}

/// What becomes of a packet that belongs to no flow: [`TARGET`] with the flow's forward half put
/// down for [`open`], or another outcome.
#[inline(never)]
fn decide(packet: &Packet) -> i32 {
    // It has no ports of its own to tell a Maglev set's backend by: its first piece begins a flow.
    if packet.is_later() {
        return pass(Counter::PassNoFlow);
    }
    let scope = maps::scope_of(packet.bytes.device());
    match translate(&KernelMaps, &Sender { packet, scope }, &destination(packet)) {
        Verdict::Pass(reason) => pass(reason),
        Verdict::Translate(target, reason) => {
            maps::count(if packet.opens() { reason } else { Counter::FlowTakenOver });
            match maps::put_down(half(packet, &target, scope)) {
                Some(()) => TARGET,
                None => pass(Counter::PassNoFlow),
            }
        }
        Verdict::Refuse(reason) => {
            maps::count(reason);
            monitor::note(reason);
            REFUSE
        }
        Verdict::Drop(reason) => drop(reason),
    }
}

/// The forward half of a flow that a packet begins, with the client as its source. The stack
/// has the way from a pod to all others, and no pod takes a packet that seems to be its own.
#[inline(always)]
fn half(packet: &Packet, target: &Target, scope: Scope) -> FlowEntry {
    let is_inside = matches!(scope, Scope::Inside) && target.address != packet.key.source;
    let flags = if is_inside {
        FlowFlags::LOCAL
    } else if target.direct && matches!(scope, Scope::Outside) {
        FlowFlags::DIRECT
    } else {
        FlowFlags::empty()
    };
    let client = (packet.key.source, packet.key.source_port);
    FlowEntry {
        to: FlowKey::new(client, (target.address, target.port), packet.key.protocol),
        last_seen_ns: kernel::coarse_now_ns(),
        backend: target.backend,
        generation: target.generation,
        service_id: target.service_id,
        flags: flags.bits(),
        seen: Seen::empty().with(packet.key.protocol, packet.tcp).bits(),
        tag: 0,
    }
}

/// Begins a flow with the forward half that was put down.
#[inline(always)]
fn begin(packet: &Packet, config: Live<Config>) -> i32 {
    let mut outcome = direct::begin(packet);
    if outcome == TARGET {
        outcome = place(packet, config);
    }
    if outcome == TARGET {
        outcome = snat::choose(packet, config);
    }
    if outcome == TARGET {
        outcome = open(packet);
    }
    outcome
}

/// Decides who has the way to the backend, this program or the stack, and with which source
/// address: [`TARGET`] with the forward half put down, or the action.
#[inline(never)]
fn place(packet: &Packet, config: Live<Config>) -> i32 {
    let Some(mut entry) = maps::take_up::<FlowEntry>() else {
        return pass(Counter::PassNoFlow);
    };
    if entry.flags == 0 && packet.key.source != entry.to.destination && is_here(packet, &entry) {
        entry.flags = FlowFlags::LOCAL.bits();
    }
    if entry.flags == 0 {
        entry.to.source = maps::own_address(config, packet.ipv6);
        if entry.to.source == Addr::ZERO {
            return drop(Counter::DroppedNoAddress);
        }
    }
    match maps::put_down(entry) {
        Some(()) => TARGET,
        None => pass(Counter::PassNoFlow),
    }
}

/// Adds both halves of a flow, and puts down the tuple that the packet leaves with.
#[inline(never)]
fn open(packet: &Packet) -> i32 {
    let Some(entry) = maps::take_up::<FlowEntry>() else {
        return pass(Counter::PassNoFlow);
    };
    let (key, mut half) = (entry.other_key(), entry.other(&packet.key));
    // In place: a copy of the half is an eighth of the stack.
    half.tag = half.tag_of(&key);
    match maps::add_flow(&key, &half) {
        Ok(()) => {}
        // The flow's own, whose forward half was lost.
        Err(Occupied::Key) if leads_to(&key, &half.to) => {}
        Err(Occupied::Key) => return drop(Counter::DroppedRace),
        Err(Occupied::Map) => return drop(Counter::DroppedFlowsFull),
    }
    half = entry;
    half.tag = half.tag_of(&packet.key);
    if let Err(occupied) = maps::add_flow(&packet.key, &half) {
        maps::remove_flow(&key);
        return drop(match occupied {
            Occupied::Key => Counter::DroppedRace,
            Occupied::Map => Counter::DroppedFlowsFull,
        });
    }
    maps::count(Counter::FlowBegun);
    if entry.flags == 0 { TO_BACKEND } else { TO_STACK }
}

/// Whether the half with this key has packets leave with this tuple.
#[inline(always)]
fn leads_to(key: &FlowKey, to: &FlowKey) -> bool {
    maps::flow(key)
        .is_some_and(|half| half.load::<FlowKey, { offset_of!(FlowEntry, to) }>().same(to))
}

/// Whether the stack has the way to a backend: one of this node, or one of no node that is at
/// an address of this one.
#[inline(always)]
fn is_here(packet: &Packet, entry: &FlowEntry) -> bool {
    maps::backend_flags(entry.backend).contains(BackendFlags::LOCAL)
        || matches!(packet.bytes.next_hop(&entry.to, 1), Err(NoHop::Here))
}

/// What the client dialled.
#[inline(always)]
fn destination(packet: &Packet) -> Destination {
    let FlowKey { destination, destination_port, protocol, .. } = packet.key;
    match destination.to_v4() {
        Some(address) => Destination::V4(FrontendKey4::new(address, destination_port, protocol)),
        None => Destination::V6(FrontendKey6::new(destination, destination_port, protocol)),
    }
}

/// The sender of a packet: outside of the cluster, whoever it is (TRP-18), if it came in by an
/// external device; a pod of this node, if it came from that.
struct Sender<'a> {
    packet: &'a Packet,
    scope: Scope,
}

impl Client for Sender<'_> {
    #[inline(always)]
    fn scope(&self) -> Scope {
        self.scope
    }

    #[inline(always)]
    fn on_host(&self) -> bool {
        false
    }

    #[inline(always)]
    fn identity(&self) -> Addr {
        self.packet.key.source
    }

    #[inline(always)]
    fn comes_from(&self, _ipv6: bool, test: impl Fn(Addr) -> bool) -> bool {
        test(self.packet.key.source)
    }

    #[inline(always)]
    fn entropy(&self, service: &ServiceView) -> u32 {
        let FlowKey { source, source_port, .. } = self.packet.key;
        match service.set.algorithm() {
            Algorithm::Random => kernel::random(),
            Algorithm::Maglev => service.bits_of(source, source_port),
        }
    }

    #[inline(always)]
    fn opens(&self) -> bool {
        self.packet.opens()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        kernel::now_ns()
    }
}
