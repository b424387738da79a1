// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The API server is gone for a while.

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    agent::{Agent, AgentSpec},
    cluster::User,
    need_lab,
    objects::{self, Backing},
    wire::{AskSpec, Family, HoldSpec, LoadReport, LoadSpec},
};

use crate::fixture::{Watched, await_alive, await_log, service, vip};

/// SYN-01, SYN-03: what is known is served on, also by an agent that starts in the middle of
/// it; afterwards changes are followed again.
#[test]
fn syn_03_twenty_seconds_without_an_api_server_cost_no_request() {
    need_lab!();
    let mut watched = Watched::start().unwrap();
    for (name, number) in [("left", LEFT), ("right", RIGHT)] {
        watched.apply(&service(name, number, &format!("half: {name}"), ""));
        watched.await_inside(&vip(Family::V4, number), 2);
    }
    let driver = watched.lab.pod("pod-1-1").unwrap().driver().unwrap();
    let ask = AskSpec::tcp(vip(Family::V4, LEFT));
    let targets = [LEFT, RIGHT].map(|number| vip(Family::V4, number)).to_vec();
    let paced = LoadSpec::paced(ask.clone(), RATE, 120_000);
    let load = driver.load(LoadSpec { targets, log: true, ..paced }).unwrap();
    let hold = driver.hold(HoldSpec { ask, connections: 10, every_ms: 50 }).unwrap();

    watched.cluster.stop_api_server().unwrap();
    let stopped = Instant::now();
    while_it_is_away(&mut watched);
    thread::sleep(OUTAGE.saturating_sub(stopped.elapsed()));
    watched.cluster.start_api_server().unwrap();
    let away = stopped.elapsed();

    let returned = Instant::now();
    publish_later(&watched);
    watched.await_inside(&vip(Family::V4, LATER), 1);
    let followed = returned.elapsed();
    watched.agents[0].wait_ready(Duration::from_secs(20)).unwrap();
    let report = driver.stop_load(load).unwrap();
    let kept = driver.hold_report(hold).unwrap();
    println!(
        "API server away for {away:.1?}: {} requests, {} failed; a change after its return \
         was followed in {followed:.1?}; {} connections held, {} broken",
        report.ok,
        report.failed,
        kept.open,
        kept.breaks.len()
    );
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    assert!(report.ok > u64::from(RATE) * OUTAGE.as_secs(), "only {} requests", report.ok);
    nobody_of_another_service(&report);
    assert!(kept.breaks.is_empty() && kept.open == 10, "{kept:?}");
}

/// One agent goes on, the other one starts anew and touches nothing.
fn while_it_is_away(watched: &mut Watched) {
    await_log(&watched.agents[1], "cannot watch services");
    assert_eq!(watched.agents[1].livez().unwrap().0, 200);
    assert_eq!(watched.agents[1].healthz().unwrap().0, 200, "idle is healthy");
    assert_eq!(watched.agents[1].readyz().unwrap().0, 200);
    watched.agents[0].kill().unwrap();
    let spec = AgentSpec::kubeconfig(&watched.cluster.kubeconfig(User::Agent));
    watched.agents[0] = Agent::spawn(watched.lab.node("node-1").unwrap(), &spec).unwrap();
    let agent = &mut watched.agents[0];
    await_alive(agent);
    assert_eq!(agent.healthz().unwrap().0, 503, "its Node is not known (HLZ-05)");
    let (status, why) = agent.readyz().unwrap();
    assert!(status == 503 && why.contains("not all listed"), "{status} {why}");
}

/// A Service without a selector, and its slice by hand: no controller has to come back first.
fn publish_later(watched: &Watched) {
    let node = watched.lab.node("node-2").unwrap();
    let backing = Backing::ready(&watched.lab.pod("pod-2-1").unwrap(), node);
    let later = lab::served::plain("later", LATER);
    watched.cluster.api().apply(&later).unwrap();
    for slice in objects::slices(&later, &[backing]) {
        watched.cluster.api().apply(&slice).unwrap();
    }
}

/// Every request was answered by a pod of the Service that it dialled.
fn nobody_of_another_service(report: &LoadReport) {
    assert!(!report.log.is_empty());
    for request in &report.log {
        let half = if request.to == vip(Family::V4, LEFT) { '1' } else { '2' };
        let pod = request.pod.as_deref().unwrap_or_default();
        assert!(pod.ends_with(half), "{} was answered by {pod:?}", request.to);
    }
}

/// How long the API server is away.
const OUTAGE: Duration = Duration::from_secs(20);
/// Requests a second.
const RATE: u32 = 500;
/// Last parts of the ClusterIPs.
const LEFT: u8 = 50;
const RIGHT: u8 = 51;
const LATER: u8 = 52;
