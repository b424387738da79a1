// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An API server that nobody hears of any more: a connection that nothing comes through, and a
//! process that hangs.

use std::time::{Duration, Instant};

use lab::{
    objects::{self, Backing},
    served, wait,
    wire::Family,
};

use crate::fixture::{Watched, await_inside, service, vip};

/// SYN-03: it is noticed within 30 s, and what was missed meanwhile is followed.
pub(crate) fn a_silent_connection(watched: &Watched) {
    let (agent, node) = (&watched.agents[1], watched.lab.node("node-2").unwrap());
    let says = || agent.log().contains("cannot watch services");
    assert!(!says(), "before anything was cut:\n{}", agent.log());
    // Its packets arrive, and whatever would answer them does not leave.
    let control = watched.lab.control();
    control.ip(&format!("route add blackhole {}/32", node.v4)).unwrap();
    let cut = Instant::now();
    publish_unheard(watched);
    wait::until(NOTICED, "the silence to be noticed", says).unwrap();
    let noticed = cut.elapsed();
    assert_eq!(agent.livez().unwrap().0, 200);
    assert_eq!(agent.readyz().unwrap().0, 200, "what is known is served");
    let missed = agent.services().unwrap();
    assert!(missed.iter().all(|row| !row.service.starts_with("default/unheard")), "{missed:?}");

    control.ip(&format!("route del blackhole {}/32", node.v4)).unwrap();
    let healed = Instant::now();
    await_inside(agent, &vip(Family::V4, UNHEARD).to_string(), &1.into());
    let followed = healed.elapsed();
    println!(
        "a silent connection was noticed after {noticed:.1?}; the change that was missed was \
         followed {followed:.1?} after the way was free again"
    );
    watched.kubectl(["delete", "service", "unheard"]);
}

/// SYN-03: an API server that hangs, while its kernel answers for it, is noticed within a minute;
/// what is known is served, and when it goes on so do the watches.
pub(crate) fn an_api_server_that_hangs(watched: &Watched) {
    let failing = "sluice_source_failing{resource=\"services\"}";
    let says = || watched.agents.iter().all(|agent| agent.metric(failing).is_ok_and(|it| it > 0.0));
    assert!(!says(), "before anything hung");
    let hung = watched.cluster.hang_api_server().unwrap();
    let began = Instant::now();
    wait::until(HANG_NOTICED, "the hang to be noticed", says).unwrap();
    let noticed = began.elapsed();
    for agent in &watched.agents {
        assert_eq!(agent.livez().unwrap().0, 200);
        assert_eq!(agent.readyz().unwrap().0, 200, "what is known is served");
    }
    drop(hung);
    let healed = Instant::now();
    watched.apply(&service("after", AFTER, "app: web", ""));
    watched.await_inside(&vip(Family::V4, AFTER), 4);
    let followed = healed.elapsed();
    assert!(!says(), "the watches go on");
    println!(
        "an API server that hangs was noticed after {noticed:.1?}; a change after it went on was \
         followed in {followed:.1?}"
    );
    watched.kubectl(["delete", "service", "after"]);
}

/// A Service that the agent behind the cut does not hear of.
fn publish_unheard(watched: &Watched) {
    let node = watched.lab.node("node-1").unwrap();
    let backing = Backing::ready(&watched.lab.pod("pod-1-1").unwrap(), node);
    let unheard = served::plain("unheard", UNHEARD);
    watched.cluster.api().apply(&unheard).unwrap();
    for slice in objects::slices(&unheard, &[backing]) {
        watched.cluster.api().apply(&slice).unwrap();
    }
    await_inside(&watched.agents[0], &vip(Family::V4, UNHEARD).to_string(), &1.into());
}

/// How long the agent may take.
const NOTICED: Duration = Duration::from_secs(30);
/// How long it may take to find out that a server hangs: 40 s, on a machine that is busy.
const HANG_NOTICED: Duration = Duration::from_mins(1);
/// Last part of the ClusterIPs.
const UNHEARD: u8 = 80;
const AFTER: u8 = 81;
