// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A packet as the programs see it: all reads and writes of its bytes, and what the kernel
//! does with it. Everything goes by helpers, which reach past the linear part and keep
//! checksums that the device has computed, or is to compute, true.
#![expect(unsafe_code, reason = "the kernel's helpers on packets")]

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_fib_lookup, bpf_redir_neigh, xdp_md,
    },
    helpers,
};
use bytemuck::Pod;
use lb_common::{
    addr::Addr,
    be::Be16,
    checksum::Sum,
    counter::Counter,
    flow::{FlowKey, FlowWords},
};

use super::{hops::Way, parse::ETHERNET_LEN};
use crate::{
    kernel::{Live, network},
    maps,
};

/// A packet on its way through a device, with its Ethernet header if the device has such.
#[derive(Clone, Copy)]
pub(super) struct Bytes(pub(super) *mut __sk_buff);

/// A frame that the kernel has made no packet of yet.
#[derive(Clone, Copy)]
pub(super) struct Frame(pub(super) *mut xdp_md);

/// The bytes of a packet that can be read and written in place, from its first header on.
/// The verifier checks each access; addresses need not be aligned for it.
#[derive(Clone, Copy)]
pub(super) struct Linear {
    /// The first byte.
    pub(super) start: usize,
    /// Behind the last.
    pub(super) end: usize,
}

/// Where the next hop is.
#[derive(Clone, Copy)]
pub(super) struct NextHop {
    /// The device that leads there.
    pub(super) device: u32,
    family: u32,
    /// Its address, IPv4 in the first word.
    pub(super) address: Addr,
    /// Its station; zero if the kernel has to ask for it.
    pub(super) station: [u16; 3],
}

/// A question to `bpf_fib_lookup`, and the answer: `struct bpf_fib_lookup`, in memory that is not
/// the stack's.
#[derive(Clone, Copy)]
struct Query(Live<[u64; 8]>);

/// Why there is no next hop.
#[derive(Clone, Copy)]
pub(super) enum NoHop {
    /// The address is the node's own, or nobody knows the way.
    Here,
    /// There is a route that the program cannot take.
    Closed,
    /// The link takes packets of so many bytes only.
    TooBig(u16),
}

impl Bytes {
    /// The EtherType, from which the kernel took the family.
    #[expect(clippy::cast_possible_truncation, reason = "the field holds 16 bits")]
    #[inline(always)]
    pub(super) fn ether_type(self) -> Be16 {
        // SAFETY: a field of the context that the kernel passed.
        Be16::from_wire(unsafe { (*self.0).protocol } as u16)
    }

    /// Whether the frame is not for this device: it was for another host (the device is
    /// promiscuous, or a bridge's), or is of a VLAN, whose own device gets it next. A tag of
    /// VLAN 0 only has a priority (IEEE 802.1Q 9.6).
    #[inline(always)]
    pub(super) fn is_for_others(self) -> bool {
        // SAFETY: as above.
        let kind = unsafe { (*self.0).pkt_type };
        // SAFETY: as above.
        let tag = unsafe { (*self.0).vlan_tci };
        kind == PACKET_OTHERHOST || tag & VLAN_ID != 0
    }

