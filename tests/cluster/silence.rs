// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A connection to the API server that nobody ends and nothing comes through.

use std::time::{Duration, Instant};

use lab::{
    objects::{self, Backing},
    served, wait,
    wire::Family,
};

use crate::fixture::{Watched, await_inside, vip};

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
/// Last part of the ClusterIPs.
const UNHEARD: u8 = 80;
