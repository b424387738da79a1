// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The shortest way: plain packets that are none of ours, and those of flows of which nothing
//! changes. All else takes the way of `dnat`, which sees the packet as it came.

use core::mem::offset_of;

use aya_ebpf::programs::TcContext;
use lb_common::{
    checksum::Sum,
    config::Config,
    counter::Counter,
    flow::{FlowEntry, FlowFlags, FlowKey, FlowWords, REFRESH_NS, Seen, TcpFlags},
    protocol::Protocol,
};

use super::{
    drop,
    headers::{Bytes, Linear},
    hops::Hop,
    outcome::UNKNOWN,
    parse::{ETHER_IPV4, ETHER_IPV6},
    pass,
    plain::Plain,
    shapes::Ethernet,
};
use crate::{
    kernel::{Live, network},
    maps,
};

/// The action on a packet that came in by an external device, or [`UNKNOWN`].
#[inline(always)]
pub(super) fn ingress(context: &TcContext) -> i32 {
    let bytes = Bytes(context.skb.skb);
    if bytes.is_for_others() {
        return pass(Counter::PassNotIp);
    }
    let ether_type = bytes.ether_type();
    if ether_type == ETHER_IPV4 {
        came::<false>(bytes)
    } else if ether_type == ETHER_IPV6 {
        came::<true>(bytes)
    } else {
        pass(Counter::PassNotIp)
    }
}

/// The action on a packet that leaves by an external device, or [`UNKNOWN`].
#[inline(always)]
pub(super) fn egress(context: &TcContext) -> i32 {
    let bytes = Bytes(context.skb.skb);
    let ether_type = bytes.ether_type();
    if ether_type == ETHER_IPV4 {
        leaves::<false>(bytes)
    } else if ether_type == ETHER_IPV6 {
        leaves::<true>(bytes)
    } else {
        pass(Counter::PassNotIp)
    }
}

#[inline(never)]
fn came<const V6: bool>(bytes: Bytes) -> i32 {
    let linear = bytes.linear();
    let Some(packet) = Plain::<V6>::read(linear, network(), bytes.len()) else {
        return UNKNOWN;
    };
    let Some(config) = maps::config() else {
        return UNKNOWN;
    };
    if !may_be_ours(&packet, config) {
        return pass(Counter::PassNoFrontend);
    }
    let Found::Same(hit) = find(&packet) else {
        return UNKNOWN;
    };
    if hit.flags.contains(FlowFlags::LOCAL) {
        if hit.flags.contains(FlowFlags::REPLY) {
            return UNKNOWN;
        }
        return match rewrite(&packet, bytes, linear, &hit.to, packet.hops) {
            Some(()) => pass(Counter::FlowForward),
            None => drop(Counter::DroppedRewrite),
        };
    }
    if packet.hops <= 1 {
        return UNKNOWN;
    }
    let Some(hop) = Hop::on(bytes, &hit.to) else {
        return UNKNOWN;
    };
    // Not kept meanwhile: stack is scarce.
    let linear = bytes.linear();
    if !fits(&packet, bytes, linear, hop.mtu()) {
        return UNKNOWN;
    }
    let hops = packet.hops - 1;
    let rewritten = if hit.is_direct() {
        if network() == 0 || hop.device() != bytes.device() || leads_to_sender(linear, hop) {
            return UNKNOWN;
        }
        age(&packet, bytes, linear, hops)
    } else {
        rewrite(&packet, bytes, linear, &hit.to, hops)
    };
    if rewritten.and_then(|()| address_frame::<V6>(bytes, hop)).is_none() {
        return drop(Counter::DroppedRewrite);
    }
    maps::count(hit.reason());
    Bytes::send_out(hop.device())
}

/// Gives a packet the Ethernet header with which it goes to a next hop.
#[inline(always)]
fn address_frame<const V6: bool>(bytes: Bytes, hop: Hop) -> Option<()> {
    if network() == 0 {
        bytes.put_ethernet()?;
    }
    let ethernet: &mut Ethernet = bytes.linear().header(0)?;
    ethernet.stations = hop.stations();
    if network() == 0 {
        ethernet.kind = if V6 { ETHER_IPV6 } else { ETHER_IPV4 };
    }
    Some(())
}

/// Whether a packet fits into a link's limit, or each that a train is cut into.
#[inline(always)]
fn fits<const V6: bool>(packet: &Plain<V6>, bytes: Bytes, linear: Linear, mtu: u16) -> bool {
    let cut_len = bytes.cut_len();
    if cut_len == 0 {
        return bytes.len() <= network() + u32::from(mtu);
    }
    packet.headers_len(linear, network()).is_some_and(|len| cut_len + len <= u32::from(mtu))
}

#[inline(never)]
fn leaves<const V6: bool>(bytes: Bytes) -> i32 {
    let linear = bytes.linear();
    let Some(packet) = Plain::<V6>::read(linear, network(), bytes.len()) else {
        return UNKNOWN;
    };
    let hit = match find(&packet) {
        Found::Same(hit) => hit,
        Found::Changed => return UNKNOWN,
        Found::Nothing => return pass(Counter::PassNoReply),
    };
    if !hit.flags.contains(FlowFlags::REPLY.union(FlowFlags::LOCAL)) {
        return pass(Counter::PassNoReply);
    }
    match rewrite(&packet, bytes, linear, &hit.to, packet.hops) {
        Some(()) => pass(Counter::FlowReply),
        None => drop(Counter::DroppedRewrite),
    }
}

/// What FLOWS has for a packet.
pub(super) enum Found {
    /// A half of which the packet changes nothing.
    Same(Hit),
    /// A half that the packet changes, or whose other half is to be looked at.
    Changed,
    /// No half.
    Nothing,
}