    /// Bytes from the first header on.
    #[inline(always)]
    pub(super) fn len(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).len }
    }

    /// The device that the packet is on.
    #[inline(always)]
    pub(super) fn device(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ifindex }
    }

    /// What of it can be read and written in place.
    #[inline(always)]
    pub(super) fn linear(self) -> Linear {
        // SAFETY: as above.
        let start = unsafe { (*self.0).data };
        // SAFETY: as above.
        let end = unsafe { (*self.0).data_end };
        Linear { start: start as usize, end: end as usize }
    }

    /// Reads a header; `None` if the packet ends before it does.
    #[expect(clippy::cast_possible_truncation, reason = "headers are small")]
    #[inline(always)]
    pub(super) fn load<T: Pod>(self, offset: u32) -> Option<T> {
        let mut header = T::zeroed();
        let to = (&raw mut header).cast();
        // SAFETY: the helper writes no more than the header's size, and any bytes are a `T`.
        let answer = unsafe {
            helpers::bpf_skb_load_bytes(self.0.cast(), offset, to, size_of::<T>() as u32)
        };
        (answer == 0).then_some(header)
    }

    /// Writes bytes that a checksum in the packet is changed for.
    #[inline(always)]
    pub(super) fn store<T: Pod>(self, offset: u32, bytes: &T) -> Option<()> {
        self.store_with(offset, bytes, 0)
    }

    /// Writes bytes that no checksum in the packet makes up for.
    #[inline(always)]
    pub(super) fn store_unsummed<T: Pod>(self, offset: u32, bytes: &T) -> Option<()> {
        self.store_with(offset, bytes, u64::from(BPF_F_RECOMPUTE_CSUM))
    }

    #[expect(clippy::cast_possible_truncation, reason = "headers are small")]
    #[inline(always)]
    fn store_with<T: Pod>(self, offset: u32, bytes: &T, flags: u64) -> Option<()> {
        let from = core::ptr::from_ref(bytes).cast();
        // SAFETY: the helper reads the bytes' size and checks the packet's bounds.
        let answer = unsafe {
            helpers::bpf_skb_store_bytes(self.0.cast(), offset, from, size_of::<T>() as u32, flags)
        };
        (answer == 0).then_some(())
    }

    /// Changes the checksum of an IPv4 header.
    #[inline(always)]
    pub(super) fn change_header_sum(self, offset: u32, change: Sum) -> Option<()> {
        let change = u64::from(change.difference());
        // SAFETY: the helper checks the packet's bounds.
        let answer = unsafe { helpers::bpf_l3_csum_replace(self.0.cast(), offset, 0, change, 0) };
        (answer == 0).then_some(())
    }

    /// Changes the checksum of a segment or datagram for a change of its pseudo header.
    #[inline(always)]
    pub(super) fn change_pseudo_sum(
        self,
        offset: u32,
        change: Sum,
        may_be_zero: bool,
    ) -> Option<()> {
        self.change_sum(offset, change, u64::from(BPF_F_PSEUDO_HDR), may_be_zero)
    }

    /// Changes the checksum of a segment or datagram for a change of its own bytes.
    #[inline(always)]
    pub(super) fn change_payload_sum(
        self,
        offset: u32,
        change: Sum,
        may_be_zero: bool,
    ) -> Option<()> {
        self.change_sum(offset, change, 0, may_be_zero)
    }

    #[inline(always)]
    fn change_sum(self, offset: u32, change: Sum, flags: u64, may_be_zero: bool) -> Option<()> {
        let mangled = if may_be_zero { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        let change = u64::from(change.difference());
        // SAFETY: as above.
        let answer = unsafe {
            helpers::bpf_l4_csum_replace(self.0.cast(), offset, 0, change, flags | mangled)
        };
        (answer == 0).then_some(())
    }

    /// Changes what the device has summed of the whole packet, if it has.
    #[inline(always)]
    pub(super) fn change_sum_of_all(self, change: Sum) {
        // SAFETY: the helper takes any number. It refuses packets that have no such sum.
        let _none = unsafe { helpers::bpf_csum_update(self.0, change.difference()) };
    }

    /// Whether it is a train of packets that the device is to cut.
    #[inline(always)]
    pub(super) fn is_gso(self) -> bool {
        self.cut_len() != 0
    }

    /// Bytes behind the headers of each packet of a train; 0 for a single one.
    #[inline(always)]
    pub(super) fn cut_len(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).gso_size }
    }

    /// Cuts the packet off.
    #[inline(always)]
    pub(super) fn cut(self, len: u32) -> Option<()> {
        // SAFETY: the helper refuses what would cut headers.
        let answer = unsafe { helpers::bpf_skb_change_tail(self.0, len, 0) };
        (answer == 0).then_some(())
    }

    /// Makes room before the IP header.
    #[inline(always)]
    pub(super) fn make_room(self, len: u32) -> Option<()> {
        let len = len.cast_signed();
        // SAFETY: the helper changes the packet's memory, of which nobody holds a pointer.
        let answer = unsafe { helpers::bpf_skb_adjust_room(self.0, len, BPF_ADJ_ROOM_MAC, 0) };
        (answer == 0).then_some(())
    }

    /// Where a packet with this tuple goes from here that has so many bytes behind the Ethernet
    /// header. The limit is the route's: that of its device, or its own, or what was learned of
    /// the way.
    #[inline(always)]
    pub(super) fn next_hop(self, to: &FlowKey, len: u16) -> Result<NextHop, NoHop> {
        let Some(query) = Query::new(&to.words(), self.device(), len) else {
            return Err(NoHop::Closed);
        };
        match query.ask(self.0.cast()) {
            FIB_SUCCESS | FIB_NO_NEIGHBOUR => Ok(query.next_hop()),
            FIB_NOT_FORWARDED => Err(NoHop::Here),
            FIB_TOO_BIG => Err(NoHop::TooBig(query.limit())),
            _ => Err(NoHop::Closed),
        }
    }

    /// Puts an empty Ethernet header before the IP header of a packet that has none: what is
    /// sent from here must begin with one, and devices without take it off.
    #[inline(always)]
    pub(super) fn put_ethernet(self) -> Option<()> {
        // SAFETY: the helper changes the packet's memory, of which nobody holds a pointer.
        let answer = unsafe { helpers::bpf_skb_change_head(self.0, ETHERNET_LEN, 0) };
        (answer == 0).then_some(())
    }

    /// The way of a packet with this tuple, as far as the kernel knows it.
    #[inline(always)]
    pub(super) fn way(self, to: &FlowWords) -> Option<Way> {
        let query = Query::new(to, self.device(), 1)?;
        let answer = query.ask(self.0.cast());
        Some(query.way(self.device(), answer))
    }

    /// Sends the packet out of a device, with the Ethernet header that it has; a device without
    /// takes it off. What the program must return.
    #[expect(clippy::cast_possible_truncation, reason = "the helper returns an action")]
    #[inline(always)]
    pub(super) fn send_out(device: u32) -> i32 {
        // SAFETY: the helper takes any number.
        unsafe { helpers::bpf_redirect(device, 0) as i32 }
    }

    /// Sends the packet out of the device that it came in by: what the program must return.
    #[expect(clippy::cast_possible_truncation, reason = "the helper returns an action")]
    #[inline(always)]
    pub(super) fn send_back(self) -> i32 {
        // SAFETY: the helper takes any number.
        unsafe { helpers::bpf_redirect(self.device(), 0) as i32 }
    }

    /// Has the device take the packet in again, behind what waits on this CPU: what the program
    /// must return.
    #[expect(clippy::cast_possible_truncation, reason = "the helper returns an action")]
    #[inline(always)]
    pub(super) fn take_in_again(self) -> i32 {
        // SAFETY: the helper takes any number.
        unsafe { helpers::bpf_redirect(self.device(), u64::from(BPF_F_INGRESS)) as i32 }
    }
}

