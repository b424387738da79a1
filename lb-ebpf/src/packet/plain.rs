// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets with plain headers, read and written in place: TCP and UDP behind an IPv4 header
//! without options, or an IPv6 header without extension headers, all in the packet's linear
//! part. Every other packet takes the slower way of `parse` and `forward`.

use lb_common::{
    addr::Addr,
    be::{Be16, Be32},
    checksum::Sum,
    flow::{FlowWords, TcpFlags},
    protocol::Protocol,
};

use super::{
    headers::Linear,
    parse::{IPV4_LEN, IPV6_LEN, MORE_OR_OFFSET, TCP_LEN, UDP_LEN},
    shapes::{Ipv4, Ipv6, Tcp, Udp},
};

/// A segment or datagram with plain headers, in one family.
#[derive(Clone, Copy)]
pub(super) struct Plain<const V6: bool> {
    /// Where it comes from and goes to, kept in registers: the kernel's hash waits for a word
    /// that was stored in pieces.
    pub(super) key: FlowWords,
    /// Whether it is a segment.
    pub(super) is_tcp: bool,
    /// Its flags; none of a datagram.
    pub(super) tcp: TcpFlags,
    /// Hops that are left.
    pub(super) hops: u8,
    /// Bytes from the IP header on that the IP header promises.
    pub(super) len: u32,
}

impl<const V6: bool> Plain<V6> {
    /// Bytes of the IP header.
    const IP_LEN: u32 = if V6 { IPV6_LEN } else { IPV4_LEN };

    /// Reads a packet of so many bytes whose IP header is at an offset.
    #[inline(always)]
    pub(super) fn read(linear: Linear, network: u32, len: u32) -> Option<Self> {
        let (whole, hops, protocol, ends) =
            if V6 { ipv6(linear, network)? } else { ipv4(linear, network)? };
        let is_tcp = protocol == Protocol::TCP;
        let least = Self::IP_LEN + if is_tcp { TCP_LEN } else { UDP_LEN };
        if network + whole > len || whole < least || !is_tcp && protocol != Protocol::UDP {
            return None;
        }
        let transport = network + Self::IP_LEN;
        let tcp = if is_tcp {
            TcpFlags::from_bits_retain(linear.header::<Tcp>(transport)?.flags)
        } else {
            let _whole = linear.header::<Udp>(transport)?;
            TcpFlags::empty()
        };
        let ports = *linear.header::<u32>(transport)?;
        let protocol: u32 = bytemuck::must_cast([protocol.number, 0, 0, 0]);
        let [s0, s1, d0, d1] = ends;
        let key = [s0, s1, d0, d1, bytemuck::must_cast([ports, protocol])];
        Some(Self { key, is_tcp, tcp, hops, len: whole })
    }

    /// Whether the checksum may be left to a device: then it is the pseudo header's sum. One in
    /// 65536 that is not left to a device looks the same.
    #[inline(always)]
    pub(super) fn may_be_partial(&self, linear: Linear, network: u32) -> Option<bool> {
        let checksum = *self.checksum(linear, network)?;
        let [s0, s1, d0, d1, last] = self.key;
        let [_, _, protocol, _]: [Be16; 4] = bytemuck::must_cast(last);
        let len = Be32::from_host(self.len - Self::IP_LEN);
        let mut sum = Sum::ZERO
            .with(second(s1))
            .with(second(d1))
            .with(len)
            .with_low(Be16::from_host(protocol.to_wire()));
        if V6 {
            sum = sum.with(first(s0)).with(second(s0)).with(first(s1));
            sum = sum.with(first(d0)).with(second(d0)).with(first(d1));
        }
        let pseudo = sum.folded();
        Some(pseudo == checksum || checksum.to_wire() == 0 && pseudo.to_wire() == 0xffff)
    }

    /// Writes the checksum that the packet has with other ends: what that and [`write`] add to
    /// the sum of the whole packet. Only for a checksum that is complete.
    ///
    /// [`write`]: Self::write
    #[inline(always)]
    pub(super) fn write_checksum(
        &self,
        linear: Linear,
        network: u32,
        to: &FlowWords,
        hops: u8,
    ) -> Option<Sum> {
        let checksum = self.checksum(linear, network)?;
        let addresses = self.change_of_addresses(to);
        let ports = self.change_of_ports(to);
        let is_summed = self.is_tcp || checksum.to_wire() != 0;
        if is_summed {
            let new = addresses.with_sum(ports).applied(*checksum);
            // A datagram's zero says that there is none (RFC 768).
            let is_zero = !self.is_tcp && new.to_wire() == 0;
            *checksum = if is_zero { Be16::from_wire(0xffff) } else { new };
        }
        // Checksums make up for what they sum: an IPv4 header's for all of it, a segment's for
        // its ports and its pseudo header, whose addresses are in an IPv6 header, too.
        Some(match (V6, is_summed) {
            (true, true) if hops == self.hops => Sum::ZERO,
            (true, true) => self.change_of_hops(hops),
            (true, false) => self.change_of_hops(hops).with_sum(addresses).with_sum(ports),
            (false, true) => addresses.negated(),
            (false, false) => ports,
        })
    }

    /// Writes other ends and hops, and an IPv4 header's checksum, but not the one behind it.
    #[inline(always)]
    pub(super) fn write(
        &self,
        linear: Linear,
        network: u32,
        to: &FlowWords,
        hops: u8,
    ) -> Option<()> {
        let ports = linear.header(network + Self::IP_LEN)?;
        let [s0, s1, d0, d1, last] = *to;
        if V6 {
            linear.header::<Ipv6>(network)?.hop_limit = hops;
            *linear.header(network + IPV6_SOURCE)? = [s0, s1, d0, d1];
        } else {
            let ip = linear.header::<Ipv4>(network)?;
            let change = self.change_of_addresses(to).with_sum(self.change_of_hops(hops));
            ip.checksum = change.applied(ip.checksum);
            ip.ttl = hops;
            ip.source = second(s1);
            ip.destination = second(d1);
        }
        *ports = first(last);
        Some(())
    }

