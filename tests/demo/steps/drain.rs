// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A pod drains and ends while requests come in.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lab::{
    pod::Pod,
    wait::{self, monotonic_ns},
    wire::{AskSpec, Family, HoldSpec, LoadReport, LoadSpec},
};
use serde_json::Value;

use crate::{screen::Screen, stage::Stage};

/// Takes a pod of the other node away under load.
pub(super) fn show(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    let pod = stage.lab().pod(VICTIM)?;
    let ask = AskSpec::tcp(stage.web(Family::V4));
    let open = HoldSpec { ask: ask.clone(), connections: HELD, every_ms: 20 };
    let task = stage.driver().hold(open)?;
    wait::until(LIMIT, "held connections to talk", || {
        stage.driver().hold_report(task).is_ok_and(|report| {
            report.exchanges >= u64::from(HELD) && report.pods.contains_key(VICTIM)
        })
    })?;
    let load = LoadSpec { log: true, ..LoadSpec::paced(ask, RATE, LOAD_MS) };
    let load = stage.driver().load(load)?;
    await_requests(stage, load, u64::from(RATE) / 2)?;

    let drained_ns = monotonic_ns();
    let deed = stage.drain(&pod)?;
    screen.say(&format!("{RATE} requests/s and {HELD} open connections; then {deed}"));
    await_backend(stage, &pod, "terminating", |row| row["state"] == "terminating")?;
    let known_ns = monotonic_ns();
    let held = stage.driver().stop_hold(task)?;
    screen.say(&format!(
        "node-1 knew after {:.1} ms; connections open by then: {} of {HELD} unharmed",
        ms(known_ns - drained_ns),
        HELD - u32::try_from(held.breaks.len()).unwrap_or(HELD)
    ));
    // Its last connections end by themselves; BACKEND_LOAD says when.
    await_backend(stage, &pod, "idle", |row| row["sockets"] == 0)?;
    let removed_ns = monotonic_ns();
    stage.remove(&pod)?;
    screen.say(&format!(
        "{VICTIM} served its last connection and was removed {:.1} ms after the drain began",
        ms(removed_ns - drained_ns)
    ));
    let report = stage.driver().finish_load(load, LIMIT)?;
    summary(screen, &report);
    ensure!(held.breaks.is_empty(), "open connections broke: {:?}", held.breaks);
    check(&report, known_ns, removed_ns)
}

/// Nothing failed, nobody began at the drained pod once the node knew, and enough requests
/// came afterwards to tell.
fn check(report: &LoadReport, known_ns: u64, removed_ns: u64) -> Result<()> {
    ensure!(report.failed == 0, "{} requests failed: {:?}", report.failed, report.errors);
    let late = report
        .log
        .iter()
        .filter(|request| request.start_ns > known_ns && request.pod.as_deref() == Some(VICTIM));
    let late = late.count();
    ensure!(late == 0, "{late} requests began at {VICTIM} after it was terminating");
    let before = report.log.iter().any(|request| request.pod.as_deref() == Some(VICTIM));
    ensure!(before, "{VICTIM} answered nothing before it drained");
    let after = report.log.iter().filter(|request| request.start_ns > removed_ns).count();
    ensure!(after > 100, "only {after} requests came after {VICTIM} was gone");
    Ok(())
}

/// The load in one line.
fn summary(screen: &Screen, report: &LoadReport) {
    let pods = report.pods.iter().map(|(pod, count)| format!("{pod} {count}"));
    let pods: Vec<_> = pods.collect();
    screen.say(&format!(
        "{} requests answered, {} failed; by {}",
        report.ok,
        report.failed,
        pods.join(", ")
    ));
}

/// Waits until the load has had `count` answers.
fn await_requests(stage: &Stage, load: lab::wire::Task, count: u64) -> Result<()> {
    wait::until(LIMIT, "requests to be answered", || {
        stage.driver().load_report(load).is_ok_and(|report| report.ok >= count)
    })
}

/// Waits until every backend of the pod is as asked for, or is no backend any more.
fn await_backend(
    stage: &Stage,
    pod: &Pod,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<()> {
    let prefix = format!("{}:", pod.v4);
    wait::for_value(LIMIT, &format!("{VICTIM} to be {what}"), || {
        let rows = stage.rows("backends")?;
        let of_pod = |row: &&Value| {
            row["backend"].as_str().is_some_and(|backend| backend.starts_with(&prefix))
        };
        match rows.iter().filter(of_pod).find(|row| !wanted(row)) {
            Some(row) => bail!("{row}"),
            None => Ok(()),
        }
    })
}

/// Nanoseconds as milliseconds.
fn ms(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64() * 1e3
}

/// The pod that goes; on the other node than the client.
const VICTIM: &str = "pod-2-1";
/// Requests a second.
const RATE: u32 = 500;
/// How long they come.
const LOAD_MS: u64 = 4000;
/// Connections that stay open.
const HELD: u32 = 20;
/// How long each wait may take.
const LIMIT: Duration = Duration::from_secs(10);