impl Frame {
    /// What of it can be read and written in place.
    #[inline(always)]
    pub(super) fn linear(self) -> Linear {
        // SAFETY: a field of the context that the kernel passed.
        let start = unsafe { (*self.0).data };
        // SAFETY: as above.
        let end = unsafe { (*self.0).data_end };
        Linear { start: start as usize, end: end as usize }
    }

    /// All its bytes, wherever they are.
    #[expect(clippy::cast_possible_truncation, reason = "frames are small")]
    #[inline(always)]
    pub(super) fn len(self) -> u32 {
        // SAFETY: the helper reads the context.
        unsafe { helpers::bpf_xdp_get_buff_len(self.0) as u32 }
    }

    /// The device that it came in by.
    #[inline(always)]
    pub(super) fn device(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// The way of a packet with this tuple, as far as the kernel knows it.
    #[inline(always)]
    pub(super) fn way(self, to: &FlowWords) -> Option<Way> {
        let query = Query::new(to, self.device(), 1)?;
        let answer = query.ask(self.0.cast());
        Some(query.way(self.device(), answer))
    }
}

impl Linear {
    /// Whether so many bytes are within.
    #[inline(always)]
    pub(super) const fn reaches(self, len: u32) -> bool {
        // Not the sum: verifiers before 6.18 want to know more of what is added to a pointer.
        self.end - self.start >= len as usize
    }

