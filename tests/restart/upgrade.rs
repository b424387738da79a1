// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Nobody notices what happens to the agent: 500 requests a second while it is
//! killed, stopped, replaced by other builds.

use std::{env, fs, path::PathBuf, thread, time::Duration};

use lab::{
    agent::{Agent, AgentSpec},
    driver::Driver,
    need_lab,
    served::{Served, vip},
    wait,
    wire::{AskSpec, Family, HoldSpec, LoadSpec, Task},
};

/// Requests and held connections that run while something happens.
pub(crate) struct Traffic {
    driver: Driver,
    loads: Vec<(Task, Vec<&'static str>)>,
    holds: Vec<Task>,
}

impl Traffic {
    /// 500 requests a second to Service 10, served by pod-2-1 and pod-2-2, and
    /// 100 to Service 11, served by pod-1-2; held connections to both. All from
    /// pod-1-1.
    pub(crate) fn start(served: &Served) -> Self {
        let driver = served.lab.pod("pod-1-1").unwrap().driver().unwrap();
        let far = vec!["pod-2-1", "pod-2-2"];
        let near = vec!["pod-1-2"];
        let asks = [
            (AskSpec::tcp(vip(Family::V4, 10)), 250, far.clone()),
            (AskSpec::udp(vip(Family::V6, 10)), 125, far.clone()),
            (AskSpec::udp_unconnected(vip(Family::V4, 10)), 125, far),
            (AskSpec::tcp(vip(Family::V6, 11)), 100, near),
        ];
        let (mut loads, mut holds) = (Vec::new(), Vec::new());
        for (ask, rate, pods) in asks {
            let hold = HoldSpec { ask: ask.clone(), connections: 5, every_ms: 50 };
            holds.push(driver.hold(hold).unwrap());
            let spec = LoadSpec { workers: 4, ..LoadSpec::paced(ask, rate, LIMIT_MS) };
            loads.push((driver.load(spec).unwrap(), pods));
        }
        Self { driver, loads, holds }
    }

