// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FLOWS: what the packet path remembers of a flow, and for how long.
//!
//! A flow has two halves, one a direction. Each is found by the tuple of that direction's
//! packets as they arrive and holds the tuple that they leave with, so either half can be
//! made from the other:
//!
//! ```text
//! forward   client → frontend  ⇒  source → backend
//! reply     backend → source   ⇒  frontend → client
//! ```
//!
//! The source is the client, or an address of the node with a port of its own (SNAT). Each
//! direction writes its own half only; what phase the flow is in follows from both. A flow that
//! goes on unchanged to its backend's node has one half here: its replies go another way.

use bitflags::bitflags;
use bytemuck::{Pod, Zeroable};

mod visit;

use crate::{
    addr::Addr,
    be::Be16,
    key::{hash_words, mix},
    protocol::Protocol,
};

pub use self::visit::{Pass, Visit, visit};

/// Key of FLOWS, 40 bytes: the tuple of a packet as it arrives. The same in both families.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// The sender's address.
    pub source: Addr,
    /// The receiver's address.
    pub destination: Addr,
    /// The sender's port.
    pub source_port: Be16,
    /// The receiver's port.
    pub destination_port: Be16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Always 0.
    pub _pad: [u8; 3],
}

/// A [`FlowKey`] as integers: what programs move and compare.
pub type FlowWords = [u64; 5];

/// Value of FLOWS, 64 bytes: one half of a flow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct FlowEntry {
    /// The tuple that packets of this direction leave with.
    pub to: FlowKey,
    /// When a packet went this way last, in nanoseconds of CLOCK_MONOTONIC, as coarse as
    /// [`REFRESH_NS`].
    pub last_seen_ns: u64,
    /// Index into BACKENDS.
    pub backend: u32,
    /// The generation of that index which is meant.
    pub generation: u32,
    /// [`Service::id`](crate::service::Service::id), for people.
    pub service_id: u32,
    /// [`FlowFlags`], as the number that a dump of the map shows.
    pub flags: u8,
    /// [`Seen`] of this direction, as the number that a dump of the map shows.
    pub seen: u8,
    /// [`tag`](Self::tag) of the element's own key and of `to`; another one where the half was
    /// not made by this version, whose packets then take the slower way.
    pub tag: u16,
}

bitflags! {
    /// What kind of half a flow's entry is.
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
    #[repr(transparent)]
    pub struct FlowFlags: u8 {
        /// From the backend to the client.
        const REPLY = 1 << 0;
        /// The backend is on this node: packets go up the stack, and replies are met when
        /// they leave the node.
        const LOCAL = 1 << 1;
        /// Packets go on unchanged to the backend's node, and replies do not come by here: there
        /// is no other half. `to` is what that node makes of them.
        const DIRECT = 1 << 2;
    }
}

bitflags! {
    /// What has been seen in one direction of a flow.
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
    #[repr(transparent)]
    pub struct Seen: u8 {
        /// Any packet.
        const ANY = 1 << 0;
        /// A segment with SYN.
        const SYN = 1 << 1;
        /// A segment without SYN; of SCTP, a chunk after the first two.
        const DATA = 1 << 2;
        /// A segment with FIN.
        const FIN = 1 << 3;
        /// A reset, and nothing but resets since: one that was forged is overruled by the
        /// next segment of the one who did not send it.
        const RST = 1 << 4;
    }
}

bitflags! {
    /// The flags of a TCP segment (RFC 9293 3.1), at the bits of the header's byte 13. What an
    /// SCTP packet begins with is told in the same words.
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
    pub struct TcpFlags: u8 {
        /// No more data from the sender.
        const FIN = 1 << 0;
        /// Opens a connection.
        const SYN = 1 << 1;
        /// Resets it.
        const RST = 1 << 2;
        /// The acknowledgement field is valid.
        const ACK = 1 << 4;
    }
}

/// How far a flow has come. The time-outs are those of the kernel's conntrack
/// (nf_conntrack_proto_tcp.c, nf_conntrack_proto_udp.c, nf_conntrack_proto_sctp.c), but for the
/// two that kube-proxy sets (CT-10).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// UDP, and the client has had no answer.
    Unreplied,
    /// UDP, answered.
    Replied,
    /// The client has sent its SYN.
    SynSent,
    /// The backend has answered it.
    SynReceived,
    /// Data may go both ways.
    Established,
    /// One side has closed.
    HalfClosed,
    /// Both sides have.
    TimeWait,
    /// A side has reset the connection, or aborted the association.
    Closed,
    /// SCTP: the client has sent INIT.
    CookieWait,
    /// SCTP: the client has sent what INIT was answered with.
    CookieEchoed,
    /// SCTP: data may go both ways.
    Associated,
    /// SCTP: one side shuts the association down.
    ShuttingDown,
}

impl FlowKey {
    /// A key from its parts.
    #[inline(always)]
    pub const fn new(source: (Addr, Be16), destination: (Addr, Be16), protocol: Protocol) -> Self {
        Self {
            source: source.0,
            destination: destination.0,
            source_port: source.1,
            destination_port: destination.1,
            protocol,
            _pad: [0; 3],
        }
    }

