// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The metrics that kube-proxy has, under its names, with its labels and buckets (MET-01 to
//! MET-10, MET-12): its dashboards and alerts go on working.
//!
//! One loop serves both families, so both families' series say the same where kube-proxy's
//! two loops would differ (FAM-01).

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime},
};

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{model, plan::stranded::Stranded};

/// kube-proxy's metrics. Cheap to clone: clones feed the same series.
#[derive(Clone, Debug)]
pub struct ProxyMetrics {
    /// One sync, of either kind (MET-01).
    sync: ByFamily<Histogram>,
    /// A sync that compared everything with what the maps really hold (MET-02).
    full_sync: ByFamily<Histogram>,
    /// A sync of what changed alone (MET-02).
    partial_sync: ByFamily<Histogram>,
    /// When a sync last succeeded, in seconds since 1970 (MET-03).
    last_synced: ByFamily<Seconds>,
    /// When changes last came, in seconds since 1970 (MET-04).
    last_queued: ByFamily<Seconds>,
    /// From the change of a pod or Service to its being in the maps (MET-05).
    programming: ByFamily<Histogram>,
    /// EndpointSlice events that wait, and all of them (MET-06).
    pub endpoint_changes: Changes,
    /// The same of Services (MET-07).
    pub service_changes: Changes,
    /// Service ports whose Local policy finds nothing here (MET-08).
    no_local: Family<[(&'static str, &'static str); 2], Gauge>,
    /// Replies of `/healthz` and `/livez` by status (MET-09).
    healthz: ByLabel<Counter>,
    livez: ByLabel<Counter>,
    /// Rounds of looking for stale UDP flows, and how many were ended (MET-10).
    reconciler: ByFamily<Histogram>,
    deleted: ByFamily<Counter>,
    /// Syncs that failed, and removals of what is no longer used that failed (MET-12).
    sync_failures: ByFamily<Counter>,
    cleanup_failures: ByFamily<Counter>,
}

/// Events of one kind of object.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Those that are not in the maps yet.
    pub pending: Gauge,
    /// All that came.
    pub total: Counter,
}

/// Series by one label.
type ByLabel<M, C = fn() -> M> = Family<[(&'static str, &'static str); 1], M, C>;

/// Series by family.
type ByFamily<M> = ByLabel<M>;

/// A point in time, in seconds since 1970.
type Seconds = Gauge<f64, AtomicU64>;

impl ProxyMetrics {
    /// Notes a sync that succeeded.
    pub fn synced(&self, took: Duration, full: bool) {
        let kind = if full { &self.full_sync } else { &self.partial_sync };
        for label in FAMILIES {
            self.sync.get_or_create(&label).observe(took.as_secs_f64());
            kind.get_or_create(&label).observe(took.as_secs_f64());
            self.last_synced.get_or_create(&label).set(now());
        }
        self.endpoint_changes.pending.set(0);
        self.service_changes.pending.set(0);
    }

    /// Notes that changes came.
    pub fn queued(&self) {
        for label in FAMILIES {
            self.last_queued.get_or_create(&label).set(now());
        }
    }

    /// Notes that a change took so long from its cause to the maps.
    pub fn programmed(&self, family: model::Family, took: Duration) {
        self.programming.get_or_create(&label(family)).observe(took.as_secs_f64());
    }

    /// Notes a sync that failed.
    pub fn sync_failed(&self) {
        for label in FAMILIES {
            self.sync_failures.get_or_create(&label).inc();
        }
    }

    /// Notes that what is no longer used could not be removed.
    pub fn cleanup_failed(&self) {
        for label in FAMILIES {
            self.cleanup_failures.get_or_create(&label).inc();
        }
    }

    /// Says how many service ports have nothing local under a Local policy.
    pub fn set_stranded(&self, stranded: &Stranded) {
        for family in model::Family::ALL {
            let [label] = label(family);
            for (policy, count) in
                [("internal", stranded.internal(family)), ("external", stranded.external(family))]
            {
                let value = i64::try_from(count).unwrap_or(i64::MAX);
                self.no_local.get_or_create(&[("traffic_policy", policy), label]).set(value);
            }
        }
    }

    /// Notes a reply of `/healthz`.
    pub fn answered_healthz(&self, good: bool) {
        self.healthz.get_or_create(&code(good)).inc();
    }

    /// Notes a reply of `/livez`.
    pub fn answered_livez(&self, good: bool) {
        self.livez.get_or_create(&code(good)).inc();
    }

    /// Notes a round of looking for stale UDP flows of a family, and how many were ended.
    pub fn reconciled(&self, family: model::Family, took: Duration, deleted: u64) {
        self.reconciler.get_or_create(&label(family)).observe(took.as_secs_f64());
        self.deleted.get_or_create(&label(family)).inc_by(deleted);
    }

