// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets at the end of their hops, as traceroute sends them.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, checksum::Sum16BitWords};
use lab::{address, pod::Pod, wire::Family};

use crate::{
    raw::{self, Raw},
    road::{DATAGRAMS, Road, is_local},
};

/// Each hop answers the client, about what the client sent: the router, the node, the other
/// node if the pod is there. Nodes answer as the frontend. With one hop more the pod is reached.
pub(crate) fn hops_are_told(road: &Road, pod: &Pod) {
    let client = road.bed.served.lab.client();
    let unlimited = &[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")];
    road.router().set_sysctls(unlimited).unwrap();
    for number in [1, 2] {
        road.bed.node(number).netns.set_sysctls(unlimited).unwrap();
    }
    let last = if is_local(pod) { 2 } else { 3 };
    for (number, (family, to)) in (0..).zip(road.entries()) {
        let sender = client.run(|| Raw::sender(family)).unwrap();
        let protocol = if family == Family::V4 { IpNumber::ICMP } else { IpNumber::IPV6_ICMP };
        let errors = client.run(|| Raw::of(protocol, family)).unwrap();
        let router: IpAddr = match family {
            Family::V4 => address::GATEWAY.0.into(),
            Family::V6 => address::GATEWAY.1.into(),
        };
        for hops in 1..=last {
            let from = client.at(family, 49_000 + 16 * number + u16::from(hops));
            let probes =
                [raw::datagram(from, to, hops, b"how far"), raw::syn(from, to, hops, 0xdead_0001)];
            for probe in probes {
                sender.send(&probe, to.ip());
                let reporter = expired(&errors, &probe);
                let expected = if hops == 1 { router } else { to.ip() };
                assert_eq!(reporter, expected, "hop {hops} towards {to} for {}", pod.name);
            }
        }
        let served = pod.run(|| UdpSocket::bind(pod.at(family, DATAGRAMS))).unwrap().unwrap();
        served.set_read_timeout(Some(raw::PATIENCE)).unwrap();
        let from = client.at(family, 49_000 + 16 * number);
        sender.send(&raw::datagram(from, to, last + 1, b"so far"), to.ip());
        let (len, _): (usize, SocketAddr) = served.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(len, 6);
    }
}

/// Who says that a packet was at the end of its hops. What is quoted must be what was sent,
/// but for the hops.
fn expired(errors: &Raw, sent: &[u8]) -> IpAddr {
    let is_v6 = sent[0] >> 4 == 6;
    let kind = if is_v6 { 3 } else { 11 };
    let (reporter, error) = loop {
        let (from, error) = errors.receive().expect("an error comes back");
        // Neighbours are asked for by ICMPv6 too.
        if error[..2] == [kind, 0] {
            break (from, error);
        }
    };
    if !is_v6 {
        // That of ICMPv6 was checked by the kernel (raw(7)).
        let sum = Sum16BitWords::new().add_slice(&error).ones_complement();
        assert_eq!(sum, 0, "the error's checksum is wrong");
    }
    let quoted = &error[8..];
    let (quotation, original) = if is_v6 {
        let (quoted, quotation) = Ipv6Header::from_slice(quoted).unwrap();
        let (own, original) = Ipv6Header::from_slice(sent).unwrap();
        assert_eq!(Ipv6Header { hop_limit: own.hop_limit, ..quoted }, own);
        (quotation, original)
    } else {
        let (quoted, quotation) = Ipv4Header::from_slice(quoted).unwrap();
        let (own, original) = Ipv4Header::from_slice(sent).unwrap();
        assert_eq!(quoted.header_checksum, quoted.calc_header_checksum());
        assert_eq!((quoted.source, quoted.destination), (own.source, own.destination));
        assert_eq!((quoted.protocol, quoted.total_len), (own.protocol, own.total_len));
        (quotation, original)
    };
    // Ports, length and checksum, or the sequence number (RFC 792).
    assert!(quotation.len() >= 8 && original.starts_with(quotation), "{quotation:x?}");
    reporter
}
