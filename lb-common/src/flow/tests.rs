// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two halves of a flow, and its phases.

use core::net::Ipv4Addr;
use std::vec::Vec;

use super::*;

extern crate std;

const TCP: Protocol = Protocol::TCP;
const CLIENT: u8 = 0;
const BACKEND: u8 = 1;

fn end(last: u8, port: u16) -> (Addr, Be16) {
    (Ipv4Addr::new(192, 0, 2, last).into(), Be16::from_host(port))
}

/// A remote backend's flow: client 1 → frontend 2 leaves as node 3 → backend 4.
fn forward() -> (FlowKey, FlowEntry) {
    let key = FlowKey::new(end(1, 5000), end(2, 80), TCP);
    let to = FlowKey::new(end(3, 6000), end(4, 8080), TCP);
    let entry = FlowEntry { to, backend: 7, generation: 3, service_id: 9, ..FlowEntry::default() };
    (key, entry)
}

#[test]
fn either_half_is_made_from_the_other() {
    let (key, entry) = forward();
    let (other_key, other) = (entry.other_key(), entry.other(&key));
    assert_eq!(other_key, FlowKey::new(end(4, 8080), end(3, 6000), TCP));
    assert_eq!(other.to, FlowKey::new(end(2, 80), end(1, 5000), TCP));
    assert!(other.flags().contains(FlowFlags::REPLY));
    assert_eq!((other.backend, other.generation, other.service_id), (7, 3, 9));
    assert_eq!((other.other_key(), other.other(&other_key)), (key, entry));
}

/// Segments in their order, by who sends them; the phase after each.
fn phases(segments: &[(u8, TcpFlags)]) -> Vec<Phase> {
    let mut seen = [Seen::empty(); 2];
    let phase = |&(sender, flags): &(u8, TcpFlags)| {
        let half = &mut seen[usize::from(sender)];
        *half = half.with(TCP, flags);
        Phase::of(TCP, seen[0], seen[1])
    };
    segments.iter().map(phase).collect()
}

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const SYN_ACK: TcpFlags = TcpFlags::SYN.union(TcpFlags::ACK);
const FIN_ACK: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);
const RST: TcpFlags = TcpFlags::RST;

#[test]
fn a_connection_goes_through_its_phases() {
    let segments = [
        (CLIENT, SYN),
        (CLIENT, SYN),
        (BACKEND, SYN_ACK),
        (CLIENT, ACK),
        (BACKEND, ACK),
        (CLIENT, FIN_ACK),
        (BACKEND, ACK),
        (BACKEND, FIN_ACK),
        (CLIENT, ACK),
    ];
    let expected = [
        Phase::SynSent,
        Phase::SynSent,
        Phase::SynReceived,
        Phase::Established,
        Phase::Established,
        Phase::HalfClosed,
        Phase::HalfClosed,
        Phase::TimeWait,
        Phase::TimeWait,
    ];
    assert_eq!(phases(&segments), expected);
}

#[test]
fn a_reset_closes_unless_its_sender_goes_on() {
    let open = [(CLIENT, SYN), (BACKEND, SYN_ACK), (CLIENT, ACK)];
    let with = |more: &[(u8, TcpFlags)]| phases(&[&open, more].concat()).pop().unwrap();
    assert_eq!(with(&[(BACKEND, RST)]), Phase::Closed);
    assert_eq!(with(&[(BACKEND, RST), (CLIENT, ACK)]), Phase::Closed);
    assert_eq!(with(&[(BACKEND, RST), (BACKEND, ACK)]), Phase::Established, "it was forged");
    assert_eq!(phases(&[(CLIENT, SYN), (BACKEND, RST)]).pop(), Some(Phase::Closed));
}

#[test]
fn a_datagram_flow_lives_longer_once_it_is_answered() {
    let one = Seen::empty().with(Protocol::UDP, TcpFlags::empty());
    assert_eq!(Phase::of(Protocol::UDP, one, Seen::empty()), Phase::Unreplied);
    assert_eq!(Phase::of(Protocol::UDP, one, one), Phase::Replied);
    assert!(Phase::Unreplied.timeout_secs() < Phase::Replied.timeout_secs());
}

#[test]
fn a_flow_is_over_after_its_time_out_and_not_before() {
    for phase in Phase::ALL {
        let timeout = u64::from(phase.timeout_secs()) * 1_000_000_000;
        assert!(!phase.is_over(1000, 1000 + timeout), "{}", phase.name());
        assert!(phase.is_over(1000, 1001 + timeout), "{}", phase.name());
        assert!(!phase.is_over(1000, 0), "the clocks of two CPUs");
    }
}

#[test]
fn only_a_bare_syn_opens() {
    assert!(SYN.opens());
    assert!((SYN | TcpFlags::from_bits_retain(0xc0)).opens(), "ECN is asked for (RFC 3168)");
    for flags in [SYN_ACK, ACK, RST, FIN_ACK, SYN | RST, SYN | TcpFlags::FIN, TcpFlags::empty()] {
        assert!(!flags.opens(), "{flags:?}");
    }
}

/// RFC 9260 5.1 and 9.2: the first chunk of each packet.
#[test]
fn an_association_goes_through_its_phases() {
    let chunks = [
        (CLIENT, 1, Phase::CookieWait),
        (BACKEND, 2, Phase::CookieWait),
        (CLIENT, 10, Phase::CookieEchoed),
        (BACKEND, 11, Phase::Associated),
        (CLIENT, 0, Phase::Associated),
        (BACKEND, 3, Phase::Associated),
        (CLIENT, 7, Phase::ShuttingDown),
        (BACKEND, 8, Phase::ShuttingDown),
        (CLIENT, 14, Phase::ShuttingDown),
        (CLIENT, 6, Phase::Closed),
    ];
    let mut seen = [Seen::empty(); 2];
    for (sender, chunk, phase) in chunks {
        let half = &mut seen[usize::from(sender)];
        *half = half.with(Protocol::SCTP, TcpFlags::of_chunk(chunk));
        assert_eq!(Phase::of(Protocol::SCTP, seen[0], seen[1]), phase, "after chunk {chunk}");
    }
    assert!(TcpFlags::of_chunk(1).opens());
    assert!((2..=14).all(|chunk| !TcpFlags::of_chunk(chunk).opens()));
}
