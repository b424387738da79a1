// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Endpoints of 200 Services are replaced all the time, under load.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use lab::{
    Lab,
    manifests::Exposed,
    need_lab,
    pod::Pod,
    served::{Served, plain, vip},
    wait::{self, monotonic_ns},
    wire::{AskSpec, Family, LoadSpec, LoggedRequest},
};

/// The Services, and what their sets were.
struct Fleet {
    exposed: Vec<Exposed>,
    /// Pods that may become endpoints.
    pods: Vec<Pod>,
    /// Of each Service, the ready endpoints from a moment on (CLOCK_MONOTONIC).
    history: Vec<Vec<(u64, Vec<String>)>>,
    /// When the maps were seen to hold all that was written before.
    settled: Vec<u64>,
    random: u64,
}

/// UPD-10, SYN-05, SYN-07, SOC-11: every connection lands on a backend that was
/// in the set at that time; backends that are drained before they stop cost none.
#[test]
fn churn_of_two_hundred_services_under_load() {
    need_lab!();
    let served = Served::with(Lab::builder().pods(4), |spec| spec).unwrap();
    let pods = served.lab.pods();
    let mut fleet = Fleet::new(&served, &pods[1..]);
    served.await_all(&fleet.exposed).unwrap();
    let driver = pods[0].driver().unwrap();
    let load = driver.load(load()).unwrap();
    let ends = Instant::now() + duration();
    let (mut changes, mut stops) = (0_u32, 0_usize);
    while Instant::now() < ends {
        for _ in 0..BLOCKS {
            for _ in 0..STEPS {
                fleet.step();
                changes += 1;
                thread::sleep(Duration::from_millis(5));
            }
            fleet.settle(&served);
        }
        let pod = fleet.pods[stops % fleet.pods.len()].clone();
        fleet.rest(&served, &pod);
        stops += 1;
    }
    let report = driver.stop_load(load).unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    let mut latest = 0;
    for request in &report.log {
        latest = latest.max(fleet.lateness(request));
    }
    println!(
        "{} connections to {SERVICES} Services during {changes} changes and {stops} drained and \
         stopped backends: none failed, none to a backend that had left its set in the maps; the \
         latest began {} ms after the file was written",
        report.ok,
        latest / 1_000_000
    );
    assert!(report.ok > 100 && changes > 100 && stops > 1, "{} {changes} {stops}", report.ok);
    served.await_idle().unwrap();
}

impl Fleet {
    /// Writes all Services, three endpoints each.
    fn new(served: &Served, pods: &[Pod]) -> Self {
        let mut fleet = Self {
            exposed: Vec::new(),
            pods: pods.to_vec(),
            history: Vec::new(),
            settled: Vec::new(),
            random: 0x5eed,
        };
        for number in 0..SERVICES {
            let first = usize::from(number);
            let three: Vec<_> = pods.iter().cycle().skip(first).take(3).cloned().collect();
            let service = plain(&format!("churn-{number}"), FIRST + number);
            fleet.history.push(vec![(monotonic_ns(), names(three.iter().map(|pod| &pod.name)))]);
            fleet.exposed.push(served.manifests.expose(&served.lab, service, &three).unwrap());
        }
        fleet
    }

    /// Replaces one endpoint of one Service.
    fn step(&mut self) {
        let index = self.below(usize::from(SERVICES));
        let ready: Vec<_> = self.ready(index);
        let victim = ready[self.below(ready.len())].clone();
        self.replace(index, &victim, None);
    }

    /// Waits until the maps hold what was written.
    fn settle(&mut self, served: &Served) {
        served.await_all(&self.exposed).unwrap();
        self.settled.push(monotonic_ns());
    }

