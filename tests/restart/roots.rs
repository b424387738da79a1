// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One agent a bpf-root.

use std::{fs, time::Duration};

use lab::{
    agent::Agent,
    need_lab,
    served::{Served, vip},
    wire::{AskSpec, Family},
};

#[test]
fn a_second_agent_on_the_same_root_is_refused() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[2..]).unwrap();
    let node = served.node().unwrap().clone();
    let first = served.agent.process().pid();
    let spec = served.spec().arg("--healthz-bind-address=").arg("--metrics-bind-address=");
    let mut second = Agent::spawn(&node, &spec).unwrap();
    let status = second.process().wait(Duration::from_secs(10)).unwrap();
    assert!(!status.success());
    let log = second.log();
    let root = node.bpf_root.display().to_string();
    assert!(log.contains("in use") && log.contains(&root), "{log}");
    assert!(log.contains(&format!("process {first}")), "{log}");
    pods[0].driver().unwrap().ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap();
    assert!(served.agent.process().is_running());
}

/// A crash before anything was complete leaves a directory that is worth nothing.
#[test]
fn half_made_pins_are_made_anew() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[2..]).unwrap();
    let node = served.node().unwrap().clone();
    served.agent.stop().unwrap();
    // A program and two maps are missing, something unfinished lies about.
    let layout = node.bpf_root.join("v1");
    fs::create_dir_all(layout.join("building/maps")).unwrap();
    for file in ["maps/SLOTS", "maps/SERVICES", "programs/connect4"] {
        fs::remove_file(layout.join(file)).unwrap();
    }
    let driver = pods[0].driver().unwrap();
    driver.ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap();
    served.agent = Agent::start(&node, &served.spec()).unwrap();
    for family in Family::BOTH {
        driver.ask(AskSpec::tcp(vip(family, 10))).unwrap();
    }
    let log = served.agent.log();
    assert!(log.contains("SLOTS"), "it says what it did not take over: {log}");
}
