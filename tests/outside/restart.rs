// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Agents come and go; what is open goes on.

use std::{collections::BTreeSet, thread, time::Duration};

use lab::{
    agent::{Agent, AgentSpec, other_build},
    need_lab,
    served::plain,
    wait,
    wire::{AskSpec, Family, HoldSpec, LoadSpec},
};

use crate::bed::{Bed, Way};

/// A killed agent, and the next one, cost no connection from outside; meanwhile new ones are
/// served as well. A table of flows is not made anew because the next one wants another size: who
/// wanted it is told, and how to get it.
#[test]
fn a_killed_agent_costs_no_connection_from_outside() {
    need_lab!();
    let mut bed = Bed::start();
    let spec = bed.served.spec().arg("--max-flows").arg("40000");
    bed.expose(&bed.pods(), |_| {});
    let capacity = "sluice_map_capacity{map=\"FLOWS\"}";
    let size = |bed: &Bed| {
        let known = || {
            let size = bed.agent(1).metric(capacity)?;
            anyhow::ensure!(size > 0.0, "nobody has looked yet");
            Ok(size)
        };
        wait::for_value(LIMIT, "the size of FLOWS", known).unwrap()
    };
    let before = size(&bed);
    survives(&mut bed, &spec);
    assert_eq!(size(&bed).to_bits(), before.to_bits());
    wait::until(LIMIT, "show issues to say so", || {
        let told = bed.agent(1).verb(&["show", "issues"]).unwrap().stdout;
        told.contains("not for the 40000 that --max-flows asks for")
    })
    .unwrap();
}

/// Connections are open while the first node's agent is killed, and started again as `spec`.
pub(crate) fn survives(bed: &mut Bed, spec: &AgentSpec) {
    let to = |family| Way::NodePort.at(bed.node(1), family);
    let holds = Family::BOTH.map(|family| {
        let spec = HoldSpec { ask: AskSpec::tcp(to(family)), connections: 16, every_ms: 20 };
        bed.client.hold(spec).unwrap()
    });
    let dialled = Family::BOTH.map(to);
    let before: u64 =
        holds.iter().map(|hold| bed.client.hold_report(*hold).unwrap().exchanges).sum();
    bed.served.agent.kill().unwrap();
    for to in dialled {
        bed.ask("TCP", to).unwrap();
    }
    bed.served.agent = Agent::start(bed.node(1), spec).unwrap();
    wait::until(Duration::from_secs(10), "exchanges after the restart", || {
        let report = |hold: &lab::wire::Task| bed.client.hold_report(*hold).unwrap().exchanges;
        holds.iter().map(report).sum::<u64>() > before + 320
    })
    .unwrap();
    for hold in holds {
        let report = bed.client.stop_hold(hold).unwrap();
        assert!(report.breaks.is_empty() && report.pods.values().sum::<u64>() == 16, "{report:?}");
    }
}

/// An agent that is killed in the midst of an apply, and a build with other programs that
/// takes over then, cost clients outside no request and no connection.
#[test]
fn builds_that_take_over_from_killed_agents_cost_nothing_outside() {
    need_lab!();
    let mut bed = Bed::start();
    let pods = bed.pods();
    bed.expose(&pods, |_| {});
    let to = Family::BOTH.map(|family| Way::NodePort.at(bed.node(1), family));
    let asks: Vec<_> = to.into_iter().flat_map(|to| [AskSpec::tcp(to), AskSpec::udp(to)]).collect();
    let start = |ask: &AskSpec| {
        let load = LoadSpec { workers: 4, ..LoadSpec::paced(ask.clone(), 100, 60_000) };
        let hold = HoldSpec { ask: ask.clone(), connections: 8, every_ms: 20 };
        (bed.client.load(load).unwrap(), bed.client.hold(hold).unwrap())
    };
    let running: Vec<_> = asks.iter().map(start).collect();
    let ids = |agent: &Agent| -> BTreeSet<u32> {
        let rows = agent.programs().unwrap().into_iter().filter(|row| row.device.is_some());
        rows.map(|row| row.id).collect()
    };
    for build in 1..=4 {
        let before = ids(bed.agent(1));
        // Enough changes that they are still being made when the end comes.
        for number in 0..100 {
            let service = plain(&format!("more-{build}-{number}"), 20 + number);
            bed.served.manifests.expose(&bed.served.lab, service, &pods).unwrap();
        }
        thread::sleep(Duration::from_millis(u64::from(build) * 10));
        bed.served.agent.kill().unwrap();
        let program = Some(other_build(bed.served.lab.dir(), build).unwrap());
        let spec = AgentSpec { program, ..bed.served.spec() };
        bed.served.agent = Agent::start(bed.node(1), &spec).unwrap();
        // It is ready when clients outside are served, too.
        assert!(ids(bed.agent(1)).is_disjoint(&before), "programs of the other build");
    }
    for (load, hold) in running {
        let load = bed.client.stop_load(load).unwrap();
        assert!(load.failed == 0 && load.ok > 0, "{:?}", load.errors);
        let hold = bed.client.stop_hold(hold).unwrap();
        assert!(hold.breaks.is_empty() && hold.exchanges > 0, "{hold:?}");
    }
}

/// `unload` leaves no program at any device.
#[test]
fn unload_leaves_no_program_at_a_device() {
    need_lab!();
    let mut bed = Bed::start();
    let pods = bed.pods();
    bed.expose(&pods, |_| {});
    let to = Way::Vip.at(bed.node(1), Family::V4);
    bed.ask("TCP", to).unwrap();
    bed.served.agent.stop().unwrap();
    bed.ask("TCP", to).unwrap();
    let printed = bed.agent(1).verb(&["unload"]).unwrap();
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let left = bed.node(1).output("bpftool", ["net", "show"]).unwrap();
    assert!(!left.contains("tc_ingress") && !left.contains("tc_egress"), "{left}");
    assert!(bed.ask("TCP", to).is_err());
}

/// What a census waits for, or a report.
const LIMIT: Duration = Duration::from_secs(10);
