// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs for the benchmark only: a generator of small datagrams, what stands for a node that
//! costs nothing, and a sink. No agent has them.
//!
//! ```text
//! BPF_PROG_TEST_RUN ──> flood ──> veth ──> a node, or `turn_back` ──> veth ──> sink
//! ```
//!
//! The kernel runs `flood` for frames that it makes (`BPF_F_TEST_XDP_LIVE_FRAMES`) and sends
//! them out of a device. All that follows happens on the same processor before the next batch.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "as the programs of the product")]
#![expect(unsafe_code, reason = "frames are read and written in place")]
#![expect(clippy::needless_pass_by_value, reason = "aya's entry points pass the context so")]

#[path = "../kernel.rs"]
#[expect(dead_code, reason = "the other programs use the rest of it")]
mod kernel;
mod order;

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{
        BPF_F_MMAPABLE,
        xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
    },
    btf_maps::Array,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use bytemuck::{Pod, Zeroable};
use lb_common::be::Be16;

use crate::{
    kernel::{Field, Live},
    order::Order,
};

/// What to do, and what was done.
#[btf_map]
static ORDER: Array<Order, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// An Ethernet, an IPv4 and a UDP header.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Datagram {
    stations: [u16; 6],
    ether_type: Be16,
    ip: [u8; 9],
    protocol: u8,
    sum_and_addresses: [u16; 5],
    source: Be16,
    destination: Be16,
    len: u16,
    sum: Be16,
}

impl Field for [u64; 6] {
    type Words = Self;
}

/// Makes a frame what was ordered, of the next flow, and sends it.
#[xdp]
fn flood(context: XdpContext) -> u32 {
    send(&context).unwrap_or(XDP_ABORTED)
}

/// Sends a frame back as it came.
#[xdp]
fn turn_back(_context: XdpContext) -> u32 {
    XDP_TX
}

/// Counts and drops the datagrams that it was told of; all else goes on.
#[xdp]
fn sink(context: XdpContext) -> u32 {
    take(&context).unwrap_or(XDP_PASS)
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "there are fewer flows than ports")]
fn send(context: &XdpContext) -> Option<u32> {
    let order = Live::new(ORDER.get_ptr_mut(0))?;
    let made = order.load::<u64, { offset_of!(Order, made) }>();
    order.store::<u64, { offset_of!(Order, made) }>(made + 1);
    *header::<[u64; 6]>(context)? = order.load::<[u64; 6], { offset_of!(Order, head) }>();
    let datagram = header::<Datagram>(context)?;
    let flow = made & order.load::<u64, { offset_of!(Order, flows) }>();
    datagram.source = Be16::from_host(datagram.source.to_host() + flow as u16);
    // RFC 1624, equation 3, with one word that grows.
    let sum = u32::from(!datagram.sum.to_host()) + flow as u32;
    datagram.sum = Be16::from_host(!((sum & 0xffff) + (sum >> 16)) as u16);
    Some(XDP_TX)
}

#[inline(always)]
fn take(context: &XdpContext) -> Option<u32> {
    let datagram = header::<Datagram>(context)?;
    let order = Live::new(ORDER.get_ptr_mut(0))?;
    let port = order.load::<Be16, { offset_of!(Order, port) }>();
    if datagram.ether_type != IPV4 || datagram.protocol != UDP || datagram.destination != port {
        return None;
    }
    let taken = order.load::<u64, { offset_of!(Order, taken) }>();
    order.store::<u64, { offset_of!(Order, taken) }>(taken + 1);
    Some(XDP_DROP)
}

/// The first bytes of a frame, if it has so many.
#[inline(always)]
fn header<'a, T: Pod>(context: &XdpContext) -> Option<&'a mut T> {
    let at = context.data();
    if at + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: the bytes are in the frame, any are a `T`, and the verifier needs no alignment.
    // One header is not asked for again before what was asked for is done with.
    Some(unsafe { &mut *core::ptr::with_exposed_provenance_mut(at) })
}

/// IPv4's EtherType.
const IPV4: Be16 = Be16::from_host(0x0800);
/// UDP's number.
const UDP: u8 = 17;

/// Unreachable: no program here can panic, or the verifier would refuse it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
