// SPDX-License-Identifier: Apache-2.0 OR MIT
//! L3: every case converges, whatever fails on the way and wherever the agent is killed.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod driver;

use std::collections::BTreeSet;

use lb_agent::plan::desired::compile;

use cases::{CASES, Case, steps_of};
use driver::{Driver, served};

/// Of 100 writes, how many fail.
const FAULTS_PERCENT: u64 = 10;

/// Tries in which every case has to converge; with one write in ten failing the longest plan
/// here takes a dozen.
const TRIES: usize = 200;

#[test]
fn every_case_converges_while_a_tenth_of_all_writes_fails() {
    for case in CASES {
        for seed in 1..=24 {
            let mut driver = Driver::new(seed);
            driver.fake.faults_percent = FAULTS_PERCENT;
            for (step, snapshot) in steps_of(case).into_iter().enumerate() {
                let tries = driver.converge(&snapshot, TRIES);
                assert!(tries < TRIES, "{}, step {step}, seed {seed}", case.name);
                driver.check(&snapshot, &format!("{}, step {step}, seed {seed}", case.name));
            }
        }
    }
}

#[test]
fn every_case_converges_when_each_change_comes_during_a_grace_period() {
    for case in CASES {
        for seed in 1..=24 {
            let mut driver = Driver::new(seed);
            (driver.fake.faults_percent, driver.overlaps) = (FAULTS_PERCENT, true);
            for snapshot in steps_of(case) {
                driver.attempt(&snapshot);
            }
            let last = steps_of(case).pop().unwrap();
            assert!(driver.converge(&last, TRIES) < TRIES, "{}, seed {seed}", case.name);
            driver.check(&last, &format!("{}, seed {seed}", case.name));
        }
    }
}

#[test]
fn every_case_converges_after_a_kill_at_any_op() {
    for (case, overlaps) in CASES.iter().flat_map(|case| [(case, false), (case, true)]) {
        let total = ops_of(case);
        for killed_after in 0..=total {
            let mut driver = Driver::new(1);
            (driver.fake.crash_after, driver.overlaps) = (Some(killed_after), overlaps);
            for snapshot in steps_of(case) {
                driver.attempt(&snapshot);
            }
            driver.restart();
            driver.overlaps = false;
            let last = steps_of(case).pop().unwrap();
            let what = format!("{}, killed after {killed_after} of {total} ops", case.name);
            assert_eq!(driver.converge(&last, TRIES), 1, "{what}");
            driver.check(&last, &what);
        }
    }
}

#[test]
fn a_restart_that_finds_no_change_writes_nothing() {
    for case in CASES {
        let mut driver = Driver::new(1);
        for snapshot in steps_of(case) {
            driver.converge(&snapshot, TRIES);
            let before = driver.fake.writes;
            assert_ne!(before, 0, "{}: nothing was ever written", case.name);
            driver.restart();
            driver.converge(&snapshot, TRIES);
            assert_eq!(driver.fake.writes, before, "{}", case.name);
        }
    }
}

#[test]
fn one_write_that_always_fails_does_not_hold_up_the_rest() {
    let case = CASES.iter().find(|case| case.name == "many-services").unwrap();
    let snapshot = steps_of(case).remove(0);
    let wanted: BTreeSet<_> = served(&compile(&snapshot).0);
    let mut driver = Driver::new(1);
    // FRONTENDS4 says that it is full before the agent expects it: somebody else's keys.
    driver.fake.capacities.frontends = 3;
    driver.believed.frontends = 1024;
    assert_eq!(driver.converge(&snapshot, 5), 5, "it cannot converge");
    assert_eq!(driver.fake.tables.check_refs(), vec![]);
    assert_eq!(driver.fake.tables.frontends4.len(), 3);
    assert_eq!(driver.fake.tables.node_ports.len(), 1, "node ports come after the frontends");
    driver.fake.capacities.frontends = 1024;
    assert_eq!(driver.converge(&snapshot, TRIES), 1);
    assert_eq!(driver.fake.tables.frontends().collect::<BTreeSet<_>>(), wanted);
}

/// How many ops a case takes when nothing fails.
fn ops_of(case: &Case) -> u64 {
    let mut driver = Driver::new(1);
    for snapshot in steps_of(case) {
        driver.converge(&snapshot, TRIES);
    }
    driver.fake.ops
}
