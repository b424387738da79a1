// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What passes the interfaces of a place, as tcpdump would see it.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::socket::{
        AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
        sockopt::RcvBuf,
    },
};

use crate::place::Place;

/// One packet at one interface. A tag, and what an offload has still to do, are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The interface.
    pub device: String,
    /// Whether it came in; else it left.
    pub came_in: bool,
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
}

/// What a packet says of itself: plain TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// TCP: the sequence number.
    pub sequence: u32,
    /// TCP: the flags, FIN in the lowest bit.
    pub flags: u8,
}

/// A packet socket on all interfaces of a place. Dropping it ends it.
#[derive(Debug)]
pub struct Sniffer {
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<Vec<Sighting>>>,
}

impl Sniffer {
    /// Begins to listen.
    pub fn start(place: &Place) -> Result<Self> {
        let open = || -> Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let every = SockProtocol::EthAll;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, every)?;
            setsockopt(&socket, RcvBuf, &BUFFER)?;
            Ok(socket)
        };
        let socket = place.run(open)?.context("opening a packet socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (place, ended) = (place.clone(), Arc::clone(&stop));
        let reader = thread::spawn(move || {
            // The names of interfaces are the namespace's.
            let listened = place.run(|| listen(&socket, &ended));
            listened.unwrap_or_default()
        });
        Ok(Self { stop, reader: Some(reader) })
    }

    /// Ends it: everything that was seen, loopback left out.
    pub fn finish(mut self) -> Vec<Sighting> {
        self.stop.store(true, Ordering::Relaxed);
        self.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Sighting {
    /// What the packet says of itself; none where it is neither TCP nor UDP, or has IPv6
    /// extension headers.
    pub fn said(&self) -> Option<Said> {
        let word = |bytes: &[u8], at| Some(u16::from_be_bytes(array(bytes, at)?));
        let frame = &self.frame[..];
        let packet = frame.get(14..)?;
        let (from, to, number, rest): (IpAddr, IpAddr, u8, &[u8]) = match word(frame, 12)? {
            0x0800 => {
                let length = usize::from(packet.first()? & 0xf) * 4;
                let (from, to) = (array::<4>(packet, 12)?, array::<4>(packet, 16)?);
                (from.into(), to.into(), *packet.get(9)?, packet.get(length..)?)
            }
            0x86dd => {
                let (from, to) = (array::<16>(packet, 8)?, array::<16>(packet, 24)?);
                (from.into(), to.into(), *packet.get(6)?, packet.get(40..)?)
            }
            _ => return None,
        };
        let (protocol, sequence, flags) = match number {
            6 => ("TCP", u32::from_be_bytes(array(rest, 4)?), *rest.get(13)?),
            17 => ("UDP", 0, 0),
            _ => return None,
        };
        let (from, to) = ((from, word(rest, 0)?).into(), (to, word(rest, 2)?).into());
        Some(Said { protocol, from, to, sequence, flags })
    }
}

/// Reads until it is told to stop, and then what is left.
fn listen(socket: &OwnedFd, stop: &AtomicBool) -> Vec<Sighting> {
    let mut seen = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let any = poll(&mut ready, POLL_MS).is_ok_and(|count| count > 0);
        if !any && stopping {
            return seen;
        }
        while let Some(sighting) = next(socket, &mut buffer) {
            seen.extend((sighting.device != "lo").then_some(sighting));
        }
    }
}

/// The next packet that waits.
fn next(socket: &OwnedFd, buffer: &mut [u8]) -> Option<Sighting> {
    let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), buffer).ok()?;
    let from = from?;
    let device = nix::net::if_::if_indextoname(u32::try_from(from.ifindex()).ok()?).ok();
    Some(Sighting {
        device: device.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        came_in: from.pkttype() != PACKET_OUTGOING,
        frame: buffer.get(..length)?.to_vec(),
    })
}

/// So many bytes from a place on.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// `sll_pkttype` of what this machine sends (packet(7)).
const PACKET_OUTGOING: u8 = 4;
/// Bytes that may wait to be read.
const BUFFER: usize = 8 << 20;
/// Bytes of the longest packet: a segment that an offload will cut.
const LONGEST: usize = 1 << 17;
/// Time between two looks at whether to stop, milliseconds.
const POLL_MS: u16 = 20;
