// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs for the benchmark only: clients, what stands for a node that costs nothing, and a
//! sink that answers as a server does. No agent has them.
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

use core::mem::{offset_of, swap};

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
    kernel::Live,
    order::{BATCH, FRAMES, Order, WORDS},
};

/// What to do, and what was done.
#[btf_map]
static ORDER: Array<Order, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// An Ethernet, an IPv4 and a TCP header. A datagram's length and checksum are where a
/// segment's sequence number is.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Segment {
    to: [u16; 3],
    from: [u16; 3],
    ether_type: Be16,
    ip: [u8; 9],
    protocol: u8,
    ip_sum: u16,
    source_address: [u16; 2],
    destination_address: [u16; 2],
    source: Be16,
    destination: Be16,
    sequence: [Be16; 2],
    acknowledgement: [Be16; 2],
    /// The header's length, and the flags.
    kind: Be16,
    window: Be16,
    sum: Be16,
    urgent: Be16,
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

/// Counts and drops datagrams and what comes to clients, and answers as a server; all else
/// goes on.
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
    let connects = order.load::<u32, { offset_of!(Order, connects) }>() != 0;
    let batch = u64::from(BATCH);
    let frames = FRAMES as u64;
    let (step, flow) = if connects {
        (made / batch % frames, made / (batch * frames) * batch + made % batch)
    } else {
        (0, made)
    };
    let flow = flow & order.load::<u64, { offset_of!(Order, flows) }>();
    let head = header::<[u64; WORDS - 1]>(context)?;
    for (word, at) in head.iter_mut().zip(0..) {
        *word = order.load_word::<{ offset_of!(Order, heads) }, { WORDS * FRAMES }>(
            step as u32 * WORDS as u32 + at,
        );
    }
    let segment = header::<Segment>(context)?;
    segment.source = Be16::from_host(segment.source.to_host() + flow as u16);
    let sum = if connects { &mut segment.sum } else { &mut segment.sequence[1] };
    // RFC 1624, equation 3, with one word that grows.
    let grown = u32::from(!sum.to_host()) + flow as u32;
    *sum = Be16::from_host(!((grown & 0xffff) + (grown >> 16)) as u16);
    Some(XDP_TX)
}

#[inline(always)]
fn take(context: &XdpContext) -> Option<u32> {
    let segment = header::<Segment>(context)?;
    let order = Live::new(ORDER.get_ptr_mut(0))?;
    if segment.ether_type != IPV4 {
        return None;
    }
    let server = order.load::<Be16, { offset_of!(Order, server) }>();
    if segment.protocol == UDP && segment.destination == server {
        taken(order);
        return Some(XDP_DROP);
    }
    if segment.protocol != TCP {
        return None;
    }
    if segment.destination == server {
        return Some(serve(segment));
    }
    if segment.source == order.load::<Be16, { offset_of!(Order, dialled) }>() {
        if segment.kind == BYTE {
            taken(order);
        }
        return Some(XDP_DROP);
    }
    None
}

/// Counts what arrived.
#[inline(always)]
fn taken(order: Live<Order>) {
    let taken = order.load::<u64, { offset_of!(Order, taken) }>();
    order.store::<u64, { offset_of!(Order, taken) }>(taken + 1);
}

/// A SYN is answered, and so is a byte, with one: by what the client acknowledges, or will.
#[inline(always)]
fn serve(segment: &mut Segment) -> u32 {
    let (kind, sequence, acknowledgement, len) = match segment.kind {
        SYN => (SYN_ACK, SERVER_FIRST, CLIENT_FIRST + 1, 20),
        BYTE => (BYTE, SERVER_FIRST + 1, CLIENT_FIRST + 2, 21),
        _ => return XDP_DROP,
    };
    swap(&mut segment.to, &mut segment.from);
    swap(&mut segment.source_address, &mut segment.destination_address);
    swap(&mut segment.source, &mut segment.destination);
    segment.kind = kind;
    segment.sequence = [Be16::ZERO, Be16::from_host(sequence)];
    segment.acknowledgement = [Be16::ZERO, Be16::from_host(acknowledgement)];
    segment.sum = sum(segment, len);
    XDP_TX
}

/// The checksum of a segment of so many bytes, of which those after its header are 0.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a folded sum has 16 bits")]
fn sum(segment: &Segment, len: u16) -> Be16 {
    let mut sum = 0;
    for word in segment.source_address.into_iter().chain(segment.destination_address) {
        sum += u32::from(word);
    }
    let rest = [
        segment.source,
        segment.destination,
        segment.kind,
        segment.window,
        Be16::from_host(u16::from(TCP)),
        Be16::from_host(len),
    ];
    for word in segment.sequence.into_iter().chain(segment.acknowledgement).chain(rest) {
        sum += u32::from(word.to_wire());
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    Be16::from_wire(!(folded + (folded >> 16)) as u16)
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
/// Numbers of protocols.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Headers of 20 bytes with the flags SYN, SYN and ACK, PSH and ACK.
const SYN: Be16 = Be16::from_host(0x5002);
const SYN_ACK: Be16 = Be16::from_host(0x5012);
const BYTE: Be16 = Be16::from_host(0x5018);
/// First sequence numbers.
const CLIENT_FIRST: u16 = 0x1000;
const SERVER_FIRST: u16 = 0x2000;

/// Unreachable: no program here can panic, or the verifier would refuse it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
