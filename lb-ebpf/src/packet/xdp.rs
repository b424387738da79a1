// SPDX-License-Identifier: Apache-2.0 OR MIT
//! In front of the stack: packets of known flows that go out of the device they came in by get
//! their other tuple and are sent back. All else goes on to the classifier, as it came.

use aya_ebpf::{
    bindings::xdp_action::{XDP_PASS, XDP_TX},
    programs::XdpContext,
};
use lb_common::{counter::Counter, flow::FlowFlags};

use super::{
    fast::{Found, find, may_be_ours},
    headers::Frame,
    hops::Hop,
    parse::{ETHER_IPV4, ETHER_IPV6, ETHERNET_LEN as NETWORK},
    plain::Plain,
    shapes::Ethernet,
};
use crate::maps;

/// What becomes of a frame that came in by an external device.
#[inline(always)]
pub(crate) fn ingress(context: &XdpContext) -> u32 {
    let frame = Frame(context.ctx);
    let Some(ethernet) = frame.linear().header::<Ethernet>(0) else {
        return XDP_PASS;
    };
    let kind = ethernet.kind;
    let counter = if kind == ETHER_IPV4 {
        rewrite::<false>(frame)
    } else if kind == ETHER_IPV6 {
        rewrite::<true>(frame)
    } else {
        None
    };
    let Some(counter) = counter else {
        return XDP_PASS;
    };
    maps::count(counter);
    XDP_TX
}

/// Rewrites a frame so that it can be sent back: what is to be counted. `None` for a frame that
/// is left as it is.
#[inline(always)]
fn rewrite<const V6: bool>(frame: Frame) -> Option<Counter> {
    let linear = frame.linear();
    let packet = Plain::<V6>::read(linear, NETWORK, u32::MAX)?;
    let len = NETWORK + packet.len;
    if !linear.reaches(len) && len > frame.len() {
        return None;
    }
    if !may_be_ours(&packet, maps::config()?) || packet.hops <= 1 {
        return None;
    }
    let Found::Same(hit) = find(&packet) else {
        return None;
    };
    // What a device is to sum would leave without its sum.
    if hit.flags.contains(FlowFlags::LOCAL) || packet.may_be_partial(linear, NETWORK)? {
        return None;
    }
    let hop = Hop::back(frame, &hit.to)?;
    let ethernet = linear.header::<Ethernet>(0)?;
    let stations = hop.stations();
    // A frame for another station is none of ours, whatever is in it.
    if packet.len > u32::from(hop.mtu()) || !ethernet.stations.is_answered_by(&stations) {
        return None;
    }
    if hit.is_direct() && ethernet.stations.lead_back(&stations) {
        return None;
    }
    ethernet.stations = stations;
    let hops = packet.hops - 1;
    if hit.is_direct() {
        packet.write_hops(linear, NETWORK, hops)?;
        return Some(hit.reason());
    }
    let _change = packet.write_checksum(linear, NETWORK, &hit.to, hops)?;
    packet.write(linear, NETWORK, &hit.to, hops)?;
    Some(hit.reason())
}
