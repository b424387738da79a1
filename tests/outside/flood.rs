// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A flood of half-open flows: those that are open go on, and new ones are served again soon.

use std::{
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    thread,
    time::{Duration, Instant},
};

use lab::{
    need_lab,
    place::Place,
    wait,
    wire::{AskSpec, Family, HoldSpec},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::bed::{Bed, Way};

/// A million SYNs from as many addresses, to a table of 32 768 flows: connections that were
/// open before lose nothing, what has no room is counted and told of, and a new connection is
/// served within 5 s of the last SYN.
#[test]
fn a_flood_of_half_open_flows_breaks_nothing_and_is_over_when_it_ends() {
    need_lab!();
    let bed = Bed::with(|spec| spec.arg("--max-flows").arg("32768"));
    let pods = bed.pods();
    bed.expose(&pods, |_| {});
    let (vip, node_port) =
        (Way::Vip.at(bed.node(1), Family::V4), Way::NodePort.at(bed.node(1), Family::V4));
    let hold = HoldSpec { ask: AskSpec::tcp(vip), connections: 16, every_ms: 20 };
    let hold = bed.client.hold(hold).unwrap();
    let exchanges = || bed.client.hold_report(hold).unwrap().exchanges;
    wait::until(LIMIT, "16 connections", || exchanges() >= 160).unwrap();
    let calm = rate(exchanges, || thread::sleep(Duration::from_secs(2)));
    let SocketAddr::V4(to) = vip else { unreachable!("an address of IPv4") };
    let client: &Place = bed.served.lab.client();
    let mut took = Duration::ZERO;
    let flooded = rate(exchanges, || {
        let began = Instant::now();
        client.run(|| flood(to, SYNS)).unwrap();
        took = began.elapsed();
    });
    let ended = Instant::now();
    let refused = wait::for_value(Duration::from_secs(5), "a new connection", || {
        let mut ask = AskSpec::tcp(node_port);
        ask.socket.timeout_ms = 500;
        let answer = bed.client.ask(ask);
        anyhow::ensure!(answer.is_ok(), "{answer:?}");
        counted(&bed, "dropped_flows_full")
    })
    .unwrap();
    let again = ended.elapsed();
    println!(
        "{SYNS} SYNs in {took:.1?}: {refused} found no room; a new connection {again:.1?} after \
         the last; exchanges a second on open ones {calm} before, {flooded} meanwhile"
    );
    assert!(refused > f64::from(SYNS) / 10.0, "{refused} found no room");
    // Paced, so that what is lost shows; a machine whose processors are busy slows it.
    assert!(flooded > calm / 2, "{calm} {flooded}");
    shows_who_opens_them(&bed);
    let report = bed.client.stop_hold(hold).unwrap();
    assert!(report.breaks.is_empty() && report.pods.values().sum::<u64>() == 16, "{report:?}");
    bed.ask("UDP", vip).unwrap();
    let log = bed.agent(1).log();
    assert!(log.contains("no room for more than 32768 flows"), "{log}");
    wait::until(Duration::from_secs(30), "the issue to go", || {
        let issues = bed.agent(1).verb(&["show", "issues"]).unwrap().stdout;
        !issues.contains("flows of clients outside")
    })
    .unwrap();
}

/// `show flows` counts them, and narrows them down.
fn shows_who_opens_them(bed: &Bed) {
    let shown = |words: &[&str]| {
        let words = [&["show", "flows"], words].concat();
        bed.agent(1).verb(&words).unwrap().stdout
    };
    let totals = shown(&["--totals", "--service", "default/web"]);
    assert!(totals.contains("syn-") && totals.contains("established"), "{totals}");
    let few = shown(&["--client", "198.18.0.0/15", "--limit", "7"]);
    assert_eq!(few.lines().count(), 8, "{few}");
    let own = shown(&["--client", &bed.served.lab.client().v4.to_string(), "-o", "json"]);
    assert!(own.lines().count() >= 16 && !own.contains("198.18."), "{own}");
}

/// How often a second a count goes up while something goes on.
fn rate(count: impl Fn() -> u64, meanwhile: impl FnOnce()) -> u64 {
    let (before, began) = (count(), Instant::now());
    meanwhile();
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap();
    (count() - before) * 1000 / millis
}

/// How often the programs of node-1 left by an exit.
fn counted(bed: &Bed, reason: &str) -> anyhow::Result<f64> {
    bed.agent(1).metric(&format!("sluice_decisions_total{{reason=\"{reason}\"}}"))
}

/// Sends SYNs, each from another address of 198.18.0.0/15 (RFC 2544) or port.
fn flood(to: SocketAddrV4, count: u32) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
    socket.set_header_included_v4(true).unwrap();
    let address = SocketAddr::V4(to).into();
    for number in 0..count {
        let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) | (number & 0x1_ffff));
        let port = 1024 + (number >> 17) as u16 * 1000 + (number % 997) as u16;
        let packet = syn(SocketAddrV4::new(from, port), to);
        // A full queue is the kernel's business.
        let _sent = socket.send_to(&packet, &address);
    }
    // What is still on its way here, as resets may be, is nobody's.
    let mut rest = [MaybeUninit::uninit(); 64];
    socket.set_nonblocking(true).unwrap();
    let _none = socket.recv(&mut rest);
}

/// A SYN with both checksums (the kernel fills in the IP header's).
fn syn(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 40] {
    let builder = etherparse::PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64)
        .tcp(from.port(), to.port(), 1, 64_240)
        .syn();
    let mut packet = Vec::with_capacity(40);
    builder.write_to_vec(&mut packet, &[]).unwrap();
    packet.try_into().unwrap()
}

const SYNS: u32 = 1_000_000;
const LIMIT: Duration = Duration::from_secs(20);
