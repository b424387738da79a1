// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A host firewall with conntrack, on the node that translates.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use etherparse::TcpHeader;
use lab::{
    http, need_lab,
    node::Node,
    place::Place,
    sniff::{Said, Sniffer},
    wait,
    wire::{AskSpec, Echo, Family, HoldSpec, Kind},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::bed::{Bed, PROTOCOLS, Way};

/// Input and forward drop what no rule lets in, and what conntrack calls invalid. The firewall
/// sees a client and a pod of the node, in both directions, and never the frontend; what goes
/// on to another node it does not see at all. HCN-09: nor is a health check let in that no rule
/// of the operator's lets in.
#[test]
fn a_stateful_firewall_sees_clients_and_pods_of_its_node() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    let node = bed.node(1);
    nft(node, GUARD);
    let all = || Family::BOTH.into_iter().flat_map(|it| PROTOCOLS.map(|p| (p, it)));
    let to = |family| Way::NodePort.at(node, family);

    // No rule lets a client in to the node's own pods, and none is asked about the other's.
    bed.expose(&pods[..1], |_| {});
    all().for_each(|(protocol, family)| bed.is_silent(protocol, to(family)));
    assert!(dropped(node, "refused") >= 4, "the firewall has dropped them");
    bed.expose(&pods[2..3], |_| {});
    for (protocol, family) in all() {
        let echo = bed.ask(protocol, to(family)).unwrap();
        assert_eq!(echo.client.ip(), node.address(family));
    }

    nft(node, ALLOW);
    bed.expose(&pods[..3], |_| {});
    let holds = all().map(|(protocol, family)| {
        let ask = if protocol == "TCP" { AskSpec::tcp } else { AskSpec::udp };
        let spec = HoldSpec { ask: ask(to(family)), connections: 8, every_ms: 20 };
        bed.client.hold(spec).unwrap()
    });
    let holds: Vec<_> = holds.collect();
    let reports = || holds.iter().map(|hold| bed.client.hold_report(*hold).unwrap());
    wait::until(Duration::from_secs(10), "exchanges", || {
        reports().all(|report| report.exchanges > 200)
    })
    .unwrap();
    for report in holds.iter().map(|hold| bed.client.stop_hold(*hold).unwrap()) {
        assert!(report.breaks.is_empty(), "{report:?}");
    }
    assert_eq!(dropped(node, "invalid"), 0);
    health_checks_are_the_firewalls(&bed, node);
}

/// HCN-09: the agent opens the port and leaves the firewall as it is, and a rule for the port is
/// the operator's.
fn health_checks_are_the_firewalls(bed: &Bed, node: &Node) {
    let rules = || node.output("nft", ["-s", "list", "ruleset"]).unwrap();
    let before = rules();
    bed.expose(&bed.pods()[..1], |spec| {
        spec.external_traffic_policy = Some("Local".to_owned());
        spec.health_check_node_port = Some(HEALTH.into());
    });
    let health = |family| node.at(family, HEALTH);
    let own = |family| node.run(|| http::get(health(family), "/")).unwrap();
    let outside = |family| {
        let knock = || TcpStream::connect_timeout(&health(family), Duration::from_millis(300));
        bed.served.lab.client().run(knock).unwrap()
    };
    for family in Family::BOTH {
        wait::for_value(Duration::from_secs(5), "a health check", || own(family)).unwrap();
        let error = outside(family).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
    assert_eq!(rules(), before, "nothing is added to the firewall, nor taken away");
    nft(node, &format!("insert rule inet guard input tcp dport {HEALTH} accept"));
    for family in Family::BOTH {
        let _open = outside(family).unwrap();
    }
}

/// MSQ-07: a packet of a server that is far out of its connection's window, which conntrack
/// calls invalid and leaves untranslated, reaches the client with the frontend's address, and
/// breaks nothing. So for a pod of the node and for one of the other node.
#[test]
fn msq_07_a_servers_stray_packet_is_translated() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    bed.served.lab.nodes().iter().for_each(|node| nft(node, WATCH));
    for pod in [&pods[0], &pods[2]] {
        bed.expose(std::slice::from_ref(pod), |_| {});
        for family in Family::BOTH {
            let frontend = Way::NodePort.at(bed.node(1), family);
            let sniffer = Sniffer::start(bed.served.lab.client()).unwrap();
            let sock = bed.client.open(Kind::Tcp, family).unwrap();
            bed.client.connect(sock, frontend).unwrap();
            let exchange = || -> Echo {
                bed.client.send(sock, "are you there\n").unwrap();
                serde_json::from_str(&bed.client.recv_from(sock).unwrap().0).unwrap()
            };
            let seen_by_server = exchange().client;
            stray(pod, pod.at(family, 8080), seen_by_server).unwrap();
            assert_eq!(exchange().client, seen_by_server, "the connection goes on");
            bed.client.close(sock).unwrap();
            let seen = sniffer.finish().into_iter().filter_map(|packet| packet.said());
            let seen: Vec<Said> = seen.filter(|said| said.sequence == STRAY).collect();
            assert!(!seen.is_empty(), "it did not arrive from {}", pod.name);
            assert!(seen.iter().all(|said| said.from == frontend), "{seen:?}");
        }
    }
    let invalid: u64 = bed.served.lab.nodes().iter().map(|node| dropped(node, "invalid")).sum();
    assert!(invalid > 0, "conntrack is there and has called something invalid");
}

