// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Agents come and go; what is open goes on.

use std::time::Duration;

use lab::{
    agent::Agent,
    need_lab, wait,
    wire::{AskSpec, Family, HoldSpec},
};

use crate::bed::{Bed, Way};

/// A killed agent, and the next one, cost no connection from outside; meanwhile new ones are
/// served as well.
#[test]
fn a_killed_agent_costs_no_connection_from_outside() {
    need_lab!();
    let mut bed = Bed::start();
    let pods = bed.pods();
    bed.expose(&pods, |_| {});
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
    let spec = bed.served.spec();
    bed.served.agent = Agent::start(bed.node(1), &spec).unwrap();
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
