// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent monitor`: what happens to clients, while it happens.

use std::time::Duration;

use lab::{need_lab, process::Process, wait, wire::Family};
use serde_json::Value;

use crate::bed::{Bed, Way};

/// The events that a monitor has printed.
fn events(monitor: &Process) -> Vec<Value> {
    monitor.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for an event with these parts.
fn expect(monitor: &Process, parts: &[(&str, &str)]) -> Value {
    wait::for_value(LIMIT, &format!("an event with {parts:?}"), || {
        let fits = |event: &Value| parts.iter().all(|(key, part)| event[key] == *part);
        let found = events(monitor).into_iter().find(fits);
        found.ok_or_else(|| anyhow::anyhow!("{}", monitor.log_tail()))
    })
    .unwrap()
}

/// Waits until a monitor has asked the programs, which a flow of its own shows.
fn asked(bed: &Bed, monitor: &Process) {
    wait::until(LIMIT, "the first event", || {
        bed.ask("TCP", Way::NodePort.at(bed.node(1), Family::V4)).unwrap();
        !events(monitor).is_empty()
    })
    .unwrap();
}

/// A new flow, a refusal and a drop by source range are told with their Service and reason, and
/// so is a socket's refusal; filters hold; a second monitor is sent away.
#[test]
fn a_monitor_tells_of_flows_drops_and_refusals() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    let client = bed.served.lab.client();
    let mut web = bed.expose(&pods, |_| {});
    let mut monitor = bed.agent(1).start_verb(&["monitor", "-o", "json"]).unwrap();
    asked(&bed, &monitor);
    let to = Way::Vip.at(bed.node(1), Family::V4);
    bed.ask("TCP", to).unwrap();
    let (frontend, service) = (to.to_string(), "default/web:tcp/TCP");
    let new = expect(&monitor, &[("what", "new"), ("frontend", &frontend), ("service", service)]);
    assert!(new["from"].as_str().unwrap().starts_with(&client.v4.to_string()), "{new}");
    let backend = new["backend"].as_str().unwrap();
    assert!(pods.iter().any(|pod| backend.starts_with(&pod.v4.to_string())), "{new}");
    assert!(new["device"].is_string() && new["reason"] == "flow_begun", "{new}");

    let refused = bed.agent(1).verb(&["monitor", "--for", "1"]).unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another monitor"), "{}", refused.stderr);

    let spec = web.service.spec.as_mut().unwrap();
    spec.load_balancer_source_ranges = Some(vec!["10.9.0.0/16".to_owned()]);
    bed.rewrite(&web);
    bed.is_silent("UDP", to);
    let parts = [("what", "dropped"), ("reason", "dropped_source_range"), ("frontend", &frontend)];
    let dropped = expect(&monitor, &parts);
    assert_eq!(dropped["service"], "default/web:udp/UDP", "{dropped}");
    monitor.stop(LIMIT).unwrap();

    let only = ["monitor", "-o", "json", "--service", "default/web", "--count", "1"];
    let reason = ["--reason", "refused_no_endpoints"];
    let mut few = bed.agent(1).start_verb(&[&only[..], &reason].concat()).unwrap();
    web.service.spec.as_mut().unwrap().load_balancer_source_ranges = None;
    web.backings.clear();
    bed.rewrite(&web);
    wait::until(LIMIT, "the one event that is asked for", || {
        let error = bed.ask("TCP", to).unwrap_err();
        assert_eq!(error.name, "ECONNREFUSED");
        !few.is_running()
    })
    .unwrap();
    assert!(few.wait(LIMIT).unwrap().success());
    let told: Vec<_> = events(&few).into_iter().filter(|it| it["what"] == "refused").collect();
    assert_eq!(told.len(), 1, "{}", few.log_tail());
    assert_eq!(told[0]["service"], service);
}

/// A monitor goes on while its agent is killed and started anew. One that is killed itself is in
/// nobody's way, and what the programs went on telling for a while is not the next one's.
#[test]
fn a_killed_monitor_leaves_nothing_behind() {
    need_lab!();
    let mut bed = Bed::start();
    bed.expose(&bed.pods(), |_| {});
    let mut monitor = bed.agent(1).start_verb(&["monitor", "-o", "json"]).unwrap();
    asked(&bed, &monitor);
    bed.served.agent.kill().unwrap();
    bed.ask("UDP", Way::NodePort.at(bed.node(1), Family::V6)).unwrap();
    expect(&monitor, &[("what", "new"), ("protocol", "UDP")]);
    let spec = bed.served.spec();
    bed.served.agent = lab::agent::Agent::start(bed.node(1), &spec).unwrap();
    let before = events(&monitor).len();
    wait::until(LIMIT, "events after the restart", || {
        bed.ask("TCP", Way::NodePort.at(bed.node(1), Family::V4)).unwrap();
        events(&monitor).len() > before
    })
    .unwrap();
    monitor.kill().unwrap();
    // The lease of the one that was killed may go on for seconds; nobody hears what it brings.
    bed.ask("UDP", Way::NodePort.at(bed.node(1), Family::V4)).unwrap();
    let printed = bed.agent(1).verb(&["monitor", "--for", "1", "-o", "json"]).unwrap();
    assert_eq!((printed.code, &*printed.stdout), (Some(0), ""), "{printed:?}");
}

const LIMIT: Duration = Duration::from_secs(10);
