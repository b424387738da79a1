// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small datagrams of many flows, as fast as one processor can send them.

use std::{
    io::IoSlice,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

use super::Outcome;

/// Sends for a time, each datagram from the next port in turn. The headers are made here, so
/// that the sender's own stack has little to do.
pub(super) fn flood(from: Ipv4Addr, to: SocketAddrV4, ports: u16, for_ms: u64) -> Result<Outcome> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.connect(&to.into())?;
    let packets: Vec<_> = (0..ports).map(|port| packet(from, FIRST_PORT + port, to)).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let slices: Vec<_> = packets.iter().map(|packet| [IoSlice::new(packet)]).collect();
    let addresses = [None; BATCH];
    let (started, limit) = (Instant::now(), Duration::from_millis(for_ms));
    let mut sent = 0_u32;
    while started.elapsed() < limit {
        for batch in slices.chunks_exact(BATCH) {
            let results =
                sendmmsg(socket.as_raw_fd(), &mut headers, batch, addresses, [], MsgFlags::empty());
            sent += u32::try_from(results.context("sendmmsg")?.count())?;
        }
    }
    Ok(Outcome::Sent { packets: sent.into(), ns: started.elapsed().as_secs_f64() * 1e9 })
}

/// An IPv4 header, whose length, identification and checksum the kernel fills in, and a UDP
/// datagram of 18 bytes: the smallest Ethernet frame.
fn packet(from: Ipv4Addr, port: u16, to: SocketAddrV4) -> Vec<u8> {
    let mut udp = Vec::new();
    let length = 8 + PAYLOAD;
    for word in [port, to.port(), length, 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.resize(usize::from(length), 0x5a);
    let pseudo = [&from.octets()[..], &to.ip().octets(), &[0, 17], &length.to_be_bytes(), &udp];
    if let Some(field) = udp.get(6..8).map(|_| checksum(&pseudo.concat())) {
        udp.splice(6..8, field.to_be_bytes());
    }
    let head = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    [&head[..], &from.octets(), &to.ip().octets(), &udp].concat()
}

/// The internet checksum of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks_exact(2) {
        if let [high, low] = pair {
            sum += u32::from(u16::from_be_bytes([*high, *low]));
        }
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (folded + (folded >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

/// A raw socket that brings its own IP header (raw(7)).
const IPPROTO_RAW: i32 = 255;
/// First source port: none that a socket of the sender has.
const FIRST_PORT: u16 = 20_000;
/// Datagrams of one system call.
const BATCH: usize = 50;
/// Bytes after the UDP header.
const PAYLOAD: u16 = 18;
/// Bytes that may be under way.
const BUFFER: usize = 4 << 20;
