// SPDX-License-Identifier: Apache-2.0 OR MIT
//! loadBalancerSourceRanges, for clients outside.

use std::time::{Duration, Instant};

use lab::{
    agent::Agent,
    need_lab, wait,
    wire::{AskSpec, Family, HoldSpec, LoadSpec},
};

use crate::bed::{Bed, PROTOCOLS, Way};

/// LB-06, LB-10, LB-12, NP-10, XIP-02: a client outside of the ranges gets no answer from a
/// VIP and is served by every other way; what is open goes on.
#[test]
fn lb_06_a_client_outside_of_the_ranges_gets_no_answer_from_a_vip() {
    need_lab!();
    keeps_to_ranges(&Bed::start());
}

/// Ranges with the client and then without, while connections are open.
pub(crate) fn keeps_to_ranges(bed: &Bed) {
    let pods = bed.pods();
    let client = bed.served.lab.client();
    let own = [format!("{}/32", client.v4), format!("{}/128", client.v6)];
    let mut web = bed.expose(&pods, |spec| {
        spec.load_balancer_source_ranges = Some(own.to_vec());
    });
    let vip = |family| Way::Vip.at(bed.node(1), family);
    for (family, protocol) in both() {
        bed.ask(protocol, vip(family)).unwrap();
    }
    let ask = AskSpec::tcp(vip(Family::V4));
    let hold = HoldSpec { ask, connections: 4, every_ms: 20 };
    let hold = bed.client.hold(hold).unwrap();
    let others = ["10.9.0.0/16".to_owned(), "2001:db8:9::/48".to_owned()];
    web.service.spec.as_mut().unwrap().load_balancer_source_ranges = Some(others.to_vec());
    bed.rewrite(&web);
    for (family, protocol) in both() {
        bed.is_silent(protocol, vip(family));
        for way in [Way::NodePort, Way::ExternalIp] {
            bed.ask(protocol, way.at(bed.node(1), family)).unwrap();
        }
    }
    assert!(bed.agent(1).counter("dropped_source_range").unwrap() >= 4);
    let report = bed.client.stop_hold(hold).unwrap();
    assert!(report.breaks.is_empty() && report.exchanges > 0, "{report:?}");
}

/// LB-06, LB-07, UPD-02: ten thousand ranges of both families, the client's own the last of them,
/// are followed by packets and sockets alike, and harm no other Service. An agent that has no room
/// for them says of which Service, what is lost and what to do; who found room is served, others
/// get no answer, and the other Service does not notice.
#[test]
fn lb_06_ten_thousand_ranges_are_followed_and_what_finds_no_room_is_told() {
    need_lab!();
    let mut bed = Bed::start();
    let pods = bed.pods();
    let limited = bed.served.spec().arg("--max-entries").arg("source-ranges=16384");
    bed.second.kill().unwrap();
    bed.second = Agent::start(bed.node(2), &limited).unwrap();
    let mut web = bed.expose(&pods, |_| {});
    bed.served.expose("other", 11, &pods).unwrap();
    let client = bed.served.lab.client();
    let own = [format!("{}/32", client.v4), format!("{}/128", client.v6)];
    let inside = [format!("{}/32", pods[1].v4), format!("{}/128", pods[1].v6)];
    let [admitted, kept_out] = [&pods[1], &pods[0]].map(|pod| pod.driver().unwrap());
    let other = |family| AskSpec::tcp(lab::served::vip(family, 11));
    let load = admitted.load(LoadSpec::paced(other(Family::V4), 100, 60_000)).unwrap();
    for (is_ours, ranges) in [(false, many(&[])), (true, many(&[own, inside].concat()))] {
        // Each family has its own.
        let count = ranges.len() / 2;
        web.service.spec.as_mut().unwrap().load_balancer_source_ranges = Some(ranges);
        web.write().unwrap();
        followed(&bed, count);
        for (family, protocol) in both() {
            let to = Way::Vip.at(bed.node(1), family);
            let mut ask = if protocol == "TCP" { AskSpec::tcp(to) } else { AskSpec::udp(to) };
            ask.socket.timeout_ms = 300;
            assert_eq!(bed.client.ask(ask.clone()).is_ok(), is_ours, "{protocol} {to}");
            assert_eq!(admitted.ask(ask.clone()).is_ok(), is_ours, "{protocol} {to} of a pod");
            kept_out.ask(ask).unwrap_err();
            bed.ask(protocol, Way::NodePort.at(bed.node(1), family)).unwrap();
        }
    }
    is_told(&bed);
    for family in Family::BOTH {
        pods[2].driver().unwrap().ask(other(family)).unwrap();
    }
    let shown = bed.agent(1).verb(&["show", "services"]).unwrap().stdout;
    assert!(shown.contains("(5002 ranges)"), "{shown}");
    assert!(shown.lines().all(|line| line.len() < 250), "{shown}");
    let load = admitted.stop_load(load).unwrap();
    assert!(load.failed == 0 && load.ok > 0, "{load:?}");
}

/// Waits until the first node has so many ranges for each family and port.
fn followed(bed: &Bed, count: usize) {
    let began = Instant::now();
    wait::for_value(LIMIT, "all ranges in the kernel", || {
        let rows = bed.agent(1).services()?;
        let mut guarded = rows.iter().filter(|row| row.kind == "LoadBalancer");
        anyhow::ensure!(guarded.all(|row| row.source_ranges.len() == count), "not yet");
        Ok(())
    })
    .unwrap();
    println!("{count} ranges of each family and port followed within {:?}", began.elapsed());
}

/// The second node says what found no room, a line a service port and not one a range.
fn is_told(bed: &Bed) {
    let told = || bed.agent(2).verb(&["show", "issues"]).unwrap().stdout;
    wait::until(LIMIT, "node-2 to say what found no room", || {
        let told = told();
        told.contains("Service default/web") && told.contains("raise --max-entries source-ranges")
    })
    .unwrap();
    let told = told();
    assert!(told.contains("get no answer") && !told.contains("default/other"), "{told}");
    assert!(told.lines().count() < 8, "{told}");
}

/// Ten thousand ranges of both families that nobody in the lab is in, and these.
fn many(more: &[String]) -> Vec<String> {
    let four =
        (0..5000_u32).map(|number| format!("172.{}.{}.0/24", 16 + number / 250, number % 250));
    let six = (0..5000_u32).map(|number| format!("2001:db8:a:{number:x}::/64"));
    four.chain(six).chain(more.iter().cloned()).collect()
}

fn both() -> impl Iterator<Item = (Family, &'static str)> {
    Family::BOTH.into_iter().flat_map(|family| PROTOCOLS.map(|protocol| (family, protocol)))
}

/// How long an agent may take to follow.
const LIMIT: Duration = Duration::from_secs(20);
