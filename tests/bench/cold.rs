// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cold start: from the start of a proxy until the last of all Services answers, and what
//! the proxy holds then.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use lab::{proxy::Proxy, wait::monotonic_ns};

use crate::{
    bed::{Bed, Column},
    bulk::Exposed,
    machine::Held,
    probe::Task,
    proxy::{self, START_LIMIT},
    report::{Line, Section},
    rounds::say,
};

/// What a cold start took.
struct Start {
    proxy: Proxy,
    /// Until the first Service answered, seconds.
    first: f64,
    /// Until each had answered once, seconds.
    last: f64,
    /// How long asking each takes when all answer, seconds.
    sweep: f64,
    held: Held,
}

/// Starts each proxy alone; the others stand still. They go on sleeping.
pub(crate) fn run(bed: &mut Bed) -> Result<Section> {
    let frontends: Vec<_> = bed.many().map(|exposed| Exposed::frontend(&exposed)).collect();
    let services = bed.scale.services;
    let (cluster, columns) = bed.large()?;
    let mut starts = Vec::new();
    for column in columns {
        let proxy = column.proxy.context("a column with Services has a proxy")?;
        say(&format!("cold start of {}", proxy.name()));
        let started_ns = monotonic_ns();
        column.running = Some(proxy::spawn(proxy, &column.node, cluster, &column.memory)?);
        let start = measure(column, proxy, &frontends, started_ns);
        let running = column.running.as_mut().context("just started")?;
        starts.push(start.with_context(|| running.tail())?);
        running.sleep()?;
    }
    Ok(section(services, &starts))
}

/// Asks every Service until it answers, then all once more.
fn measure(
    column: &mut Column,
    proxy: Proxy,
    frontends: &[SocketAddr],
    started_ns: u64,
) -> Result<Start> {
    let limit_ms = u64::try_from(START_LIMIT.as_millis())?;
    let task = Task::Sweep { to: frontends.to_vec(), limit_ms };
    column.probe.begin(&task)?;
    let (first_ns, last_ns) = column.probe.happened()?;
    let again_ns = monotonic_ns();
    column.probe.begin(&task)?;
    let (_, end_ns) = column.probe.happened()?;
    let running = column.running.as_mut().context("it runs")?;
    let pid = running.process().pid();
    let secs = |from: u64, to: u64| std::time::Duration::from_nanos(to - from).as_secs_f64();
    Ok(Start {
        proxy,
        first: secs(started_ns, first_ns),
        last: secs(started_ns, last_ns),
        sweep: secs(again_ns, end_ns),
        held: column.memory.of(pid)?,
    })
}

/// The table.
fn section(services: u32, starts: &[Start]) -> Section {
    let ours = starts.first().is_some_and(|start| start.proxy == Proxy::Sluice);
    let line = |name: &str, unit, value: fn(&Start) -> Option<f64>| {
        Line::new(name, unit, starts.iter().map(value).collect())
    };
    let lines = vec![
        line("the first Service answers", "s", |start| Some(start.first)),
        line("every Service has answered", "s", |start| Some(start.last)).at_most(2.0, ours),
        line("asking all of them takes by itself", "s", |start| Some(start.sweep)),
        line("resident memory", "MB", |start| megabytes(start.held.resident)).at_most(60.0, ours),
        line("of that its own, without files and maps", "MB", |start| megabytes(start.held.own)),
        line("charged to its cgroup, kernel memory too", "MB", |start| {
            start.held.charged.and_then(megabytes)
        }),
    ];
    let title = format!("Cold start at {services} Services with {} endpoints", 2 * services);
    let names = starts.iter().map(|start| start.proxy.name().to_owned());
    Section::side(
        &title,
        "from the start of the process, while the others stand still; each Service is asked in \
         turn until it answers",
        names.collect(),
        lines,
    )
}

/// Bytes as megabytes.
fn megabytes(bytes: u64) -> Option<f64> {
    Some(f64::from(u32::try_from(bytes / 1000).ok()?) / 1e3)
}
