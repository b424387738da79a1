// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A packet as the programs see it: all reads and writes of its bytes, and what the kernel
//! does with it. Everything goes by helpers, which reach past the linear part and keep
//! checksums that the device has computed, or is to compute, true.
#![expect(unsafe_code, reason = "the kernel's helpers on packets")]

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_fib_lookup, bpf_redir_neigh, xdp_md,
    },
    helpers,
};
use bytemuck::{Pod, Zeroable as _};
use lb_common::{addr::Addr, be::Be16, checksum::Sum, flow::FlowKey};

use super::{hops::Way, shapes::Stations};

/// A packet on its way through a device with Ethernet headers.
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
    device: u32,
    family: u32,
    address: Addr,
}

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

    /// Bytes from the Ethernet header on.
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
        // SAFETY: as above.
        unsafe { (*self.0).gso_size != 0 }
    }

    /// Cuts the packet off.
    #[inline(always)]
    pub(super) fn cut(self, len: u32) -> Option<()> {
        // SAFETY: the helper refuses what would cut headers.
        let answer = unsafe { helpers::bpf_skb_change_tail(self.0, len, 0) };
        (answer == 0).then_some(())
    }

    /// Makes room between the Ethernet header and the IP header.
    #[inline(always)]
    pub(super) fn make_room(self, len: u32) -> Option<()> {
        let len = len.cast_signed();
        // SAFETY: the helper changes the packet's memory, of which nobody holds a pointer.
        let answer = unsafe { helpers::bpf_skb_adjust_room(self.0, len, BPF_ADJ_ROOM_MAC, 0) };
        (answer == 0).then_some(())
    }

    /// Where a packet with this tuple goes from here.
    #[inline(always)]
    pub(super) fn next_hop(self, to: &FlowKey) -> Result<NextHop, NoHop> {
        let mut query = bpf_fib_lookup_of(to, self.device());
        let params = &raw mut query;
        // SAFETY: the helper reads and writes the structure, whose size it is told.
        let answer = unsafe { helpers::bpf_fib_lookup(self.0.cast(), params, FIB_LOOKUP_SIZE, 0) };
        match answer {
            FIB_SUCCESS | FIB_NO_NEIGHBOUR => Ok(NextHop {
                device: query.ifindex,
                family: u32::from(query.family),
                address: next_address(&query),
            }),
            FIB_NOT_FORWARDED => Err(NoHop::Here),
            FIB_TOO_BIG => Err(NoHop::TooBig(mtu(&query))),
            _ => Err(NoHop::Closed),
        }
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

    /// The way of a packet with this tuple, if it leads out of the device that the frame came in
    /// by.
    #[inline(always)]
    pub(super) fn way_back(self, to: &FlowKey) -> Way {
        let mut query = bpf_fib_lookup_of(to, self.device());
        let params = &raw mut query;
        // SAFETY: the helper reads and writes the structure, whose size it is told.
        let answer = unsafe { helpers::bpf_fib_lookup(self.0.cast(), params, FIB_LOOKUP_SIZE, 0) };
        let device = self.device();
        if answer != FIB_SUCCESS || query.ifindex != device {
            return Way::new(device, 0, Stations::zeroed());
        }
        let stations = Stations::new(query.dmac, query.smac);
        Way::new(device, mtu(&query), stations)
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
    pub(super) fn send(self) -> i32 {
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

/// A question for the route of a tuple.
#[inline(always)]
fn bpf_fib_lookup_of(to: &FlowKey, device: u32) -> bpf_fib_lookup {
    // SAFETY: integers and unions of integers, for which zero is a value.
    let mut query: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    query.l4_protocol = to.protocol.number;
    query.sport = to.source_port.to_wire();
    query.dport = to.destination_port.to_wire();
    query.ifindex = device;
    if let (Some(source), Some(destination)) = (to.source.to_v4(), to.destination.to_v4()) {
        query.family = AF_INET;
        query.__bindgen_anon_3.ipv4_src = source.to_wire();
        query.__bindgen_anon_4.ipv4_dst = destination.to_wire();
    } else {
        query.family = AF_INET6;
        query.__bindgen_anon_3.ipv6_src = to.source.to_words().map(lb_common::be::Be32::to_wire);
        query.__bindgen_anon_4.ipv6_dst =
            to.destination.to_words().map(lb_common::be::Be32::to_wire);
    }
    query
}

/// The next hop's address as the helper left it, IPv4 in the first word: as
/// `struct bpf_redir_neigh` has it.
#[inline(always)]
fn next_address(query: &bpf_fib_lookup) -> Addr {
    // SAFETY: all 16 bytes of the union are initialised.
    let words = unsafe { query.__bindgen_anon_4.ipv6_dst };
    Addr::from_words(words.map(lb_common::be::Be32::from_wire))
}

/// The link's limit as the helper left it.
#[inline(always)]
fn mtu(query: &bpf_fib_lookup) -> u16 {
    // SAFETY: both variants of the union are this integer.
    unsafe { query.__bindgen_anon_1.mtu_result }
}

const PACKET_OTHERHOST: u32 = 3;
/// The VLAN's number in a tag.
const VLAN_ID: u32 = 0xfff;
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
