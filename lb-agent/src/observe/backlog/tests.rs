// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the reconcile loop's reports become on the metrics page.

use super::*;
use crate::{
    model::{change::Listing, endpoint::EndpointSlice},
    observe::{exposition::classic, metrics},
};

/// A backlog, the page that it feeds, and the cluster as it was taken up.
struct Bed {
    page: std::sync::Arc<metrics::Metrics>,
    backlog: Backlog,
    snapshot: Snapshot,
}

impl Bed {
    /// A process that began 1000 s after 1970.
    fn new() -> Self {
        let page = metrics::empty();
        let backlog = Backlog::new(page.proxy.clone(), at(1000));
        Self { page, backlog, snapshot: Snapshot::default() }
    }

    fn queue(&mut self, batch: Vec<Change>) {
        self.backlog.queue(&batch, &self.snapshot);
        for change in batch {
            self.snapshot.apply(change);
        }
    }

    fn sync(&mut self, now: u64) {
        self.backlog.synced(Duration::from_millis(3), false, at(now));
    }

    fn has(&self, lines: &[&str]) {
        let page = classic(&self.page.encode());
        for line in lines {
            let found =
                page.lines().any(|have| have == *line || have.starts_with(&format!("{line} ")));
            assert!(found, "{line} is missing:\n{page}");
        }
    }
}

fn at(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

fn slice(name: &str, triggered: u64) -> Change {
    let name = ObjectName::new("default", name);
    let value = EndpointSlice {
        name: name.clone(),
        service: ObjectName::new("default", "web"),
        family: Family::V4,
        ports: Vec::new(),
        endpoints: Vec::new(),
        triggered: Some(at(triggered)),
    };
    Change::Slice(Object { name, value: Some(value), issues: Vec::new() })
}

fn gone(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

/// MET-01, MET-02.
#[test]
fn met_01_and_02_a_sync_counts_for_both_families_and_by_its_kind() {
    let mut bed = Bed::new();
    bed.has(&["kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 0"]);
    bed.backlog.synced(Duration::from_millis(3), true, at(1001));
    bed.sync(1002);
    bed.sync(1003);
    bed.has(&[
        "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
        "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 3",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.002\",ip_family=\"IPv6\"} 0",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.004\",ip_family=\"IPv6\"} 3",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"16.384\",ip_family=\"IPv4\"} 3",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 2",
    ]);
}

/// MET-03, MET-04.
#[test]
fn met_03_and_04_the_queued_time_runs_ahead_until_a_sync_succeeds() {
    let mut bed = Bed::new();
    let value = |bed: &Bed, name: &str| {
        let page = classic(&bed.page.encode());
        let sample = format!("kubeproxy_sync_proxy_rules_{name}{{ip_family=\"IPv6\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&sample)).unwrap();
        value.parse::<f64>().unwrap()
    };
    bed.queue(vec![slice("a", 0)]);
    bed.backlog.sync_failed();
    assert!(value(&bed, "last_queued_timestamp_seconds") > 1.7e9);
    assert!(value(&bed, "last_timestamp_seconds") < 1.0);
    bed.sync(1001);
    assert!(value(&bed, "last_timestamp_seconds") >= value(&bed, "last_queued_timestamp_seconds"));
}

#[test]
fn met_05_a_slice_is_timed_once_from_its_trigger_to_the_maps() {
    let mut bed = Bed::new();
    bed.queue(vec![slice("old", 999), slice("a", 1001), slice("gone", 1001)]);
    bed.queue(vec![Change::Slice(Object::gone(gone("gone")))]);
    bed.sync(1003);
    // The trigger stays in the object when something else changes, and in a relist.
    bed.queue(vec![slice("a", 1001)]);
    let Change::Slice(again) = slice("a", 1001) else { unreachable!() };
    bed.queue(vec![Change::Replace(Box::new(Listing {
        slices: Some(vec![again]),
        ..Listing::default()
    }))]);
    bed.sync(1010);
    let name = "kubeproxy_network_programming_duration_seconds";
    bed.has(&[
        &format!("{name}_count{{ip_family=\"IPv4\"}} 1"),
        &format!("{name}_sum{{ip_family=\"IPv4\"}} 2.0"),
        &format!("{name}_count{{ip_family=\"IPv6\"}} 0"),
    ]);
    for bound in ["0", "0.25", "0.5", "1", "59", "60", "115", "120", "300"] {
        bed.has(&[&format!("{name}_bucket{{le=\"{bound}\",ip_family=\"IPv4\"}}")]);
    }
}

/// MET-06, MET-07.
#[test]
fn met_06_and_07_events_wait_until_a_sync_and_are_counted_for_ever() {
    let mut bed = Bed::new();
    let service = |name| Change::Service(Object::gone(gone(name)));
    bed.queue(vec![slice("a", 0), slice("b", 0), service("web")]);
    bed.backlog.sync_failed();
    bed.queue(vec![slice("a", 0)]);
    bed.has(&[
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 3",
        "kubeproxy_sync_proxy_rules_service_changes_pending 1",
    ]);
    bed.sync(1001);
    bed.has(&[
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
        "# TYPE kubeproxy_sync_proxy_rules_endpoint_changes_total counter",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 3",
        "kubeproxy_sync_proxy_rules_service_changes_total 1",
    ]);
}

/// MET-10, MET-12: fed by whoever ends stale flows; the series are there before.
#[test]
fn met_10_and_12_what_failed_and_what_was_ended_is_there_from_the_start() {
    let mut bed = Bed::new();
    bed.has(&[
        "kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family=\"IPv4\"} 0",
        "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv6\"} 0",
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 0",
    ]);
    bed.backlog.sync_failed();
    bed.backlog.cleanup_failed();
    bed.page.proxy.reconciled(Family::V6, Duration::from_millis(1), 2);
    bed.sync(1001);
    bed.has(&[
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family=\"IPv6\"} 1",
        "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv6\"} 2",
    ]);
}
