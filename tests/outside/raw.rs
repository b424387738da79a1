// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets that are made by hand, and raw sockets for them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    time::Duration,
};

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, PacketBuilder, PacketBuilderStep,
    TcpHeader,
};
use lab::wire::Family;
use nix::sys::socket::{SockaddrStorage, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

/// A raw socket of the namespace that the calling thread is in.
pub(crate) struct Raw {
    socket: Socket,
    family: Family,
}

impl Raw {
    /// For whole packets, IP headers included (`IPPROTO_RAW` in raw(7)).
    pub(crate) fn sender(family: Family) -> Self {
        Self::of(IpNumber(255), family)
    }

    /// Gets and sends what is above IP, of one protocol.
    pub(crate) fn of(protocol: IpNumber, family: Family) -> Self {
        let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
        let protocol = Protocol::from(i32::from(protocol.0));
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, family }
    }

    /// Sends one packet.
    pub(crate) fn send(&self, packet: &[u8], to: IpAddr) {
        let sent = self.socket.send_to(packet, &SocketAddr::new(to, 0).into()).unwrap();
        assert_eq!(sent, packet.len());
    }

    /// The next packet above IP, and who sent it.
    ///
    /// # Errors
    /// When none comes within two seconds.
    pub(crate) fn receive(&self) -> io::Result<(IpAddr, Vec<u8>)> {
        let mut buffer = vec![0; 1 << 16];
        let (len, from) = recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), &mut buffer)?;
        buffer.truncate(len);
        let from = from.unwrap();
        let v4 = from.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
        let from = v4.unwrap_or_else(|| from.as_sockaddr_in6().unwrap().ip().into());
        if self.family == Family::V4 {
            // With its header, and no IPv6 packet has one here (raw(7)).
            buffer.drain(..usize::from(buffer[0] & 0xf) * 4);
        }
        Ok((from, buffer))
    }
}

/// A datagram with its IP header.
pub(crate) fn datagram(from: SocketAddr, to: SocketAddr, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let ports = (from.port(), to.port());
    ip(from, to, hops).udp(ports.0, ports.1).write_to_vec(&mut packet, payload).unwrap();
    packet
}

/// What opens a connection, with its IP header.
pub(crate) fn syn(from: SocketAddr, to: SocketAddr, hops: u8, sequence: u32) -> Vec<u8> {
    let mut header = TcpHeader::new(from.port(), to.port(), sequence, 64_000);
    header.syn = true;
    let mut packet = Vec::new();
    ip(from, to, hops).tcp_header(header).write_to_vec(&mut packet, &[]).unwrap();
    packet
}

fn ip(from: SocketAddr, to: SocketAddr, hops: u8) -> PacketBuilderStep<etherparse::IpHeaders> {
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ip(etherparse::IpHeaders::Ipv4(
            Ipv4Header::new(0, hops, IpNumber(0), from.octets(), to.octets()).unwrap(),
            etherparse::Ipv4Extensions::default(),
        )),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = etherparse::Ipv6Header {
                hop_limit: hops,
                source: from.octets(),
                destination: to.octets(),
                ..etherparse::Ipv6Header::default()
            };
            PacketBuilder::ip(etherparse::IpHeaders::Ipv6(
                header,
                etherparse::Ipv6Extensions::default(),
            ))
        }
        mixed => panic!("{mixed:?}"),
    }
}

/// A packet cut into pieces that links of 1500 bytes carry, the first one first.
pub(crate) fn pieces(packet: &[u8], id: u16) -> Vec<Vec<u8>> {
    let is_v6 = packet[0] >> 4 == 6;
    let head_len = if is_v6 { 40 } else { 20 };
    let payload = &packet[head_len..];
    let last = payload.chunks(PIECE).count() - 1;
    let piece = |(number, part): (usize, &[u8])| {
        let offset = IpFragOffset::try_new(u16::try_from(number * PIECE / 8).unwrap()).unwrap();
        let more = number != last;
        let head = if is_v6 {
            let fragment = Ipv6FragmentHeader::new(IpNumber(packet[6]), offset, more, id.into());
            let mut base = packet[..head_len].to_vec();
            base[4..6].copy_from_slice(&u16::try_from(part.len() + 8).unwrap().to_be_bytes());
            base[6] = IpNumber::IPV6_FRAGMENTATION_HEADER.0;
            [base, fragment.to_bytes().to_vec()].concat()
        } else {
            let (mut header, _) = Ipv4Header::from_slice(packet).unwrap();
            header.set_payload_len(part.len()).unwrap();
            header.identification = id;
            header.dont_fragment = false;
            header.more_fragments = more;
            header.fragment_offset = offset;
            header.header_checksum = header.calc_header_checksum();
            header.to_bytes().to_vec()
        };
        [&head, part].concat()
    };
    payload.chunks(PIECE).enumerate().map(piece).collect()
}

/// Bytes without a pattern, others for each seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes of a piece above its headers: what fits, in units of eight.
const PIECE: usize = 1448;
/// Longest wait for a packet.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