    /// Ends it: nothing failed, nothing went to another Service's pod, and no
    /// held connection was broken.
    pub(crate) fn finish(self) {
        let mut total = 0;
        for (load, pods) in self.loads {
            let report = self.driver.stop_load(load).unwrap();
            assert_eq!(report.failed, 0, "{:?}", report.errors);
            let stray: Vec<_> =
                report.pods.keys().filter(|pod| !pods.contains(&pod.as_str())).collect();
            assert!(stray.is_empty(), "{stray:?} is not of {pods:?}");
            assert_eq!(report.pods.len(), pods.len(), "{:?}", report.pods);
            total += report.ok;
        }
        let mut exchanges = 0;
        for hold in self.holds {
            let report = self.driver.stop_hold(hold).unwrap();
            assert!(report.breaks.is_empty() && report.open == 0, "{report:?}");
            exchanges += report.exchanges;
        }
        println!("{total} requests and {exchanges} exchanges on held connections, none failed");
    }
}

/// SYN-01, SYN-08: SIGKILL, SIGTERM, and both again with changes in between.
#[test]
fn syn_01_killing_and_restarting_the_agent_costs_no_connection() {
    need_lab!();
    let mut served = far_and_near();
    let node = served.node().unwrap().clone();
    let traffic = Traffic::start(&served);
    for round in 0..6 {
        if round % 2 == 0 { served.agent.kill() } else { served.agent.stop() }.unwrap();
        // The kernel serves alone for a while.
        thread::sleep(Duration::from_millis(500));
        served.agent = Agent::start(&node, &served.spec()).unwrap();
        // An agent that has just started follows changes.
        served.expose(&format!("round-{round}"), 20 + round, &served.lab.pods()).unwrap();
    }
    traffic.finish();
    served.await_idle().unwrap();
}

/// A build with other programs replaces them by updating the links.
#[test]
fn another_build_of_the_programs_takes_over_without_a_window() {
    need_lab!();
    let mut served = far_and_near();
    let node = served.node().unwrap().clone();
    let traffic = Traffic::start(&served);
    let ids = |agent: &Agent| -> Vec<u32> {
        agent.programs().unwrap().iter().map(|program| program.id).collect()
    };
    let (mut programs, attached) = (ids(&served.agent), links(&served.agent));
    for build in 1..=4 {
        if build % 2 == 0 { served.agent.kill() } else { served.agent.stop() }.unwrap();
        let program = lab::agent::other_build(served.lab.dir(), build).unwrap();
        let spec = AgentSpec { program: Some(program), ..served.spec() };
        served.agent = Agent::start(&node, &spec).unwrap();
        let now = ids(&served.agent);
        assert!(now.iter().all(|id| !programs.contains(id)), "all are new: {now:?} {programs:?}");
        assert_eq!(links(&served.agent), attached, "the links are the old ones, updated");
        programs = now;
        thread::sleep(Duration::from_millis(200));
    }
    traffic.finish();
    served.await_idle().unwrap();
}

/// A build whose programs have another layout (more maps, twice as many instructions, a
/// function more) takes over and gives back: the one that logs every decision.
#[test]
fn a_tracing_build_takes_over_and_gives_back_without_a_window() {
    need_lab!();
    let Some(tracing) = env::var_os("LB_AGENT_TRACING").map(PathBuf::from) else {
        println!("SKIP LB_AGENT_TRACING names no agent: cargo xtask test builds it");
        return;
    };
    let mut served = far_and_near();
    let node = served.node().unwrap().clone();
    let traffic = Traffic::start(&served);
    let attached = links(&served.agent);
    for round in 0..2 {
        if round == 0 { served.agent.stop() } else { served.agent.kill() }.unwrap();
        // All agents of a node write one log.
        let before = served.agent.log().len();
        let spec = AgentSpec { program: Some(tracing.clone()), ..served.spec() };
        served.agent = Agent::start(&node, &spec).unwrap();
        assert_eq!(links(&served.agent), attached, "the links are the old ones, updated");
        for (call, to) in [("connect", vip(Family::V4, 10)), ("sendto", vip(Family::V4, 10))] {
            let dialled = format!("{call} [::ffff:{}]:{} became [::ffff:10.", to.ip(), to.port());
            wait::until(Duration::from_secs(10), &format!("`{dialled}` in the log"), || {
                served.agent.log().get(before..).is_some_and(|log| log.contains(&dialled))
            })
            .unwrap();
        }
        served.agent.kill().unwrap();
        served.agent = Agent::start(&node, &served.spec()).unwrap();
        assert_eq!(links(&served.agent), attached, "and so they are on the way back");
    }
    traffic.finish();
    served.await_idle().unwrap();
}

/// Pins of another layout are not read: their programs run until the new ones
/// over maps of their own take their place.
#[test]
fn another_layout_of_the_maps_takes_over_without_a_window() {
    need_lab!();
    let mut served = far_and_near();
    let node = served.node().unwrap().clone();
    let driver = served.lab.pod("pod-1-1").unwrap().driver().unwrap();
    let spec = |ask, rate| LoadSpec { workers: 4, ..LoadSpec::paced(ask, rate, LIMIT_MS) };
    let far = driver.load(spec(AskSpec::tcp(vip(Family::V4, 10)), 400)).unwrap();
    let near = driver.load(spec(AskSpec::udp_unconnected(vip(Family::V6, 11)), 100)).unwrap();
    let ask = AskSpec::tcp(vip(Family::V6, 10));
    let hold = driver.hold(HoldSpec { ask, connections: 10, every_ms: 20 }).unwrap();
    served.agent.stop().unwrap();
    fs::rename(node.bpf_root.join("v1"), node.bpf_root.join("v0")).unwrap();
    thread::sleep(Duration::from_millis(200));
    served.agent = Agent::start(&node, &served.spec()).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(!node.bpf_root.join("v0").exists(), "the old ones are gone");
    for (load, pods) in [(far, vec!["pod-2-1", "pod-2-2"]), (near, vec!["pod-1-2"])] {
        let report = driver.stop_load(load).unwrap();
        assert_eq!(report.failed, 0, "{:?}", report.errors);
        assert_eq!(report.pods.keys().map(String::as_str).collect::<Vec<_>>(), pods);
    }
    let report = driver.stop_hold(hold).unwrap();
    assert!(report.breaks.is_empty(), "{report:?}");
    drop(driver);
    served.await_idle().unwrap();
}

/// A lab with Service 10 on the far pods, Service 11 on a near one.
pub(crate) fn far_and_near() -> Served {
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("far", 10, &pods[2..]).unwrap();
    served.expose("near", 11, &pods[1..2]).unwrap();
    served
}

/// The links that hold the programs.
fn links(agent: &Agent) -> Vec<Option<u32>> {
    agent.programs().unwrap().iter().map(|program| program.link).collect()
}

/// Longest that traffic may run, milliseconds.
const LIMIT_MS: u64 = 120_000;