    /// Puts every series under its name; the registry's prefix is `kubeproxy`.
    pub(super) fn register(&self, registry: &mut Registry) {
        self.register_syncs(registry);
        self.register_changes(registry);
        self.register_failures(registry);
    }

    fn register_syncs(&self, registry: &mut Registry) {
        registry.register(
            "sync_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds",
            self.sync.clone(),
        );
        registry.register(
            "sync_full_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for full resyncs",
            self.full_sync.clone(),
        );
        registry.register(
            "sync_partial_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for partial resyncs",
            self.partial_sync.clone(),
        );
        registry.register(
            "sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were successfully synced",
            self.last_synced.clone(),
        );
        registry.register(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "The last time a sync of proxy rules was queued",
            self.last_queued.clone(),
        );
        registry.register(
            "network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds",
            self.programming.clone(),
        );
        registry.register(
            "conntrack_reconciler_sync_duration_seconds",
            "ReconcileConntrackFlowsLatency latency in seconds",
            self.reconciler.clone(),
        );
    }

    fn register_changes(&self, registry: &mut Registry) {
        registry.register(
            "sync_proxy_rules_endpoint_changes_pending",
            "Pending proxy rules Endpoint changes",
            self.endpoint_changes.pending.clone(),
        );
        registry.register(
            "sync_proxy_rules_endpoint_changes",
            "Cumulative proxy rules Endpoint changes",
            self.endpoint_changes.total.clone(),
        );
        registry.register(
            "sync_proxy_rules_service_changes_pending",
            "Pending proxy rules Service changes",
            self.service_changes.pending.clone(),
        );
        registry.register(
            "sync_proxy_rules_service_changes",
            "Cumulative proxy rules Service changes",
            self.service_changes.total.clone(),
        );
        registry.register(
            "sync_proxy_rules_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            self.no_local.clone(),
        );
    }

    fn register_failures(&self, registry: &mut Registry) {
        registry.register(
            "proxy_healthz",
            "Cumulative proxy healthz HTTP status",
            self.healthz.clone(),
        );
        registry.register("proxy_livez", "Cumulative proxy livez HTTP status", self.livez.clone());
        registry.register(
            "conntrack_reconciler_deleted_entries",
            "Cumulative conntrack flows deleted by conntrack reconciler",
            self.deleted.clone(),
        );
        registry.register(
            "sync_proxy_rules_nftables_sync_failures",
            "Cumulative proxy nftables sync failures",
            self.sync_failures.clone(),
        );
        registry.register(
            "sync_proxy_rules_nftables_cleanup_failures",
            "Cumulative proxy nftables cleanup failures",
            self.cleanup_failures.clone(),
        );
    }
}

impl Default for ProxyMetrics {
    /// Every series of both families is there from the start, at 0.
    fn default() -> Self {
        Self {
            sync: by_family(sync_histogram),
            full_sync: by_family(sync_histogram),
            partial_sync: by_family(sync_histogram),
            last_synced: by_family(Seconds::default),
            last_queued: by_family(Seconds::default),
            programming: by_family(programming_histogram),
            endpoint_changes: Changes::default(),
            service_changes: Changes::default(),
            no_local: Family::default(),
            healthz: by_code(),
            livez: by_code(),
            reconciler: by_family(sync_histogram),
            deleted: by_family(Counter::default),
            sync_failures: by_family(Counter::default),
            cleanup_failures: by_family(Counter::default),
        }
    }
}

/// The series of both families.
fn by_family<M>(new: fn() -> M) -> ByFamily<M>
where
    fn() -> M: MetricConstructor<M>,
{
    let family = Family::new_with_constructor(new);
    for label in FAMILIES {
        drop(family.get_or_create(&label));
    }
    family
}

/// The series of the two statuses.
fn by_code() -> ByLabel<Counter> {
    let family: ByLabel<Counter> = Family::new_with_constructor(Counter::default);
    for good in [true, false] {
        drop(family.get_or_create(&code(good)));
    }
    family
}

/// 1 ms × 2^0 to 2^14 (MET-01).
fn sync_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// 0, which kube-proxy has by accident, 0.25 and 0.5 s, each second to 59, each 5 to 115, each
/// 30 to 300 (MET-05).
fn programming_histogram() -> Histogram {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    Histogram::new([0.0, 0.25, 0.5].into_iter().chain(seconds.map(f64::from)))
}

fn label(family: model::Family) -> [(&'static str, &'static str); 1] {
    match family {
        model::Family::V4 => IPV4,
        model::Family::V6 => IPV6,
    }
}

fn code(good: bool) -> [(&'static str, &'static str); 1] {
    [("code", if good { "200" } else { "503" })]
}

/// Now, in seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// The labels of the families.
const IPV4: [(&str, &str); 1] = [("ip_family", "IPv4")];
const IPV6: [(&str, &str); 1] = [("ip_family", "IPv6")];
const FAMILIES: [[(&str, &str); 1]; 2] = [IPV4, IPV6];