/// What a half of a flow says.
pub(super) struct Hit {
    /// The tuple that the packet leaves with.
    pub(super) to: FlowWords,
    /// Which half it is, and where the backend is.
    pub(super) flags: FlowFlags,
}

impl Hit {
    /// Whether the packet goes on unchanged, towards the backend of the tuple.
    #[inline(always)]
    pub(super) const fn is_direct(&self) -> bool {
        self.flags.contains(FlowFlags::DIRECT)
    }

    /// What a packet counts that leaves with the tuple.
    #[inline(always)]
    pub(super) const fn reason(&self) -> Counter {
        if self.flags.contains(FlowFlags::REPLY) {
            Counter::FlowReply
        } else if self.is_direct() {
            Counter::FlowDirect
        } else {
            Counter::FlowForward
        }
    }
}

/// Whether a packet's destination can be a frontend or the source of a flow.
#[inline(always)]
pub(super) fn may_be_ours<const V6: bool>(packet: &Plain<V6>, config: Live<Config>) -> bool {
    let (address, port) = packet.destination();
    maps::may_be_ours(config, address, port, V6)
}

/// Finds the half of a flow that a packet belongs to.
#[inline(always)]
pub(super) fn find<const V6: bool>(packet: &Plain<V6>) -> Found {
    match maps::flow_of(&packet.key) {
        Some(half) => hit(packet, half).map_or(Found::Changed, Found::Same),
        None => Found::Nothing,
    }
}

#[inline(always)]
fn hit<const V6: bool>(packet: &Plain<V6>, half: Live<FlowEntry>) -> Option<Hit> {
    let to = half.load::<FlowWords, { offset_of!(FlowEntry, to) }>();
    let kind = half.load::<u32, { offset_of!(FlowEntry, flags) }>();
    let [flags, seen, tag0, tag1] = kind.to_ne_bytes();
    if u16::from_ne_bytes([tag0, tag1]) != FlowEntry::tag(&packet.key, &to) {
        return None;
    }
    let (flags, seen) = (FlowFlags::from_bits_retain(flags), Seen::from_bits_retain(seen));
    let protocol = if packet.is_tcp { Protocol::TCP } else { Protocol::UDP };
    // Whose a segment with SYN is hangs on how far the flow has come.
    if packet.tcp.contains(TcpFlags::SYN) || seen.with(protocol, packet.tcp) != seen {
        return None;
    }
    let last_seen_ns = half.load::<u64, { offset_of!(FlowEntry, last_seen_ns) }>();
    let now_ns = maps::tick_ns();
    let age_ns = now_ns.saturating_sub(last_seen_ns);
    if age_ns > REFRESH_NS {
        let has_other = !flags.contains(FlowFlags::DIRECT);
        if age_ns > NEVER_OVER_NS || has_other && !leads_back(&packet.key, half) {
            return None;
        }
        half.store::<u64, { offset_of!(FlowEntry, last_seen_ns) }>(now_ns);
    }
    if !packet.is_tcp && !flags.contains(FlowFlags::REPLY) {
        // A datagram begins a new flow where its backend is gone.
        let backend = half.load::<u32, { offset_of!(FlowEntry, backend) }>();
        let generation = half.load::<u32, { offset_of!(FlowEntry, generation) }>();
        maps::kept(backend, generation)?;
    }
    Some(Hit { to, flags })
}

/// Whether the other half of a flow is there, and leads back.
#[inline(never)]
fn leads_back(key: &FlowWords, half: Live<FlowEntry>) -> bool {
    let key: &FlowKey = bytemuck::must_cast_ref(key);
    let to = half.load::<FlowKey, { offset_of!(FlowEntry, to) }>();
    maps::flow(&to.reversed()).is_some_and(|other| {
        other.load::<FlowKey, { offset_of!(FlowEntry, to) }>().same(&key.reversed())
    })
}

/// Gives a packet another tuple, and so many hops.
#[inline(always)]
fn rewrite<const V6: bool>(
    packet: &Plain<V6>,
    bytes: Bytes,
    linear: Linear,
    to: &FlowWords,
    hops: u8,
) -> Option<()> {
    let network = network();
    if bytes.is_gso() || packet.may_be_partial(linear, network)? {
        // The kernel knows what the checksum is of.
        packet.write(linear, network, to, hops)?;
        let addresses = packet.change_of_addresses(to);
        if V6 {
            bytes.change_sum_of_all(addresses.with_sum(packet.change_of_hops(hops)));
        }
        let (at, is_udp) = packet.checksum_at(network);
        bytes.change_pseudo_sum(at, addresses, is_udp)?;
        return bytes.change_payload_sum(at, packet.change_of_ports(to), is_udp);
    }
    let change = packet.write_checksum(linear, network, to, hops)?;
    if change != Sum::ZERO {
        bytes.change_sum_of_all(change);
        return packet.write(bytes.linear(), network, to, hops);
    }
    packet.write(linear, network, to, hops)
}

/// Whether a way leads to the station that sent a frame.
#[inline(always)]
fn leads_to_sender(linear: Linear, hop: Hop) -> bool {
    linear.header::<Ethernet>(0).is_none_or(|ethernet| ethernet.stations.lead_back(&hop.stations()))
}

/// Gives a packet so many hops and nothing else.
#[inline(always)]
fn age<const V6: bool>(packet: &Plain<V6>, bytes: Bytes, linear: Linear, hops: u8) -> Option<()> {
    packet.write_hops(linear, network(), hops)?;
    if V6 {
        // No header checksum makes up for them.
        bytes.change_sum_of_all(packet.change_of_hops(hops));
    }
    Some(())
}

/// A half that is no older is of no flow that is over: half of the shortest time-out.
const NEVER_OVER_NS: u64 = 5_000_000_000;
