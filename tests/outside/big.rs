// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams that links carry in pieces, compared byte by byte.

use std::{
    net::{SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use lab::{netns::Netns, pod::Pod};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    raw::{self, Raw},
    road::{DATAGRAMS, Road, is_local},
};

/// Where a datagram goes: an open socket, and what makes pieces for it by hand.
struct Way<'a> {
    socket: &'a UdpSocket,
    raw: Raw,
    from: SocketAddr,
    to: SocketAddr,
    other: &'a UdpSocket,
}

/// A datagram of 9000 bytes and its answer, cut by the kernel; then both with their pieces in
/// the reverse order, the one with the ports last.
pub(crate) fn datagrams_come_whole(road: &Road, pod: &Pod) {
    let client = road.bed.served.lab.client();
    for node in [1, 2] {
        take_in_elsewhere(&road.bed.node(node).netns);
    }
    for (number, (family, to)) in (0..).zip(road.entries()) {
        let own = client.at(family, 47_000 + number);
        let socket = client.run(|| UdpSocket::bind(own)).unwrap().unwrap();
        let served = pod.run(|| UdpSocket::bind(pod.at(family, DATAGRAMS))).unwrap().unwrap();
        let by_client = client.run(|| Raw::sender(family)).unwrap();
        let by_pod = pod.run(|| Raw::sender(family)).unwrap();
        let there = Way { socket: &socket, raw: by_client, from: own, to, other: &served };
        let seen = there.carries_whole();
        assert_eq!(seen.ip(), road.seen_by(pod, family), "{} by {to}", pod.name);
        let from = pod.at(family, DATAGRAMS);
        let back = Way { socket: &served, raw: by_pod, from, to: seen, other: &socket };
        assert_eq!(back.carries_whole(), to);
        assert_eq!(there.carries_reversed(), seen);
        // Pieces of a local pod's answer leave in the order that the pod's kernel cut them.
        if !is_local(pod) {
            assert_eq!(back.carries_reversed(), to);
        }
    }
}

impl Way<'_> {
    /// Cut by the kernel: the sender that the other end saw.
    fn carries_whole(&self) -> SocketAddr {
        let payload = raw::noise(u64::from(self.to.port()), LARGE);
        self.socket.send_to(&payload, self.to).unwrap();
        let arrived = self.arrives(&payload, raw::PATIENCE);
        arrived.unwrap_or_else(|| panic!("no datagram of {} came to {}", self.from, self.to))
    }

    /// The last piece first. Who sends may be kept from sending the others in time by another
    /// process, and then the datagram is lost as on any wire: so there are several attempts.
    fn carries_reversed(&self) -> SocketAddr {
        let attempt = |number: u16| {
            let payload = raw::noise(number.into(), LARGE);
            let packet = raw::datagram(self.from, self.to, 64, &payload);
            let pieces = raw::pieces(&packet, 7000 + number);
            thread::scope(|scope| {
                scope.spawn(|| {
                    stay_on(SENDING);
                    pieces.iter().rev().for_each(|piece| self.raw.send(piece, self.to.ip()));
                });
            });
            self.arrives(&payload, BRIEF)
        };
        let seen = (0..ATTEMPTS).find_map(attempt);
        seen.unwrap_or_else(|| panic!("{} to {}: no datagram arrived", self.from, self.to))
    }

    /// What the other end gets is what was sent; none: it gets nothing in time.
    fn arrives(&self, payload: &[u8], limit: Duration) -> Option<SocketAddr> {
        self.other.set_read_timeout(Some(limit)).unwrap();
        let mut got = vec![0; 1 << 16];
        let (len, from) = self.other.recv_from(&mut got).ok()?;
        assert!(got[..len] == *payload, "{len} other bytes came to {}", self.to);
        Some(from)
    }
}

/// Has a node take in packets on another CPU than [`SENDING`]. Where a veth device's packets are
/// taken in by who sends them, an early piece would wait for a sender that waits for it.
fn take_in_elsewhere(netns: &Netns) {
    let line = format!("echo {:x} > /sys/class/net/eth0/queues/rx-0/rps_cpus", 1 << (SENDING + 1));
    let mut command = Command::new("ip");
    let command = command.args(["netns", "exec", netns.name(), "sh", "-c", &line]);
    assert!(command.status().unwrap().success());
}

/// Keeps the calling thread on one CPU.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Bytes of a datagram: seven pieces on links of 1500.
const LARGE: usize = 9000;
/// The CPU that sends.
const SENDING: usize = 0;
const ATTEMPTS: u16 = 50;
/// Time for a datagram whose pieces are on their way.
const BRIEF: Duration = Duration::from_millis(100);