    /// Drains a pod everywhere, waits until nothing uses it, stops it, and
    /// starts it again.
    fn rest(&mut self, served: &Served, pod: &Pod) {
        for index in 0..self.exposed.len() {
            if self.ready(index).contains(&pod.name) {
                self.replace(index, &pod.name, Some(&pod.name));
            }
        }
        let own = Family::BOTH.map(|family| pod.at(family, 8080).to_string());
        wait::for_value(Duration::from_secs(10), "a drained pod to be idle", || {
            let rows = served.agent.backends()?;
            let mut used = rows.iter().filter(|row| {
                own.contains(&row.backend) && (row.sockets > 0 || !row.services.is_empty())
            });
            ensure!(used.next().is_none(), "it is used");
            Ok(())
        })
        .unwrap();
        pod.stop_serving().unwrap();
        for exposed in &mut self.exposed {
            let before = exposed.backings.len();
            exposed.take_out(pod);
            if exposed.backings.len() != before {
                exposed.write().unwrap();
            }
        }
        pod.serve(&[8080]).unwrap();
    }

    /// Takes out who was drained before, drains `victim` and adds another pod
    /// (never `without`).
    fn replace(&mut self, index: usize, victim: &str, without: Option<&str>) {
        let start = self.below(self.pods.len());
        let exposed = &mut self.exposed[index];
        exposed.backings.retain(|backing| !backing.terminating);
        let backings = &exposed.backings;
        let fresh = self.pods.iter().cycle().skip(start).take(self.pods.len()).find(|pod| {
            Some(pod.name.as_str()) != without
                && backings.iter().all(|backing| backing.name != pod.name)
        });
        exposed.add(fresh.unwrap()).unwrap();
        let leaving = exposed.backings.iter_mut().find(|backing| backing.name == victim);
        leaving.unwrap().drain();
        let ready = self.ready(index);
        self.history[index].push((monotonic_ns(), ready));
        self.exposed[index].write().unwrap();
    }

    /// Names of a Service's ready endpoints.
    fn ready(&self, index: usize) -> Vec<String> {
        let backings = self.exposed[index].backings.iter();
        names(backings.filter(|backing| backing.ready).map(|backing| &backing.name))
    }

    /// How long before a request began a set without its backend was written, in
    /// nanoseconds; 0 while it was in it. By then the maps may not have had it yet: until
    /// they were seen to have it, however busy the machine is.
    fn lateness(&self, request: &LoggedRequest) -> u64 {
        let pod = request.pod.as_ref().expect("no request failed");
        let index = (0..SERVICES)
            .position(|number| vip(Family::V6, FIRST + number) == request.to)
            .expect("a Service of the fleet");
        let history = &self.history[index];
        // Versions that were written before the request ended, and when each
        // was followed by the next.
        let ends = history.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
        let sets = history.iter().zip(ends).filter(|((from, ready), until)| {
            *from <= request.end_ns && ready.contains(pod) && request.start_ns <= self.gone(*until)
        });
        let late = sets.map(|(_, until)| request.start_ns.saturating_sub(until)).min();
        late.unwrap_or_else(|| panic!("{pod} was not behind {} any more", request.to))
    }

    /// When the maps were seen without a set that was replaced at a moment.
    fn gone(&self, replaced: u64) -> u64 {
        let next = self.settled.partition_point(|settled| *settled < replaced);
        self.settled.get(next).copied().unwrap_or(u64::MAX)
    }

    /// A number below `limit`, the same in every run (xorshift).
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap() % limit
    }
}

/// Connections to all Services in turn.
fn load() -> LoadSpec {
    let targets: Vec<_> = (FIRST..FIRST + SERVICES).map(|number| vip(Family::V6, number)).collect();
    let ask = AskSpec::tcp(targets[0]);
    LoadSpec { targets, log: true, ..LoadSpec::paced(ask, RATE, 300_000) }
}

/// Owned names.
fn names<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    names.cloned().collect()
}

/// A minute; ten seconds where `CI_FAST` is set.
fn duration() -> Duration {
    Duration::from_secs(if env::var_os("CI_FAST").is_some() { 10 } else { 60 })
}

/// Services under churn.
const SERVICES: u8 = 200;
/// The last byte of the first one's ClusterIP.
const FIRST: u8 = 20;
/// Looks at the maps between two stops of a pod.
const BLOCKS: u32 = 4;
/// Changes before each look.
const STEPS: u32 = 25;
/// Connections a second.
const RATE: u32 = 400;
