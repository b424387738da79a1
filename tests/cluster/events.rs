// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the agents tell as Kubernetes Events.

use std::{net::TcpListener, process::Command, time::Duration};

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use lab::{
    cluster::User,
    objects::NAMESPACE,
    place::{binary, bounded_output},
    wait,
    wire::{AskSpec, Family},
};

use crate::fixture::{Watched, service, vip};

/// COL-02: the loser of a collision has an Event, one for all nodes, and takes over when the
/// winner goes; `kubectl describe` shows it.
pub(crate) fn a_collision_is_told(watched: &Watched) {
    // Creation times have whole seconds; within one the name decides, which is the same here.
    for (name, number, selector) in [("older", 90, "half: left"), ("younger", 91, "half: right")] {
        watched.apply(&service(name, number, selector, "  externalIPs: ['192.0.2.90']"));
        watched.await_inside(&vip(Family::V4, number), 2);
    }
    let told = await_events(watched, "younger", "FrontendTaken", 2);
    for event in &told {
        let note = event.note.as_deref().unwrap_or_default();
        assert!(note.contains("192.0.2.90:80") && note.contains("default/older"), "{note}");
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(event.reporting_controller.as_deref(), Some("sluice"));
    }
    let described = watched.kubectl(["describe", "service", "younger"]);
    assert!(described.contains("FrontendTaken"), "{described}");
    // Kubernetes' own controllers may have some to tell.
    let mut of_winner = events(watched, "older").unwrap();
    of_winner.retain(|event| event.reporting_controller.as_deref() == Some("sluice"));
    assert!(of_winner.is_empty(), "{of_winner:?}");

    let driver = watched.clients().unwrap()[0].driver().unwrap();
    let ask = AskSpec::tcp("192.0.2.90:80".parse().unwrap());
    assert!(driver.ask(ask.clone()).unwrap().echo.pod.ends_with('1'), "the older one's pods");
    watched.kubectl(["delete", "service", "older"]);
    wait::until(Duration::from_secs(10), "the younger one to take over", || {
        driver.ask(ask.clone()).is_ok_and(|answer| answer.echo.pod.ends_with('2'))
    })
    .unwrap();
    watched.kubectl(["delete", "service", "younger"]);
}

/// MET-14: each start of an agent, and a server that cannot start, are told of its Node.
pub(crate) fn nodes_tell_of_their_agents(watched: &Watched) {
    for node in watched.lab.nodes() {
        await_events(watched, &node.name, "Starting", 1);
    }
    let described = watched.kubectl(["describe", "node", "node-2"]);
    assert!(described.contains("Starting"), "{described}");

    // Another agent, on addresses that are taken: one server is tried again, the other one's
    // failure ends it.
    let place = watched.lab.client();
    let taken = place.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let taken = taken.local_addr().unwrap();
    let bpf_root = &watched.lab.node("node-2").unwrap().bpf_root;
    let agent = |node: &str, flags: &[String]| {
        let mut command = place.command(binary("lb-agent", "LB_AGENT").unwrap()).unwrap();
        command.args(["run", "--node-name", node, "--allow-nested-cgroup"]);
        command.arg("--kubeconfig").arg(watched.cluster.kubeconfig(User::Agent));
        command.arg("--cgroup-root").arg(&place.cgroup).arg("--bpf-root");
        command.arg(bpf_root.with_file_name(format!("{node}-again")));
        command.args(flags);
        command
    };
    let goes_on = agent("elsewhere", &[format!("--healthz-bind-address={taken}")]);
    let mut goes_on = place.spawn("agent", goes_on).unwrap();
    wait::until(Duration::from_secs(10), "the agent to say it", || {
        goes_on.log().contains("server not started")
    })
    .unwrap_or_else(|error| panic!("{error}: {}", goes_on.log_tail()));
    await_events(watched, "elsewhere", "FailedToStartProxierHealthcheck", 1);
    assert!(goes_on.is_running());
    goes_on.kill().unwrap();
    let ends = agent(
        "elsewhere",
        &[format!("--metrics-bind-address={taken}"), "--bind-address-hard-fail".to_owned()],
    );
    let (code, _, stderr) = bounded_output(ends, Duration::from_secs(20)).unwrap();
    assert_eq!(code, Some(2), "{stderr}");
    await_events(watched, "elsewhere", "FailedToStartMetricServer", 1);
    // Pinned maps would stay as large as they are; a Node that is missing is waited for.
    a_full_map(watched, agent("node-2", &["--max-entries=services=16".to_owned()]));
}

/// A Service that finds no room is told of by the node that has none.
fn a_full_map(watched: &Watched, small: Command) {
    let port = |number| format!("{{name: p{number}, port: {number}}}");
    let ports: Vec<_> = (1..=20).map(port).collect();
    let spec = format!("{{selector: {{app: web}}, ports: [{}]}}", ports.join(", "));
    watched.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: wide}}, spec: {spec}}}"
    ));
    let small = watched.lab.client().spawn("agent", small).unwrap();
    let told = wait::for_value(Duration::from_secs(20), "a full map to be told", || {
        let mut events = events(watched, "wide")?;
        events.retain(|event| event.reason.as_deref() == Some("MapFull"));
        ensure!(!events.is_empty(), "it is not");
        let node = |event: &Event| event.reporting_instance.as_deref() == Some("node-2");
        ensure!(events.iter().all(node), "by another node: {events:?}");
        Ok(())
    });
    told.unwrap_or_else(|error| panic!("{error:#}: {}", small.log_tail()));
    watched.kubectl(["delete", "service", "wide"]);
}

/// Waits for so many Events with a reason about an object; more are too many.
#[track_caller]
fn await_events(watched: &Watched, object: &str, reason: &str, count: usize) -> Vec<Event> {
    wait::for_value(Duration::from_secs(20), &format!("{count} {reason} about {object}"), || {
        let mut events = events(watched, object)?;
        events.retain(|event| event.reason.as_deref() == Some(reason));
        let said = |event: &Event| (event.action.clone(), event.note.clone());
        let found: Vec<_> = events.iter().map(said).collect();
        ensure!(found.len() == count, "there are {found:?}");
        Ok(events)
    })
    .unwrap()
}

/// The Events about an object.
fn events(watched: &Watched, object: &str) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = watched.cluster.api().list(Some(NAMESPACE), "")?;
    events.retain(|event| {
        let regarding = event.regarding.as_ref();
        regarding.is_some_and(|regarding| regarding.name.as_deref() == Some(object))
    });
    Ok(events)
}