    /// Bytes of its headers.
    #[inline(always)]
    pub(super) fn headers_len(&self, linear: Linear, network: u32) -> Option<u32> {
        let transport_len = if self.is_tcp {
            u32::from(linear.header::<Tcp>(network + Self::IP_LEN)?.offset >> 4) * 4
        } else {
            UDP_LEN
        };
        Some(Self::IP_LEN + transport_len)
    }

    /// Writes other hops, and an IPv4 header's checksum.
    #[inline(always)]
    pub(super) fn write_hops(&self, linear: Linear, network: u32, hops: u8) -> Option<()> {
        if V6 {
            linear.header::<Ipv6>(network)?.hop_limit = hops;
        } else {
            let ip = linear.header::<Ipv4>(network)?;
            ip.checksum = self.change_of_hops(hops).applied(ip.checksum);
            ip.ttl = hops;
        }
        Some(())
    }

    /// The receiver's address and port.
    #[inline(always)]
    pub(super) fn destination(&self) -> (Addr, Be16) {
        let [_, _, d0, d1, last] = self.key;
        let [_, port, _, _]: [Be16; 4] = bytemuck::must_cast(last);
        (if V6 { bytemuck::must_cast([d0, d1]) } else { Addr::from_v4(second(d1)) }, port)
    }

    /// What other addresses add to a checksum.
    #[inline(always)]
    pub(super) fn change_of_addresses(&self, to: &FlowWords) -> Sum {
        let ([s0, s1, d0, d1, _], [t0, t1, u0, u1, _]) = (self.key, *to);
        if V6 {
            let sum = replacing(replacing(Sum::ZERO, s0, t0), s1, t1);
            return replacing(replacing(sum, d0, u0), d1, u1);
        }
        Sum::ZERO.replacing(second(s1), second(t1)).replacing(second(d1), second(u1))
    }

    /// Where the checksum behind the IP header is, and whether zero says that there is none.
    #[inline(always)]
    pub(super) fn checksum_at(&self, network: u32) -> (u32, bool) {
        let transport = network + Self::IP_LEN;
        let at = if self.is_tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
        (transport + at, !self.is_tcp)
    }

    /// What other ports add to a checksum.
    #[inline(always)]
    pub(super) fn change_of_ports(&self, to: &FlowWords) -> Sum {
        let ([.., old], [.., new]) = (self.key, *to);
        Sum::ZERO.replacing(first(old), first(new))
    }

    /// What another number of hops adds to a checksum.
    #[inline(always)]
    pub(super) fn change_of_hops(&self, hops: u8) -> Sum {
        let word = |hops| Be32 { bytes: if V6 { [0, hops, 0, 0] } else { [hops, 0, 0, 0] } };
        Sum::ZERO.replacing(word(self.hops), word(hops))
    }

    /// The checksum of a segment or datagram.
    #[inline(always)]
    fn checksum<'a>(&self, linear: Linear, network: u32) -> Option<&'a mut Be16> {
        let (at, _) = self.checksum_at(network);
        linear.header(at)
    }
}

/// Length, hops, protocol and ends of an IPv4 packet that is no fragment.
#[inline(always)]
fn ipv4(linear: Linear, network: u32) -> Option<(u32, u8, Protocol, [u64; 4])> {
    let ip = linear.header::<Ipv4>(network)?;
    if ip.version != 0x45 || ip.fragment.to_host() & MORE_OR_OFFSET != 0 {
        return None;
    }
    let address = |low: Be32| bytemuck::must_cast([Be32::from_host(V4_PREFIX), low]);
    let ends = [0, address(ip.source), 0, address(ip.destination)];
    Some((ip.total_len.to_host().into(), ip.ttl, ip.protocol, ends))
}

/// The same of an IPv6 packet.
#[inline(always)]
fn ipv6(linear: Linear, network: u32) -> Option<(u32, u8, Protocol, [u64; 4])> {
    let ends = *linear.header::<[u64; 4]>(network + IPV6_SOURCE)?;
    let ip = linear.header::<Ipv6>(network)?;
    let is_mapped = ends[0] == 0 && first(ends[1]).to_host() == V4_PREFIX;
    if ip.version.bytes[0] >> 4 != 6 || ip.payload_len.to_wire() == 0 || is_mapped {
        return None;
    }
    let whole = u32::from(ip.payload_len.to_host()) + IPV6_LEN;
    Some((whole, ip.hop_limit, ip.next, ends))
}

/// The first half of a word, as memory has it.
#[inline(always)]
fn first(word: u64) -> Be32 {
    let [first, _] = bytemuck::must_cast(word);
    first
}

/// The second half.
#[inline(always)]
fn second(word: u64) -> Be32 {
    let [_, second] = bytemuck::must_cast(word);
    second
}

/// With what another word in the place of this one adds.
#[inline(always)]
fn replacing(sum: Sum, old: u64, new: u64) -> Sum {
    sum.replacing(first(old), first(new)).replacing(second(old), second(new))
}

const IPV6_SOURCE: u32 = 8;
const TCP_CHECKSUM: u32 = 16;
const UDP_CHECKSUM: u32 = 6;
/// What stands before an IPv4 address in [`Addr`].
const V4_PREFIX: u32 = 0xffff;
