// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programming latency: from writing an EndpointSlice to the first connection that reaches
//! its endpoint.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};
use lab::{cluster::Cluster, proxy::Proxy, wait::monotonic_ns};

use crate::{
    bed::{Bed, Column},
    bulk::Exposed,
    probe::Task,
    proxy::START_LIMIT,
    report::{Line, Section},
    rounds::say,
    stats::percentile,
};

/// Times of one proxy's samples, milliseconds.
#[derive(Default)]
struct Times {
    /// From before the request was sent.
    sent: Vec<f64>,
    /// From the API server's answer; below 0 when the connection was quicker.
    answered: Vec<f64>,
}

/// Writes slices in groups, one proxy awake at a time.
pub(crate) fn run(bed: &mut Bed) -> Result<Section> {
    let (services, samples) = (bed.scale.services, bed.scale.samples);
    say(&format!("programming: {samples} slices a proxy"));
    let proxies: Vec<_> = bed.large()?.1.filter_map(|column| column.proxy).collect();
    let groups = samples.div_ceil(GROUP);
    // A warm-up in each group, as a proxy that has slept has something to catch up with.
    let each = samples + groups;
    let fresh: Vec<_> = (0..u32::try_from(proxies.len())? * each).map(fresh).collect();
    bed.cluster()?.api().create_all(fresh.iter().map(Exposed::service).collect())?;
    let mut fresh = fresh.into_iter();
    let mut times: BTreeMap<&str, Times> = BTreeMap::new();
    for group in 0..groups {
        let size = GROUP.min(samples - group * GROUP);
        let (cluster, columns) = bed.large()?;
        for column in columns {
            let proxy = column.proxy.context("a column with Services has a proxy")?;
            let batch: Vec<_> = fresh.by_ref().take(size as usize + 1).collect();
            let times = times.entry(proxy.name()).or_default();
            awake(column, cluster, &batch, times).with_context(|| proxy.name())?;
        }
    }
    Ok(section(services, samples, &proxies, &times))
}

/// Wakes a proxy, writes a slice after the other, puts it to sleep.
fn awake(
    column: &mut Column,
    cluster: &Cluster,
    batch: &[Exposed],
    times: &mut Times,
) -> Result<()> {
    column.running.as_mut().context("it runs")?.wake()?;
    for (index, exposed) in batch.iter().enumerate() {
        let mut exposed = exposed.clone();
        let own = column.own();
        (exposed.endpoints, exposed.node) = (own.endpoints, own.node);
        let limit_ms = u64::try_from(START_LIMIT.as_millis())?;
        column.probe.begin(&Task::Await { to: exposed.frontend(), limit_ms })?;
        // Anywhere in the interval at which kube-proxy syncs, so that no phase is favoured.
        std::thread::sleep(Duration::from_millis(100 + 137 * (index as u64 % 8)));
        let sent_ns = monotonic_ns();
        cluster.api().create_all(vec![exposed.slice()])?;
        let answered_ns = monotonic_ns();
        let (reached_ns, _) = column.probe.happened()?;
        if index > 0 {
            times.sent.push(ms(sent_ns, reached_ns));
            times.answered.push(ms(answered_ns, reached_ns));
        }
    }
    column.running.as_mut().context("it runs")?.sleep()
}

/// The table.
fn section(
    services: u32,
    samples: u32,
    proxies: &[Proxy],
    times: &BTreeMap<&str, Times>,
) -> Section {
    let ours = proxies.first() == Some(&Proxy::Sluice);
    let line = |name: &str, value: fn(&Times) -> f64| {
        let values = proxies.iter().map(|proxy| times.get(proxy.name()).map(value));
        Line::new(name, "ms", values.collect())
    };
    let lines = vec![
        line("p50", |times| percentile(&times.sent, 50.0)),
        line("p99", |times| percentile(&times.sent, 99.0)).at_most(20.0, ours),
        line("p50 after the API server's answer", |times| percentile(&times.answered, 50.0)),
        line("p99 after the API server's answer", |times| percentile(&times.answered, 99.0)),
    ];
    let title = format!(
        "From writing an EndpointSlice to the first connection, at {services} Services with {} endpoints",
        2 * services
    );
    let note = format!(
        "{samples} slices a proxy, one at a time, through the real API server; from before the \
         request is sent, unless said otherwise; a connection is tried every 0.2 ms"
    );
    Section::side(
        &title,
        &note,
        proxies.iter().map(|proxy| proxy.name().to_owned()).collect(),
        lines,
    )
}

/// A Service that has no endpoint yet.
fn fresh(index: u32) -> Exposed {
    let [_, _, third, fourth] = index.to_be_bytes();
    Exposed {
        name: format!("fresh-{index}"),
        ip: Ipv4Addr::new(10, 96, 16 + third, fourth),
        endpoints: Vec::new(),
        node: String::new(),
        udp: false,
    }
}

/// Milliseconds between two moments.
fn ms(from_ns: u64, to_ns: u64) -> f64 {
    let forward = Duration::from_nanos(to_ns.saturating_sub(from_ns)).as_secs_f64();
    let backward = Duration::from_nanos(from_ns.saturating_sub(to_ns)).as_secs_f64();
    (forward - backward) * 1e3
}

/// Slices that are written before the next proxy has its turn.
const GROUP: u32 = 10;
