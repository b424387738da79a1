// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cluster that outgrows its maps while it is used, and an agent that dies of it.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use k8s_openapi::api::discovery::v1::EndpointPort;
use lab::{
    Lab,
    agent::{Agent, AgentSpec},
    manifests::Exposed,
    need_lab,
    objects::{self, Backing, Port},
    served::{Served, vip},
    wait,
    wire::{AskSpec, Family, HoldSpec},
};
use lb_agent::datapath::maps::{Role, SHAPES};
use lb_common::maps::{Capacities, LAYOUT_VERSION};
use serde_json::{Value, json};

use crate::{
    pins,
    steady::Steady,
    upgrade::{self, Traffic},
};

/// Writes Services of a hundred ports each, with so many endpoints that no pod has.
fn crowd(served: &Served, file: &str, numbers: Range<u8>, endpoints: u8) {
    let node = served.node().unwrap();
    let pod = &served.lab.pods()[0];
    let mut written: Vec<Value> = Vec::new();
    for number in numbers {
        let address = IpAddr::from([10, 97, endpoints, number]);
        let port = Port { name: "", protocol: "TCP", port: 1, target: 1 };
        let mut service =
            objects::service(&format!("{file}-{number}"), &[address], std::slice::from_ref(&port));
        let one = service.spec.as_mut().unwrap().ports.take().unwrap().remove(0);
        let ports = (0..PORTS).map(|port| {
            let mut port_of = one.clone();
            (port_of.name, port_of.port) = (Some(format!("p{port}")), 1000 + port);
            port_of
        });
        let ports: Vec<_> = ports.collect();
        service.spec.as_mut().unwrap().ports = Some(ports);
        let backings: Vec<_> = (0..endpoints)
            .map(|last| {
                let mut backing = Backing::ready(pod, node);
                backing.addresses[0] = IpAddr::from([10, 98, number, last]);
                backing
            })
            .collect();
        for mut slice in objects::slices(&service, &backings) {
            let ports = (0..PORTS).map(|port| EndpointPort {
                name: Some(format!("p{port}")),
                port: Some(2000 + port),
                protocol: Some("TCP".to_owned()),
                app_protocol: None,
            });
            slice.ports = Some(ports.collect());
            written.push(json!(slice));
        }
        written.push(json!(service));
    }
    served.manifests.write(file, &written).unwrap();
}

/// Entries that fit in a map, as the metrics say.
fn capacity(agent: &Agent, map: &str) -> f64 {
    agent.metric(&format!("sluice_map_capacity{{map=\"{map}\"}}")).unwrap_or_default()
}

/// Waits until these maps are larger than they were.
fn await_growth(served: &Served, maps: &[(&str, f64)]) {
    wait::for_value(PATIENCE, &format!("larger maps than {maps:?}"), || {
        for (map, before) in maps {
            let now = capacity(&served.agent, map);
            ensure!(now > *before * 1.9, "{map} has {now}; {}", served.agent.log());
        }
        Ok(())
    })
    .unwrap();
}

/// SERVICES, then SLOTS and BACKENDS outgrow three quarters under 600 requests a second and
/// thirty held connections: none fails, every count is exact, nothing is left of what was.
#[test]
fn maps_that_grow_under_traffic_cost_nothing() {
    need_lab!();
    let served = upgrade::far_and_near();
    let root = served.node().unwrap().bpf_root.clone();
    let driver = served.lab.pod("pod-1-1").unwrap().driver().unwrap();
    let ask = AskSpec::tcp(vip(Family::V6, 10));
    let hold = driver.hold(HoldSpec { ask, connections: 10, every_ms: 20 }).unwrap();
    let traffic = Traffic::start(&served);
    let sizes = ["SERVICES", "SLOTS", "BACKENDS"].map(|map| (map, capacity(&served.agent, map)));
    let maps: BTreeSet<_> = pins::ids(&root, "map", "maps").into_iter().collect();
    let programs = pins::ids(&root, "prog", "programs");
    let links = pins::ids(&root, "link", "links");

    crowd(&served, "ports", 0..125, 0);
    await_growth(&served, &sizes[..1]);
    crowd(&served, "endpoints", 0..5, 100);
    await_growth(&served, &sizes[1..]);
    let far = vip(Family::V4, 10).to_string();
    served.await_inside(&far, "TCP", &json!(2)).unwrap();
    served.manifests.remove("ports").unwrap();
    served.manifests.remove("endpoints").unwrap();
    served.await_gone("10.97.100.4:1099").unwrap();
    traffic.finish();

    wait::for_value(PATIENCE, "the held connections to be all that is counted", || {
        let load = served.load()?;
        ensure!(load.values().sum::<u64>() == 10, "{load:?}");
        Ok(())
    })
    .unwrap();
    let report = driver.stop_hold(hold).unwrap();
    assert!(report.breaks.is_empty() && report.exchanges > 100, "{report:?}");
    served.await_idle().unwrap();

    assert_eq!(pins::ids(&root, "link", "links"), links, "updated, not made anew");
    let now: BTreeSet<_> = pins::ids(&root, "map", "maps").into_iter().collect();
    assert_eq!(now.len(), maps.len());
    let grow = |role| matches!(role, Role::Table | Role::Backend | Role::Load);
    let grown = SHAPES.iter().filter(|shape| grow(shape.role));
    assert_eq!(maps.difference(&now).count(), grown.count(), "the rest is shared");
    let gone = maps.difference(&now).map(|id| ("map", *id));
    for (kind, id) in gone.chain(programs.into_iter().map(|id| ("prog", id))) {
        // The kernel frees after a grace period.
        wait::until(PATIENCE, &format!("{kind} {id} to be gone"), || !pins::exists(kind, id))
            .unwrap();
    }
    assert!(pins::files(&root).iter().all(|pin| {
        !pin.components().any(|part| part.as_os_str() == "next" || part.as_os_str() == "building")
    }));
}

