// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SIGKILL at any point of an apply: the next start converges.

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    agent::Agent,
    driver::Driver,
    manifests::Exposed,
    need_lab,
    pod::Pod,
    served::{Served, plain, vip},
    wire::{AskSpec, Family, LoadSpec},
};

/// SYN-01, SOC-11: fifty times for real, beside the property test over every op.
#[test]
fn killed_in_the_middle_of_an_apply_fifty_times() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let node = served.node().unwrap().clone();
    let pods = served.lab.pods();
    served.expose("still", 10, &pods[2..3]).unwrap();
    let mut moving: Vec<Exposed> = (0..SERVICES)
        .map(|number| {
            let service = plain(&format!("moving-{number}"), FIRST + number);
            served.manifests.expose(&served.lab, service, &pods[..2]).unwrap()
        })
        .collect();
    let driver = pods[0].driver().unwrap();
    let ask = AskSpec::tcp(vip(Family::V4, 10));
    let still = driver.load(LoadSpec::paced(ask, 100, 300_000)).unwrap();
    let mut random = Random(SEED);
    let started = Instant::now();
    for round in 0..50 {
        // A running agent that is killed while it follows changes, or a starting
        // one that is killed while it reads the list: by turns.
        if round % 2 == 0 {
            served.agent = Agent::start(&node, &served.spec()).unwrap();
            change(&mut moving, &pods, &mut random);
        } else {
            change(&mut moving, &pods, &mut random);
            served.agent = Agent::spawn(&node, &served.spec()).unwrap();
        }
        thread::sleep(Duration::from_micros(random.below(60_000)));
        served.agent.kill().unwrap();
        if round % 10 == 9 {
            served.agent = Agent::start(&node, &served.spec()).unwrap();
            converged(&served, &driver, &moving);
            served.agent.kill().unwrap();
        }
    }
    println!("50 kills in {:?}", started.elapsed());
    let report = driver.stop_load(still).unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
    assert_eq!(report.pods.len(), 1, "{:?}", report.pods);
}

/// Gives a third of the Services other endpoints.
fn change(moving: &mut [Exposed], pods: &[Pod], random: &mut Random) {
    for exposed in moving {
        if random.below(3) != 0 {
            continue;
        }
        for pod in pods {
            exposed.take_out(pod);
        }
        let first = usize::try_from(random.below(4)).unwrap();
        let count = usize::try_from(random.below(4)).unwrap();
        for pod in pods.iter().cycle().skip(first).take(count) {
            exposed.add(pod).unwrap();
        }
        exposed.write().unwrap();
    }
}

/// The kernel has what the files say, and sockets get it.
fn converged(served: &Served, driver: &Driver, moving: &[Exposed]) {
    served.await_all(moving).unwrap();
    for (number, exposed) in (FIRST..).zip(moving) {
        let to = vip(Family::V6, number);
        let answer = driver.ask(AskSpec::tcp(to));
        if exposed.backings.is_empty() {
            assert_eq!(answer.unwrap_err().name, "ECONNREFUSED");
        } else {
            let pod = answer.unwrap().echo.pod;
            assert!(exposed.backings.iter().any(|backing| backing.name == pod), "{pod}");
        }
    }
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// Services whose endpoints change.
const SERVICES: u8 = 60;
/// The last byte of the first one's ClusterIP.
const FIRST: u8 = 100;
/// Where the random numbers begin.
const SEED: u64 = 0x5157_1ce5;
