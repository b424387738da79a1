// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Headers as they travel. Byte order is in the fields' types.

use bytemuck::{Pod, Zeroable};
use lb_common::{
    addr::Addr,
    be::{Be16, Be32},
    protocol::Protocol,
};

/// An Ethernet header (IEEE 802.3 3.1.1).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Ethernet {
    /// Who gets the frame and who sends it.
    pub(super) stations: Stations,
    /// What follows.
    pub(super) kind: Be16,
}

/// Receiver and sender of a frame, each as three words that the kernel need not align.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Stations {
    to: [u16; 3],
    from: [u16; 3],
}

impl Stations {
    /// From the addresses' words.
    #[inline(always)]
    pub(super) const fn new(to: [u16; 3], from: [u16; 3]) -> Self {
        Self { to, from }
    }

    /// Whether a frame is of that sender.
    #[inline(always)]
    pub(super) const fn are_from(&self, sender: [u16; 3]) -> bool {
        let ([a0, a1, a2], [b0, b1, b2]) = (self.from, sender);
        (a0 ^ b0) | (a1 ^ b1) | (a2 ^ b2) == 0
    }

    /// Whether a way leads back to a frame's sender.
    #[inline(always)]
    pub(super) const fn lead_back(&self, way: &Self) -> bool {
        self.are_from(way.to)
    }

    /// Whether a frame is for the sender of an answer.
    #[inline(always)]
    pub(super) const fn is_answered_by(&self, answer: &Self) -> bool {
        let ([a0, a1, a2], [b0, b1, b2]) = (self.to, answer.from);
        (a0 ^ b0) | (a1 ^ b1) | (a2 ^ b2) == 0
    }
}

/// An IPv4 header without options (RFC 791 3.1).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Ipv4 {
    /// Version 4 and the header's length in words.
    pub(super) version: u8,
    /// DSCP and ECN.
    pub(super) traffic_class: u8,
    /// Header and payload, in bytes.
    pub(super) total_len: Be16,
    /// Of all fragments of one packet.
    pub(super) id: Be16,
    /// Flags and the fragment's offset.
    pub(super) fragment: Be16,
    /// Hops that are left.
    pub(super) ttl: u8,
    /// What follows.
    pub(super) protocol: Protocol,
    /// Of the header.
    pub(super) checksum: Be16,
    /// Who sent it.
    pub(super) source: Be32,
    /// Who is to get it.
    pub(super) destination: Be32,
}

/// An IPv6 header (RFC 8200 3).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Ipv6 {
    /// Version 6, traffic class and flow label.
    pub(super) version: Be32,
    /// All after this header, in bytes.
    pub(super) payload_len: Be16,
    /// What follows.
    pub(super) next: Protocol,
    /// Hops that are left.
    pub(super) hop_limit: u8,
    /// Who sent it.
    pub(super) source: Addr,
    /// Who is to get it.
    pub(super) destination: Addr,
}

/// What all IPv6 extension headers but the fragment's and AH's begin with (RFC 8200 4).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Extension {
    /// What follows.
    pub(super) next: Protocol,
    /// The header's length in units of 8 bytes, less the first 8.
    pub(super) len: u8,
}

/// An IPv6 fragment header (RFC 8200 4.5).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Fragment {
    /// What follows in the first fragment.
    pub(super) next: Protocol,
    /// Zero.
    pub(super) reserved: u8,
    /// The fragment's offset, and whether more follow.
    pub(super) place: Be16,
    /// Of all fragments of one packet.
    pub(super) id: Be32,
}

/// An ICMP or ICMPv6 header (RFC 792, RFC 4443 2.1).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Icmp {
    /// What it says.
    pub(super) kind: u8,
    /// More exactly.
    pub(super) code: u8,
    /// Of the message; of ICMPv6 with a pseudo header.
    pub(super) checksum: Be16,
    /// An MTU, for one.
    pub(super) rest: Be32,
}

/// SCTP's common header and the first chunk's (RFC 9260 3.1, 3.2).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Sctp {
    /// The sender's port.
    pub(super) source: Be16,
    /// The receiver's port.
    pub(super) destination: Be16,
    /// Names the association.
    pub(super) tag: Be32,
    /// CRC32c, least significant byte first.
    pub(super) checksum: Be32,
    /// The chunk's type.
    pub(super) chunk: u8,
    /// Its flags.
    pub(super) flags: u8,
    /// Its length in bytes, with this head.
    pub(super) len: Be16,
}

/// A TCP header without options (RFC 9293 3.1).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Tcp {
    /// The sender's port.
    pub(super) source: Be16,
    /// The receiver's port.
    pub(super) destination: Be16,
    /// Of the first byte.
    pub(super) sequence: Be32,
    /// The next byte that is expected.
    pub(super) acknowledgement: Be32,
    /// The header's length in words, in the upper half.
    pub(super) offset: u8,
    /// [`lb_common::flow::TcpFlags`].
    pub(super) flags: u8,
    /// Bytes that the sender takes.
    pub(super) window: Be16,
    /// Of pseudo header and segment.
    pub(super) checksum: Be16,
    /// Urgent pointer.
    pub(super) urgent: Be16,
}

/// A UDP header (RFC 768).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Udp {
    /// The sender's port.
    pub(super) source: Be16,
    /// The receiver's port.
    pub(super) destination: Be16,
    /// Header and payload, in bytes.
    pub(super) len: Be16,
    /// Of pseudo header and datagram; zero over IPv4 if there is none.
    pub(super) checksum: Be16,
}

impl Icmp {
    /// Whether it is an error about a packet: unreachable, time exceeded or parameter problem of
    /// ICMP; those, and too big, of ICMPv6.
    #[inline(always)]
    pub(super) fn is_error(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::ICMP => matches!(self.kind, 3 | 11 | 12),
            _ => matches!(self.kind, 1..=4),
        }
    }
}