    /// A header at an offset, if it is within.
    #[inline(always)]
    pub(super) fn header<'a, T: Pod>(self, offset: u32) -> Option<&'a mut T> {
        let at = self.start + offset as usize;
        if at + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the bytes are in the packet, and any are a `T`. One header is not asked for
        // again before what was asked for is done with.
        Some(unsafe { &mut *core::ptr::with_exposed_provenance_mut(at) })
    }
}

impl NextHop {
    /// Sends the packet to the next hop: what the program must then return.
    #[expect(clippy::cast_possible_truncation, reason = "the helper returns an action")]
    #[inline(always)]
    pub(super) fn send(self, packet: Bytes) -> i32 {
        if network() == 0 && packet.put_ethernet().is_none() {
            return super::drop(Counter::DroppedRewrite);
        }
        let mut neighbour = bpf_redir_neigh {
            nh_family: self.family,
            __bindgen_anon_1: aya_ebpf::bindings::bpf_redir_neigh__bindgen_ty_1 {
                ipv6_nh: self.address.to_words().map(lb_common::be::Be32::to_wire),
            },
        };
        let params = &raw mut neighbour;
        // SAFETY: the helper reads the structure, whose size it is told.
        unsafe { helpers::bpf_redirect_neigh(self.device, params, REDIR_NEIGH_SIZE, 0) as i32 }
    }
}

impl Query {
    /// For the route of a tuple that came in by a device, for a packet of so many bytes behind the
    /// Ethernet header; not 0, for which the kernel would compare with the device's limit alone,
    /// and with bytes of other headers.
    #[inline(always)]
    fn new(to: &FlowWords, device: u32, len: u16) -> Option<Self> {
        let words = maps::paper()?;
        let [s0, s1, d0, d1, last] = *to;
        let [source_port, destination_port, protocol, _]: [u16; 4] = bytemuck::must_cast(last);
        let [protocol, _] = protocol.to_ne_bytes();
        let is_v4 = s0 == 0 && s1 & MAPPED_MASK == MAPPED;
        let family = u16::from_ne_bytes([if is_v4 { AF_INET } else { AF_INET6 }, protocol]);
        let ports = [family, source_port, destination_port, len];
        words.store::<u64, 0>(bytemuck::must_cast(ports));
        words.store::<u64, DEVICE>(u64::from(device));
        if is_v4 {
            words.store::<[u64; 4], ENDS>([s1 >> 32, 0, d1 >> 32, 0]);
        } else {
            words.store::<[u64; 4], ENDS>([s0, s1, d0, d1]);
        }
        words.store::<[u64; 2], STATIONS>([0, 0]);
        Some(Self(words))
    }

    /// Asks: one of `FIB_`.
    #[inline(always)]
    fn ask(self, context: *mut c_void) -> i64 {
        let params = self.0.as_ptr().cast();
        // SAFETY: the helper reads and writes the structure, whose size it is told.
        unsafe { helpers::bpf_fib_lookup(context, params, FIB_LOOKUP_SIZE, 0) }
    }

    /// The link's limit as the helper left it.
    #[inline(always)]
    fn limit(self) -> u16 {
        self.0.load::<u16, LIMIT>()
    }

    /// What an answer about what came in by a device says.
    #[inline(always)]
    fn way(self, from: u32, answer: i64) -> Way {
        let words = self.0.load::<[u64; 2], STATIONS>();
        let [_, _, f0, f1, f2, t0, t1, t2]: [u16; 8] = bytemuck::must_cast(words);
        let limit = if answer == FIB_SUCCESS { self.limit() } else { 0 };
        let device = self.0.load::<u32, DEVICE>();
        Way { devices: [from, device], mtu: limit, to: [t0, t1, t2], from: [f0, f1, f2] }
    }

    /// The next hop, with its address as `struct bpf_redir_neigh` has it: IPv4 in the first word.
    #[inline(always)]
    fn next_hop(self) -> NextHop {
        let words = self.0.load::<[u64; 2], STATIONS>();
        let [.., t0, t1, t2]: [u16; 8] = bytemuck::must_cast(words);
        NextHop {
            station: [t0, t1, t2],
            device: self.0.load::<u32, DEVICE>(),
            family: u32::from(self.0.load::<u8, 0>()),
            address: self.0.load::<Addr, DESTINATION>(),
        }
    }
}

/// Where things are in `struct bpf_fib_lookup`: first the family.
const LIMIT: usize = offset_of!(bpf_fib_lookup, __bindgen_anon_1);
const DEVICE: usize = offset_of!(bpf_fib_lookup, ifindex);
const ENDS: usize = offset_of!(bpf_fib_lookup, __bindgen_anon_3);
const DESTINATION: usize = offset_of!(bpf_fib_lookup, __bindgen_anon_4);
const STATIONS: usize = offset_of!(bpf_fib_lookup, __bindgen_anon_5);
const PACKET_OTHERHOST: u32 = 3;
/// The VLAN's number in a tag.
const VLAN_ID: u32 = 0xfff;
/// What stands before an IPv4 address in [`Addr`], of the second word.
const MAPPED: u64 = 0xffff_0000;
const MAPPED_MASK: u64 = 0xffff_ffff;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Answers of bpf_fib_lookup (enum BPF_FIB_LKUP_RET_*). Without a known neighbour the next hop
/// is filled in, and sending asks for it.
const FIB_SUCCESS: i64 = 0;
const FIB_NOT_FORWARDED: i64 = 4;
const FIB_NO_NEIGHBOUR: i64 = 7;
const FIB_TOO_BIG: i64 = 8;
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "64 and 20 bytes")]
const FIB_LOOKUP_SIZE: i32 = size_of::<bpf_fib_lookup>() as i32;
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "64 and 20 bytes")]
const REDIR_NEIGH_SIZE: i32 = size_of::<bpf_redir_neigh>() as i32;