/// Sends a segment from a place with a sequence number that nobody expects.
fn stray(place: &Place, from: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
    let mut tcp = TcpHeader::new(from.port(), to.port(), STRAY, 1024);
    tcp.ack = true;
    tcp.acknowledgment_number = STRAY;
    let (domain, checksum) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            (Domain::IPV4, tcp.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[])?)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            (Domain::IPV6, tcp.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[])?)
        }
        _ => anyhow::bail!("{from} and {to} are of one family"),
    };
    tcp.checksum = checksum;
    let send = || -> io::Result<usize> {
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::TCP))?;
        socket.send_to(&tcp.to_bytes(), &SocketAddr::new(to.ip(), 0).into())
    };
    place.run(send)??;
    Ok(())
}

/// Has a node's netfilter take these lines.
fn nft(node: &Node, lines: &str) {
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        node.output("nft", [line.trim()]).unwrap();
    }
}

/// Packets that a named counter has seen.
fn dropped(node: &Node, counter: &str) -> u64 {
    let listed = node.output("nft", ["list", "counter", "inet", "guard", counter]).unwrap();
    let mut words = listed.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{listed}"))
}

/// What many hosts have: their own services, neighbours, and what belongs to something that was
/// let in.
const GUARD: &str = "
    add table inet guard
    add counter inet guard invalid
    add counter inet guard refused
    add chain inet guard input { type filter hook input priority filter; policy drop; }
    add chain inet guard forward { type filter hook forward priority filter; policy drop; }
    add rule inet guard input ct state invalid counter name invalid drop
    add rule inet guard input ct state established,related accept
    add rule inet guard input iif lo accept
    add rule inet guard input icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    add rule inet guard input counter name refused
    add rule inet guard forward ct state invalid counter name invalid drop
    add rule inet guard forward ct state established,related accept
    add rule inet guard forward icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    add rule inet guard forward counter name refused
";
/// Lets clients in to the node's pods, by the pods' own addresses and port.
const ALLOW: &str = "
    insert rule inet guard forward ip daddr 10.244.1.0/24 meta l4proto { tcp, udp } th dport 8080 accept
    insert rule inet guard forward ip6 daddr fd00:10:244:1::/64 meta l4proto { tcp, udp } th dport 8080 accept
";
/// Only counts what conntrack calls invalid.
const WATCH: &str = "
    add table inet guard
    add counter inet guard invalid
    add chain inet guard forward { type filter hook forward priority filter; }
    add rule inet guard forward ct state invalid counter name invalid
";
/// A health check's port.
const HEALTH: u16 = 30_081;
/// The sequence number of a segment that fits no window.
const STRAY: u32 = 0x5eed_0bad;
