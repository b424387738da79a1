// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Metrics: what the kernel programs count, how full the maps are, how long syncs take.
//!
//! Kernel counters are read when a scrape asks for them; nothing polls.

mod client;
mod process;
mod proxy;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use lb_common::counter::Counter;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{
        counter::{ConstCounter, Counter as Count},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tokio::sync::watch;

use crate::{plan::difference::COMPARED, source::Status};

pub use client::ClientMetrics;
pub use proxy::{Changes, ProxyMetrics};

/// Everything that `/metrics` shows. Each component holds the part that it feeds.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Fed by the reconcile loop.
    pub sync: SyncMetrics,
    /// kube-proxy's own.
    pub proxy: ProxyMetrics,
    /// The other page, `/metrics/slis`.
    slis: Registry,
    /// Checks of the plain `/healthz` (KEP-3466).
    checks: Count,
}

/// What the reconcile loop reports.
#[derive(Clone, Debug)]
pub struct SyncMetrics {
    /// Time from taking up changes to having them in the maps.
    pub duration: Histogram,
    /// Map writes; a restart that finds no change adds none.
    pub writes: Count,
    /// Syncs that failed and were tried again.
    pub failures: Count,
    /// Elements that somebody else had changed and that were written again, by map.
    pub repaired: Family<[(&'static str, &'static str); 1], Count>,
    /// Values that were ignored, now.
    pub issues: Gauge,
    /// Service ports that are served, now.
    pub services: Gauge,
    /// Backends that are served, now.
    pub backends: Gauge,
}

/// What the kernel holds at the moment of a scrape.
pub trait Kernel: fmt::Debug + Send + Sync + 'static {
    /// Everything at once: the maps are opened for it.
    fn read(&self) -> Reading;
}

/// What the kernel holds.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Each counter's sum over the CPUs, in the order of [`Counter::ALL`]; empty if the
    /// map cannot be read.
    pub counters: Vec<u64>,
    /// Each map's name, used entries and capacity.
    pub fills: Vec<Fill>,
    /// Flows of clients outside, by phase; empty if they were never counted.
    pub flows: Vec<(&'static str, u64)>,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fill {
    /// The map's name.
    pub map: &'static str,
    /// Entries in use.
    pub used: u64,
    /// Entries that fit.
    pub capacity: u64,
    /// Service ports, or addresses of the node, that found no room.
    pub waiting: u64,
}

/// A metric of each map: its name, its help and its value.
type Measure = (&'static str, &'static str, fn(&Fill) -> u64);

/// Asks the kernel at each scrape.
#[derive(Debug)]
struct KernelCollector(Mutex<Box<dyn Kernel>>);

impl Metrics {
    /// A registry over what the kernel holds, what became of requests to the API server, and
    /// how the source fares.
    pub fn new(
        kernel: Box<dyn Kernel>,
        client: &ClientMetrics,
        source: watch::Receiver<Status>,
    ) -> Arc<Self> {
        let mut registry = Registry::default();
        let (sync, proxy) = (SyncMetrics::default(), ProxyMetrics::default());
        let ours = registry.sub_registry_with_prefix("sluice");
        sync.register(ours);
        ours.register_collector(Box::new(KernelCollector(Mutex::new(kernel))));
        ours.register_collector(Box::new(client::SourceCollector(source)));
        client.register(registry.sub_registry_with_prefix("rest_client"));
        proxy.register(registry.sub_registry_with_prefix("kubeproxy"));
        let process = registry.sub_registry_with_prefix("process");
        process.register_collector(Box::new(process::ProcessCollector));
        let (slis, checks) = slis();
        Arc::new(Self { registry, sync, proxy, slis, checks })
    }

    /// Notes a question for the plain `/healthz`, which is always answered well.
    pub fn checked(&self) {
        self.checks.inc();
    }

    /// The page in the `OpenMetrics` text format.
    pub fn encode(&self) -> String {
        page(&self.registry)
    }

    /// The page of `/metrics/slis`, in the same format.
    pub fn encode_slis(&self) -> String {
        page(&self.slis)
    }
}