    /// The key as the words that it is in memory.
    #[inline(always)]
    pub const fn words(&self) -> FlowWords {
        bytemuck::must_cast(*self)
    }

    /// Whether two tuples are the same, word by word.
    #[inline(always)]
    pub const fn same(&self, other: &Self) -> bool {
        let [a0, a1, a2, a3, a4]: [u64; 5] = bytemuck::must_cast(*self);
        let [b0, b1, b2, b3, b4]: [u64; 5] = bytemuck::must_cast(*other);
        (a0 ^ b0) | (a1 ^ b1) | (a2 ^ b2) | (a3 ^ b3) | (a4 ^ b4) == 0
    }

    /// A cheap hash of the client and what it dialled: the same on every node.
    #[inline(always)]
    pub const fn hash(&self) -> u32 {
        let ports =
            (self.destination_port.to_host() as u32) << 16 | self.source_port.to_host() as u32;
        mix(mix(hash_words(self.source.to_words()), hash_words(self.destination.to_words())), ports)
    }

    /// The tuple of a packet the other way.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            _pad: [0; 3],
        }
    }
}

impl FlowEntry {
    /// What kind of half it is.
    #[inline(always)]
    pub const fn flags(&self) -> FlowFlags {
        FlowFlags::from_bits_retain(self.flags)
    }

    /// What has been seen in its direction.
    #[inline(always)]
    pub const fn seen(&self) -> Seen {
        Seen::from_bits_retain(self.seen)
    }

    /// The key of the other half.
    #[inline(always)]
    pub const fn other_key(&self) -> FlowKey {
        self.to.reversed()
    }

    /// The other half of the one that `key` leads to, with nothing seen in its direction.
    #[inline(always)]
    #[must_use]
    pub const fn other(&self, key: &FlowKey) -> Self {
        Self {
            to: key.reversed(),
            flags: self.flags ^ FlowFlags::REPLY.bits(),
            seen: Seen::empty().bits(),
            ..*self
        }
    }

    /// The half as `key` leads to it.
    #[inline(always)]
    #[must_use]
    pub const fn tagged(self, key: &FlowKey) -> Self {
        Self { tag: self.tag_of(key), ..self }
    }

    /// Its tag, if `key` leads to it.
    #[inline(always)]
    pub const fn tag_of(&self, key: &FlowKey) -> u16 {
        Self::tag(&key.words(), &self.to.words())
    }

    /// A cheap hash of both tuples, as words.
    ///
    /// An element of a BPF hash can be recycled for another key under a reader's eyes; the tag
    /// tells the reader that this is not the element it looked up, or not all of it: it is
    /// compared with the tuple that was read.
    #[expect(clippy::cast_possible_truncation, reason = "16 bits are left")]
    #[inline(always)]
    pub const fn tag(key: &FlowWords, to: &FlowWords) -> u16 {
        (sum_of_products(key) ^ sum_of_products(to).wrapping_mul(ODD[5])).wrapping_shr(48) as u16
    }
}

impl Seen {
    /// With a packet more: the flags of a segment, none of a datagram.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, protocol: Protocol, flags: TcpFlags) -> Self {
        let mut seen = Self::from_bits_retain(self.bits() & !Self::RST.bits() | Self::ANY.bits());
        if protocol.number == Protocol::UDP.number {
            return seen;
        }
        if flags.contains(TcpFlags::SYN) {
            seen = seen.union(Self::SYN);
        } else {
            seen = seen.union(Self::DATA);
        }
        if flags.contains(TcpFlags::FIN) {
            seen = seen.union(Self::FIN);
        }
        if flags.contains(TcpFlags::RST) {
            seen = seen.union(Self::RST);
        }
        seen
    }
}

impl TcpFlags {
    /// What the first chunk of an SCTP packet says, by its type (RFC 9260 3.2). A packet that
    /// opens or closes an association has no other chunks, or begins with that one.
    #[inline(always)]
    pub const fn of_chunk(kind: u8) -> Self {
        match kind {
            INIT => Self::SYN,
            INIT_ACK => Self::SYN.union(Self::ACK),
            ABORT => Self::RST,
            SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => Self::FIN.union(Self::ACK),
            _ => Self::ACK,
        }
    }

