// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cluster that exceeds what the maps may hold, as an operator sees it.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Service;
use lab::{
    Lab,
    agent::{Agent, AgentSpec},
    driver::Driver,
    manifests::{Exposed, Manifests},
    need_lab,
    objects::{self, Port},
    served::{Served, cluster_ips, vip},
    wait,
    wire::{AskSpec, Family},
};
use serde_json::json;

/// Twenty Services, the eldest with the highest number, for an agent that may hold fourteen.
struct Crowd {
    served: Served,
    exposed: Vec<Exposed>,
    driver: Driver,
}

impl Crowd {
    /// All are there before the agent starts, so that it chooses by age and not by arrival.
    fn start() -> Self {
        let lab = Lab::builder().start().unwrap();
        let manifests = Manifests::of(&lab).unwrap();
        let pods = lab.pods();
        let exposed = (0..SERVICES).map(|number| {
            let service = aged(number, SERVICES - number);
            manifests.expose(&lab, service, &pods[2..3]).unwrap()
        });
        let exposed = exposed.collect();
        let spec = AgentSpec::manifests(manifests.dir()).arg(LIMIT);
        let agent = Agent::start(lab.node("node-1").unwrap(), &spec).unwrap();
        let driver = pods[0].driver().unwrap();
        Self { served: Served { agent, manifests, lab }, exposed, driver }
    }

    /// Starts another agent on what the last one left.
    fn restart(&mut self, limit: Option<&str>) {
        self.served.agent.kill().unwrap();
        let spec = limit.into_iter().fold(self.served.spec(), AgentSpec::arg);
        let node = self.served.node().unwrap().clone();
        self.served.agent = Agent::start(&node, &spec).unwrap();
    }

    /// Whether a request to the Service is answered, and by whom.
    fn ask(&self, number: u8) -> Option<String> {
        let mut ask = AskSpec::tcp(vip(Family::V4, FIRST + number));
        // What is not served goes to nobody: no answer ever comes.
        ask.socket.timeout_ms = 200;
        let answer = self.driver.ask(ask);
        answer.ok().map(|answer| answer.echo.pod)
    }

    /// Waits until these Services wait for room and no others: `show services`, the metrics
    /// and sockets agree.
    fn await_waiting(&self, waiting: &[u8]) {
        wait::for_value(Duration::from_secs(10), &format!("{waiting:?} to wait"), || {
            let ignored = self.served.agent.ignored()?;
            ensure!(ignored.len() == waiting.len(), "{ignored:?}");
            for number in waiting {
                let line = format!(
                    "Service default/web-{number:02}: service port default/web-{number:02}:\
                     tcp/TCP (IPv4): map SERVICES is full: not served until there is room; raise \
                     --max-entries services, or remove Services"
                );
                ensure!(ignored.contains(&line), "{line} is not in {ignored:#?}");
            }
            let metric = |name: &str| self.served.agent.metric(name);
            let count = f64::from(u32::try_from(waiting.len())?);
            for name in ["sluice_map_waiting{map=\"SERVICES\"}", "sluice_issues"] {
                let value = metric(name)?;
                ensure!((value - count).abs() < 0.5, "{name} is {value}");
            }
            Ok(())
        })
        .unwrap();
        for number in 0..SERVICES {
            let exists = self.exposed.iter().any(|exposed| is(exposed, number));
            let served = exists && !waiting.contains(&number);
            assert_eq!(self.ask(number).is_some(), served, "web-{number:02} of {waiting:?}");
        }
    }
}

/// A ClusterIP Service, IPv4 and TCP: one record in SERVICES.
fn aged(number: u8, second: u8) -> Service {
    let ports = &Port::both(80, 8080)[..1];
    let addresses = &cluster_ips(FIRST + number)[..1];
    let mut service = objects::service(&format!("web-{number:02}"), addresses, ports);
    let created = json!(format!("2024-01-01T00:00:{second:02}Z"));
    service.metadata.creation_timestamp = Some(serde_json::from_value(created).unwrap());
    service
}

fn is(exposed: &Exposed, number: u8) -> bool {
    exposed.service.metadata.name == Some(format!("web-{number:02}"))
}

/// The youngest find no room; they are named with the map, the reason and what to do; the
/// others work, follow their endpoints and survive restarts; what waits is served as soon as
/// there is room, by itself or by another limit.
#[test]
fn a_map_that_is_full_is_told_and_all_else_works() {
    need_lab!();
    let mut crowd = Crowd::start();
    crowd.await_waiting(&[0, 1, 2, 3, 4, 5]);
    assert_eq!(crowd.served.agent.readyz().unwrap().0, 200, "a full map is no failure");

    // What is served follows its endpoints.
    let pods = crowd.served.lab.pods();
    let eldest = crowd.exposed.iter_mut().find(|exposed| is(exposed, 19)).unwrap();
    eldest.take_out(&pods[2]);
    eldest.add(&pods[1]).unwrap();
    crowd.served.rewrite(&crowd.exposed[19]).unwrap();
    assert_eq!(crowd.ask(19).as_deref(), Some("pod-1-2"));

    // A restart takes nothing from whom it was given to, and writes nothing.
    crowd.restart(Some(LIMIT));
    crowd.await_waiting(&[0, 1, 2, 3, 4, 5]);
    let writes = crowd.served.agent.metric("sluice_map_writes_total").unwrap();
    assert!(writes < 1.0, "{writes} writes");

    // Not even an elder one takes it.
    let service = aged(5, 0);
    crowd.exposed[5].service = service;
    crowd.exposed[5].write().unwrap();
    crowd.await_waiting(&[0, 1, 2, 3, 4, 5]);

    // Two leave: the two eldest that wait are served, without anybody doing anything.
    for number in [12, 10] {
        crowd.exposed.remove(number).withdraw().unwrap();
    }
    crowd.await_waiting(&[0, 1, 2, 3]);

    // Without the limit there is room for all.
    crowd.restart(None);
    crowd.await_waiting(&[]);
    let log = crowd.served.agent.log();
    let told = |what: &str| {
        let lines = log.lines().filter(|line| line.contains(what) && line.contains("web-00"));
        lines.count()
    };
    assert_eq!(told("map SERVICES is full"), 2, "once for each agent that met it:\n{log}");
    crowd.served.await_idle().unwrap();
}

const SERVICES: u8 = 20;
/// The last byte of the first one's ClusterIP.
const FIRST: u8 = 100;
/// The smallest limit: 16, of which index 0 and the self-test's are no Service's.
const LIMIT: &str = "--max-entries=services=16";