impl SyncMetrics {
    /// Counts one sync.
    pub fn observe(&self, duration: Duration, writes: u64) {
        self.duration.observe(duration.as_secs_f64());
        self.writes.inc_by(writes);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "sync_duration",
            "Time from taking up changes to having them in the maps",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register("map_writes", "Map writes since the agent started", self.writes.clone());
        registry.register(
            "sync_failures",
            "Syncs that failed and were tried again",
            self.failures.clone(),
        );
        registry.register(
            "map_repaired",
            "Elements that somebody else had changed and the agent wrote again, by map",
            self.repaired.clone(),
        );
        registry.register(
            "issues",
            "Values of Kubernetes objects that are ignored now",
            self.issues.clone(),
        );
        registry.register("service_ports", "Service ports that are served", self.services.clone());
        registry.register("backends", "Backends that are served", self.backends.clone());
    }
}

impl Default for SyncMetrics {
    fn default() -> Self {
        Self {
            // 0.1 ms to 1.6 s: a changed slice is at the lower end, a first list at the upper.
            duration: Histogram::new(exponential_buckets(0.0001, 2.0, 15)),
            writes: Count::default(),
            failures: Count::default(),
            repaired: repaired(),
            issues: Gauge::default(),
            services: Gauge::default(),
            backends: Gauge::default(),
        }
    }
}

impl Collector for KernelCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Reading { counters, fills, flows } =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).read();
        let counter = ConstCounter::new(0_u64);
        let mut decisions = encoder.encode_descriptor(
            "decisions",
            "Exits of the kernel programs, by reason",
            None,
            counter.metric_type(),
        )?;
        for (counter, value) in Counter::ALL.iter().zip(counters) {
            let labels = [("reason", counter.name())];
            ConstCounter::new(value).encode(decisions.encode_family(&labels)?)?;
        }
        encode_flows(&mut encoder, &flows)?;
        let values: [Measure; 3] = [
            ("map_entries", "Entries in use, by map", |fill| fill.used),
            ("map_capacity", "Entries that fit, by map", |fill| fill.capacity),
            ("map_waiting", "Service ports or addresses without room, by map", |fill| fill.waiting),
        ];
        for (name, help, value) in values {
            let gauge = ConstGauge::new(0_i64);
            let mut family = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            for fill in &fills {
                let labels = [("map", fill.map)];
                let value = i64::try_from(value(fill)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// A count for each map, so that the first repair is an increase.
fn repaired() -> Family<[(&'static str, &'static str); 1], Count> {
    let family = Family::default();
    for map in COMPARED {
        drop(family.get_or_create(&[("map", map)]));
    }
    family
}

fn encode_flows(encoder: &mut DescriptorEncoder<'_>, flows: &[(&str, u64)]) -> fmt::Result {
    let gauge = ConstGauge::new(0_i64);
    let help = "Flows of clients outside, by phase, when they were last counted";
    let mut family = encoder.encode_descriptor("flows", help, None, gauge.metric_type())?;
    for (phase, count) in flows {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        ConstGauge::new(count).encode(family.encode_family(&[("phase", *phase)])?)?;
    }
    Ok(())
}

fn page(registry: &Registry) -> String {
    let mut page = String::new();
    if let Err(error) = encode(&mut page, registry) {
        tracing::error!(%error, "metrics cannot be written");
    }
    page
}

/// What kube-proxy says of its health check: `ping`, which never fails.
fn slis() -> (Registry, Count) {
    let mut root = Registry::default();
    let started = Gauge::<f64, AtomicU64>::default();
    started.set(process::started_secs().unwrap_or_default());
    root.register("process_start_time_seconds", process::STARTED, started);
    let slis = root.sub_registry_with_prefix("kubernetes");
    let healthy: Family<[(&str, &str); 2], Gauge> = Family::default();
    healthy.get_or_create(&[CHECK, ("type", "healthz")]).set(1);
    let checks: Family<[(&str, &str); 3], Count> = Family::default();
    let labels = [CHECK, ("status", "success"), ("type", "healthz")];
    let count = checks.get_or_create_owned(&labels);
    slis.register("healthcheck", "This metric records the result of a single healthcheck", healthy);
    slis.register("healthchecks", "This metric records the results of all healthcheck", checks);
    (root, count)
}

/// The one check.
const CHECK: (&str, &str) = ("name", "ping");

/// A page without a kernel.
#[cfg(test)]
pub(crate) fn empty() -> Arc<Metrics> {
    #[derive(Debug)]
    struct Nothing;
    impl Kernel for Nothing {
        fn read(&self) -> Reading {
            Reading::default()
        }
    }
    Metrics::new(Box::new(Nothing), &ClientMetrics::default(), watch::channel(Status::default()).1)
}

#[cfg(test)]
mod tests;