/// Kills the agent a while after it began to make a generation. Whether it was at it still.
fn kill_inside(served: &mut Served, while_ms: u64) -> bool {
    let layout = served.node().unwrap().bpf_root.join(format!("v{LAYOUT_VERSION}"));
    let is_at_it = || ["building", "next"].iter().any(|stage| layout.join(stage).exists());
    let ends = Instant::now() + PATIENCE;
    while !is_at_it() {
        assert!(Instant::now() < ends, "no generation is made:\n{}", served.agent.log());
        thread::sleep(Duration::from_micros(200));
    }
    thread::sleep(Duration::from_millis(while_ms));
    let caught = is_at_it();
    served.agent.kill().unwrap();
    caught
}

/// The next agent goes on from what is left: all is served by what it says it has.
fn converge(served: &mut Served, exposed: &[Exposed], limit: Option<&str>) {
    let spec = limit.into_iter().fold(served.spec(), AgentSpec::arg);
    let node = served.node().unwrap().clone();
    served.agent = Agent::start(&node, &spec).unwrap();
    served.await_all(exposed).unwrap();
    let stages = pins::files(&node.bpf_root).into_iter().filter(|pin| {
        pin.components().any(|part| part.as_os_str() == "next" || part.as_os_str() == "building")
    });
    assert_eq!(stages.count(), 0);
}

/// Moments that are spread evenly over a generation's making, by the golden ratio.
fn moments(rounds: u64, within_ms: u64) -> impl Iterator<Item = u64> {
    (0..rounds).map(move |round| round * 618 % 1000 * within_ms / 1000)
}

/// The agent is killed while it makes larger maps, ten times, and while it makes maps of its
/// own layout beside another's, eight times, and once while it follows its cluster.
#[test]
fn killed_inside_a_growth_or_a_layout_change_the_next_start_converges() {
    need_lab!();
    let mut served = Served::with(Lab::builder(), |spec| spec.arg(limit(4))).unwrap();
    let pods = served.lab.pods();
    let exposed = [served.expose("far", 10, &pods[2..]).unwrap()];
    let node = served.node().unwrap().clone();
    let driver = pods[0].driver().unwrap();
    let steady = Steady::start(&driver);
    let mut caught = 0;
    let mut kill = |served: &mut Served, args: Option<&str>, while_ms| {
        let spec = args.into_iter().fold(served.spec(), AgentSpec::arg);
        served.agent = Agent::spawn(&node, &spec).unwrap();
        caught += u32::from(kill_inside(served, while_ms));
    };
    served.agent.kill().unwrap();
    for (power, while_ms) in (5..).zip(moments(GROWTHS, SPAN_MS)) {
        let limit = limit(power);
        kill(&mut served, Some(&limit), while_ms);
        converge(&mut served, &exposed, Some(&limit));
        let fits = f64::from(1_u32 << power) - 1.0;
        assert!((capacity(&served.agent, "SERVICES") - fits).abs() < 0.5, "2^{power}");
        served.agent.kill().unwrap();
    }
    let other = node.bpf_root.join("v4000");
    for while_ms in moments(LAYOUTS, SPAN_MS) {
        fs::rename(node.bpf_root.join(format!("v{LAYOUT_VERSION}")), &other).unwrap();
        kill(&mut served, None, while_ms);
        converge(&mut served, &exposed, None);
        assert!(!other.exists());
        served.agent.kill().unwrap();
    }
    // And once while it follows a cluster that outgrows the maps.
    converge(&mut served, &exposed, None);
    crowd(&served, "ports", 0..125, 0);
    caught += u32::from(kill_inside(&mut served, SPAN_MS / 3));
    converge(&mut served, &exposed, None);
    await_growth(&served, &[("SERVICES", f64::from(Capacities::MINIMUM.services))]);
    let requests = steady.finish();
    served.await_idle().unwrap();
    println!(
        "{caught} of {KILLS} kills fell into the making of a generation; {requests} requests, none failed"
    );
    assert!(u64::from(caught) > KILLS / 3, "{caught}");
}

/// The maps of a node may hold 2 to this power of service records.
fn limit(power: u32) -> String {
    format!("--max-entries=services={}", 1_u32 << power)
}

const GROWTHS: u64 = 10;
const LAYOUTS: u64 = 8;
const KILLS: u64 = GROWTHS + LAYOUTS + 1;
/// About as long as a build without optimisation takes to make a generation.
const SPAN_MS: u64 = 300;
/// Ports of a Service: the most that a slice may have.
const PORTS: i32 = 100;
/// How long the agent may take to read and write fifty thousand of something.
const PATIENCE: Duration = Duration::from_mins(1);