    /// Whether the segment opens a connection.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        let relevant = Self::SYN.bits() | Self::ACK.bits() | Self::RST.bits() | Self::FIN.bits();
        self.bits() & relevant == Self::SYN.bits()
    }
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 12] = [
        Self::Unreplied,
        Self::Replied,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::HalfClosed,
        Self::TimeWait,
        Self::Closed,
        Self::CookieWait,
        Self::CookieEchoed,
        Self::Associated,
        Self::ShuttingDown,
    ];

    /// Of a flow in whose directions this has been seen.
    #[inline(always)]
    pub const fn of(protocol: Protocol, forward: Seen, reply: Seen) -> Self {
        if protocol.number == Protocol::UDP.number {
            return if reply.contains(Seen::ANY) { Self::Replied } else { Self::Unreplied };
        }
        if protocol.number == Protocol::SCTP.number {
            return Self::of_association(forward, reply);
        }
        let both = forward.intersection(reply);
        let either = forward.union(reply);
        if either.contains(Seen::RST) {
            Self::Closed
        } else if both.contains(Seen::FIN) {
            Self::TimeWait
        } else if either.contains(Seen::FIN) {
            Self::HalfClosed
        } else if forward.contains(Seen::DATA) && reply.contains(Seen::ANY) {
            Self::Established
        } else if reply.contains(Seen::SYN) {
            Self::SynReceived
        } else {
            Self::SynSent
        }
    }

    /// Of a flow that goes on unchanged, of which only the client's direction is seen: the other
    /// one is believed to have come as far.
    #[inline(always)]
    pub const fn one_way(protocol: Protocol, forward: Seen) -> Self {
        Self::of(protocol, forward, forward)
    }

    /// Of an association, whose handshake is INIT, INIT ACK, COOKIE ECHO, COOKIE ACK
    /// (RFC 9260 5.1).
    #[inline(always)]
    const fn of_association(forward: Seen, reply: Seen) -> Self {
        let either = forward.union(reply);
        if either.contains(Seen::RST) {
            Self::Closed
        } else if either.contains(Seen::FIN) {
            Self::ShuttingDown
        } else if forward.intersection(reply).contains(Seen::DATA) {
            Self::Associated
        } else if forward.contains(Seen::DATA) {
            Self::CookieEchoed
        } else {
            Self::CookieWait
        }
    }

    /// How long a flow without a packet is kept, in seconds.
    #[inline(always)]
    pub const fn timeout_secs(self) -> u32 {
        match self {
            Self::Unreplied => 30,
            Self::Replied | Self::SynSent | Self::TimeWait => 120,
            Self::SynReceived => 60,
            // nf_conntrack_tcp_timeout_established as kube-proxy sets it (CT-10).
            Self::Established => 86_400,
            // nf_conntrack_tcp_timeout_close_wait as kube-proxy sets it (CT-10).
            Self::HalfClosed => 3_600,
            Self::Closed => 10,
            Self::CookieWait | Self::CookieEchoed | Self::ShuttingDown => 3,
            // Five heartbeats and a retransmission.
            Self::Associated => 210,
        }
    }

    /// The same in a table that is filling, where phases that lead to something else get no
    /// more than `passing_secs`. Connections that are open, and datagrams that are answered,
    /// keep theirs: none of them ever makes room for a new flow.
    #[inline(always)]
    pub const fn timeout_secs_within(self, passing_secs: u32) -> u32 {
        let timeout_secs = self.timeout_secs();
        if self.is_passing() && timeout_secs > passing_secs { passing_secs } else { timeout_secs }
    }

    /// Whether the flow has not begun in earnest, or is over but for stragglers: what the
    /// kernel's conntrack gives up early (`tcp_can_early_drop`, and what is not ASSURED).
    #[inline(always)]
    pub const fn is_passing(self) -> bool {
        match self {
            Self::Unreplied
            | Self::SynSent
            | Self::SynReceived
            | Self::TimeWait
            | Self::Closed
            | Self::CookieWait
            | Self::CookieEchoed
            | Self::ShuttingDown => true,
            Self::Replied | Self::Established | Self::HalfClosed | Self::Associated => false,
        }
    }

    /// Whether a flow whose newer half was last seen then has outlived its time-out. A
    /// `now_ns` before that (another CPU wrote it a moment ago) counts as now.
    #[inline(always)]
    pub const fn is_over(self, last_seen_ns: u64, now_ns: u64) -> bool {
        now_ns.saturating_sub(last_seen_ns) > self.timeout_secs() as u64 * 1_000_000_000
    }

    /// Whether a client that opens a connection with a tuple of such a flow starts anew.
    #[inline(always)]
    pub const fn may_start_anew(self) -> bool {
        matches!(self, Self::TimeWait | Self::Closed | Self::ShuttingDown)
    }

    /// The name that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreplied => "unreplied",
            Self::Replied => "replied",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::HalfClosed => "half-closed",
            Self::TimeWait => "time-wait",
            Self::Closed => "closed",
            Self::CookieWait => "cookie-wait",
            Self::CookieEchoed => "cookie-echoed",
            Self::Associated => "associated",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

/// The products do not wait for each other.
#[inline(always)]
const fn sum_of_products([w0, w1, w2, w3, w4]: &FlowWords) -> u64 {
    w0.wrapping_mul(ODD[0])
        .wrapping_add(w1.wrapping_mul(ODD[1]))
        .wrapping_add(w2.wrapping_mul(ODD[2]))
        .wrapping_add(w3.wrapping_mul(ODD[3]))
        .wrapping_add(w4.wrapping_mul(ODD[4]))
}

/// How old a half's `last_seen_ns` becomes before a packet writes it anew: a cache line that
/// is not written is shared by all CPUs.
pub const REFRESH_NS: u64 = 250_000_000;

/// Any odd numbers with as many ones as zeros, unlike each other.
const ODD: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
];

/// Chunk types of SCTP (RFC 9260 3.2).
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const SHUTDOWN_COMPLETE: u8 = 14;

#[cfg(test)]
mod tests;
