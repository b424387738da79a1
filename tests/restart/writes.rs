// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a restart writes, what it takes over, what `unload` leaves.

use std::time::Duration;

use lab::{
    agent::Agent,
    need_lab,
    served::{Served, vip},
    wait,
    wire::{AskSpec, Family},
};

use crate::pins;

/// SYN-01, SOC-11: indexes and ids come from the kernel, so that a restart
/// which finds no change has nothing to do.
#[test]
fn a_restart_that_finds_no_change_writes_nothing() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut exposed = Vec::new();
    for number in 10..20 {
        let web = served.expose(&format!("web-{number}"), number, &pods[..2]).unwrap();
        exposed.push(web);
    }
    // Indexes with gaps, regions that have moved: no plan from nothing gives this.
    for web in exposed.iter_mut().step_by(3) {
        web.add(&pods[2]).unwrap();
        served.rewrite(web).unwrap();
    }
    exposed[4].withdraw().unwrap();
    served.await_gone(&vip(Family::V4, 14).to_string()).unwrap();
    let node = served.node().unwrap().clone();
    // The last write of a removal comes a grace period after the frontend is gone.
    wait::until(Duration::from_secs(10), "the withdrawn Service's name to be removed", || {
        !pins::names(&node.bpf_root).contains(&as_bytes("web-14"))
    })
    .unwrap();
    let before = pins::tables(&node.bpf_root);
    assert!(before["FRONTENDS4"].contains("value"), "{}", before["FRONTENDS4"]);
    let programs = served.agent.programs().unwrap();
    for gentle in [true, false] {
        if gentle { served.agent.stop() } else { served.agent.kill() }.unwrap();
        served.agent = Agent::start(&node, &served.spec()).unwrap();
        let writes = served.agent.metric("sluice_map_writes_total").unwrap();
        assert!(writes < 1.0, "{writes} writes");
        for (name, text) in pins::tables(&node.bpf_root) {
            // The text of an array is megabytes: no use in a message.
            assert!(before[&name] == text, "{name} has changed");
        }
        assert_eq!(served.agent.programs().unwrap(), programs, "the same programs run");
    }
}

/// SYN-02, SYN-08: what vanished while no agent ran is removed, what came is
/// served; in between everything stays.
#[test]
fn syn_02_changes_while_no_agent_runs_are_taken_up() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let pods = served.lab.pods();
    let old = served.expose("old", 10, &pods[..2]).unwrap();
    let mut kept = served.expose("kept", 11, &pods[1..2]).unwrap();
    let driver = pods[0].driver().unwrap();
    served.agent.stop().unwrap();
    old.withdraw().unwrap();
    kept.take_out(&pods[1]);
    kept.add(&pods[2]).unwrap();
    kept.write().unwrap();
    let [a, b, c] = [10, 11, 12].map(|number| AskSpec::tcp(vip(Family::V4, number)));
    driver.ask(a.clone()).unwrap();
    assert_eq!(driver.ask(b.clone()).unwrap().echo.pod, "pod-1-2", "SYN-08");
    served.manifests.expose(&served.lab, lab::served::plain("new", 12), &pods[3..]).unwrap();
    served.agent = Agent::start(&served.node().unwrap().clone(), &served.spec()).unwrap();
    assert!(driver.ask(a).is_err());
    assert_eq!(driver.ask(b).unwrap().echo.pod, "pod-2-1");
    assert_eq!(driver.ask(c).unwrap().echo.pod, "pod-2-2");
}

/// SYN-08: only `unload` removes, and it removes everything.
#[test]
fn unload_leaves_nothing() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[2..]).unwrap();
    let root = served.node().unwrap().bpf_root.clone();
    let driver = pods[0].driver().unwrap();
    let ask = AskSpec::tcp(vip(Family::V4, 10));
    driver.ask(ask.clone()).unwrap();
    let ids = |kind, folder| pins::ids(&root, kind, folder);
    let objects = [
        ("map", ids("map", "maps")),
        ("prog", ids("prog", "programs")),
        ("link", ids("link", "links")),
    ];
    let counts = objects.each_ref().map(|(_, ids)| ids.len());
    // Nine for sockets, two at the device, and one that waits for --xdp.
    assert!(counts[0] >= 14 && counts[1] == 12 && counts[2] == 11, "{counts:?}");

    let refused = served.agent.verb(&["unload"]).unwrap();
    assert_ne!(refused.code, Some(0), "an agent runs");
    assert!(refused.stderr.contains("in use"), "{}", refused.stderr);
    driver.ask(ask.clone()).unwrap();

    served.agent.stop().unwrap();
    let unloaded = served.agent.verb(&["unload"]).unwrap();
    assert_eq!(unloaded.code, Some(0), "{}", unloaded.stderr);
    assert!(!root.exists(), "{:?}", pins::files(&root));
    for (kind, ids) in objects {
        for id in ids {
            // The kernel frees after a grace period.
            let what = format!("{kind} {id} to be gone");
            wait::until(Duration::from_secs(5), &what, || !pins::exists(kind, id)).unwrap();
        }
    }
    assert!(driver.ask(ask).is_err());
    // Once more there is nothing to remove, which is no error.
    assert_eq!(served.agent.verb(&["unload"]).unwrap().code, Some(0));
}

/// Text as bpftool prints its bytes.
fn as_bytes(text: &str) -> String {
    let bytes: Vec<_> = text.bytes().map(|byte| format!("\"{byte:#04x}\"")).collect();
    bytes.join(",")
}
