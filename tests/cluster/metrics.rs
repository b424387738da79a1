// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The metrics page beside that of the real kube-proxy.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::Service;
use lab::{
    Lab, http, need_lab,
    node::Node,
    objects::{self, Port},
    wait,
};
use serde_json::Value;

use crate::fixture::Beside;

/// What a page says, by the metric's name.
type Page = BTreeMap<String, Metric>;

/// A metric.
#[derive(Debug, Default)]
struct Metric {
    /// Its type.
    kind: String,
    /// Names of its labels, but for the bounds of a histogram.
    labels: BTreeSet<String>,
    /// Its bounds, if it is a histogram.
    bounds: Vec<String>,
}

/// MET-01 to MET-10 and MET-12 have the names, types, labels and bounds of kube-proxy's nftables
/// mode; what only one of the two has is explained here.
#[test]
fn names_types_labels_and_bounds_are_those_of_kube_proxy() {
    need_lab!();
    let beside = Beside::start(Lab::start().unwrap()).unwrap();
    let (cluster, [theirs, ours]) = (&beside.cluster, beside.nodes());
    let pods = beside.lab.pods();
    for pod in &pods {
        cluster.run_pod(pod, &[("app", "web")]).unwrap();
    }
    cluster.api().apply(&web()).unwrap();
    // Series of theirs appear when they are first observed, and so does the trigger's.
    for (node, port) in [(theirs, 10256), (ours, 10256)] {
        for path in ["/healthz", "/livez"] {
            get(node, port, path);
        }
    }
    // A trigger has whole seconds: one in the second of the start counts as before it.
    let mut ready = true;
    let (have, want) =
        wait::for_value(Duration::from_secs(30), "both pages to be complete", || {
            ready = !ready;
            cluster.set_ready(&pods[0], ready)?;
            let (have, want) = (page(&metrics(ours)), page(&metrics(theirs)));
            let programmed = beside.agent.metric(
                "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"}",
            )?;
            anyhow::ensure!(programmed > 0.0, "no slice was timed");
            let timed = want.get("kubeproxy_network_programming_duration_seconds");
            anyhow::ensure!(timed.is_some_and(|it| !it.bounds.is_empty()), "nor by kube-proxy");
            Ok((have, want))
        })
        .unwrap();

    only_theirs_are_accounted_for(&have, &want);
    only_ours_are_accounted_for(&have, &want);
    for (name, theirs) in &want {
        let Some(ours) = have.get(name) else { continue };
        println!("both: {name} {:?}", ours.labels);
        assert_eq!(ours.kind, theirs.kind, "{name}");
        assert_eq!(ours.labels, theirs.labels, "{name}");
        let bounds = &theirs.bounds;
        assert!(bounds.is_empty() || &ours.bounds == bounds, "{name}: {:?}", ours.bounds);
    }
}

/// What kube-proxy alone has is on the list with a reason, and the list has nothing else.
fn only_theirs_are_accounted_for(have: &Page, want: &Page) {
    let only: Vec<_> = want.keys().filter(|name| !have.contains_key(*name)).collect();
    for name in &only {
        println!("only kube-proxy: {name} {:?}", want[*name].labels);
    }
    let belongs = |name: &str, (prefix, _): &(&str, &str)| name.starts_with(prefix);
    let new: Vec<_> =
        only.iter().filter(|name| !ABSENT.iter().any(|group| belongs(name, group))).collect();
    assert!(new.is_empty(), "kube-proxy alone has {new:?}: serve them, or say in ABSENT why not");
    for group in ABSENT {
        assert!(only.iter().any(|name| belongs(name, &group)), "{} is not missing", group.0);
    }
}

/// What we alone have is under a name of our own, or of kube-proxy's when something happens.
fn only_ours_are_accounted_for(have: &Page, want: &Page) {
    for name in have.keys().filter(|name| !want.contains_key(*name)) {
        println!("only Sluice: {name} {:?}", have[name].labels);
        let later = LATER.iter().any(|(later, _)| later == name);
        assert!(later || name.starts_with("sluice_"), "kube-proxy never has {name}");
    }
}

/// `/proxyMode`, `/healthz`, `/metrics/slis` and `/configz` answer as kube-proxy's do; CFG-04:
/// the defaults are the same.
#[test]
fn the_other_pages_of_the_metrics_address_are_those_of_kube_proxy() {
    need_lab!();
    let beside = Beside::start(Lab::builder().pods(1).start().unwrap()).unwrap();
    let [theirs, ours] = beside.nodes();
    for path in ["/proxyMode", "/healthz"] {
        assert_eq!(get(ours, 10249, path), get(theirs, 10249, path), "{path}");
    }
    let slis = "/metrics/slis";
    let names = |node| page(&get(node, 10249, slis).1).into_keys().collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs));
    let configz =
        |node| -> Value { serde_json::from_str(&get(node, 10249, "/configz").1).unwrap() };
    let (have, want) = (leaves("", &configz(ours)), leaves("", &configz(theirs)));
    let differ: Vec<_> = want
        .iter()
        .filter(|(path, value)| have.get(*path) != Some(value))
        .map(|(path, value)| (path.as_str(), value.clone(), have.get(path).cloned()))
        .filter(|(path, ..)| !CONFIGURED.iter().any(|(name, _)| path.ends_with(name)))
        .collect();
    println!("{} settings, {} differ", want.len(), differ.len());
    assert_eq!(differ, [], "path, kube-proxy's value, ours");
}

/// Scalars and lists by their path.
fn leaves(path: &str, value: &Value) -> BTreeMap<String, Value> {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().flat_map(|(key, value)| leaves(&format!("{path}.{key}"), value)).collect()
        }
        leaf => [(path.to_owned(), leaf.clone())].into(),
    }
}

/// Settings that the two agents of the test do not share, and why.
const CONFIGURED: [(&str, &str); 10] = [
    (".clientConnection.kubeconfig", "a flag of the test, which here goes before the settings"),
    (".clusterCIDR", "a flag of the test"),
    (".conntrack.maxPerCore", "a flag of the test"),
    (".conntrack.tcpCloseWaitTimeout", "a flag of the test"),
    (".conntrack.tcpEstablishedTimeout", "a flag of the test"),
    (".detectLocalMode", "kube-proxy fills in its default; it has no meaning here"),
    (".hostnameOverride", "a flag of the test"),
    (".iptables.minSyncPeriod", "kube-proxy shows the section of its own mode alone"),
    (".iptables.syncPeriod", "kube-proxy shows the section of its own mode alone"),
    (".ipvs.syncPeriod", "kube-proxy shows the section of its own mode alone"),
];

/// A dual-stack Service of all pods.
fn web() -> Service {
    let mut service = objects::service("web", &[], &Port::both(80, 8080));
    let spec = service.spec.as_mut().unwrap();
    spec.selector = Some([("app".to_owned(), "web".to_owned())].into());
    spec.ip_family_policy = Some("RequireDualStack".to_owned());
    spec.ip_families = None;
    service
}

/// `GET` on a node's own loopback.
fn get(node: &Node, port: u16, path: &str) -> (u16, String) {
    node.run(|| http::get(([127, 0, 0, 1], port).into(), path)).unwrap().unwrap()
}

/// A node's metrics.
fn metrics(node: &Node) -> String {
    get(node, 10249, "/metrics").1
}

/// Types, labels and bounds by name.
fn page(text: &str) -> Page {
    let mut page = Page::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            // Samples follow their type.
            name.clone_into(&mut current);
            kind.clone_into(&mut page.entry(current.clone()).or_default().kind);
        } else if let Some((_, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let metric = page.entry(current.clone()).or_default();
            let labels = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
            for (label, value) in pairs(labels) {
                if label != "le" {
                    metric.labels.insert(label);
                } else if !metric.bounds.contains(&value) {
                    metric.bounds.push(value);
                }
            }
        }
    }
    page
}

/// `name="value",…`; no value of either page has a quote in it.
fn pairs(labels: &str) -> impl Iterator<Item = (String, String)> {
    let words: Vec<_> = labels.split('"').collect();
    let pairs: Vec<_> = words
        .chunks_exact(2)
        .map(|pair| (pair[0].trim_matches([',', '=', ' ']).to_owned(), pair[1].to_owned()))
        .collect();
    pairs.into_iter()
}

/// What only kube-proxy has, by what its name begins with, and why we do not.
const ABSENT: [(&str, &str); 22] = [
    ("go_", "of its language's run time"),
    ("rest_client_exec_plugin_", "of Go's client library: credentials from a program"),
    ("rest_client_rate_limiter_", "of Go's client library: no limit of our own delays a request"),
    ("rest_client_request_size_", "of Go's client library: we ask with a line, and write Events"),
    ("rest_client_response_size_", "of Go's client library: lists are read as streams"),
    ("rest_client_transport_cache_", "of Go's client library: it shares connections"),
    ("rest_client_transport_cert_", "as rest_client_transport_cache_"),
    ("rest_client_transport_create_", "as rest_client_transport_cache_"),
    ("aggregator_discovery_", "of API server code that it links in and never runs"),
    ("apiserver_audit_", "as aggregator_discovery_"),
    ("apiserver_client_certificate_", "as aggregator_discovery_"),
    ("apiserver_envelope_encryption_", "as aggregator_discovery_"),
    ("apiserver_storage_", "as aggregator_discovery_"),
    ("apiserver_validation_", "as aggregator_discovery_"),
    ("apiserver_webhooks_", "as aggregator_discovery_"),
    ("cardinality_enforcement_", "about its metrics library: labels that were cut off"),
    ("disabled_metrics_total", "about its metrics library: what an operator switched off"),
    ("hidden_metrics_total", "about its metrics library: what a release hides"),
    ("registered_metrics_total", "about its metrics library: what it has"),
    ("kubernetes_build_info", "Sluice is of no release of Kubernetes, and alerts compare these"),
    ("kubernetes_feature_enabled", "there are no gates; the one that counts is in /configz"),
    ("process_network_", "all traffic of the network namespace, not of the process"),
];
/// What kube-proxy shows only once it happened and we show from the start, at 0.
const LATER: [(&str, &str); 5] = [
    ("kubeproxy_sync_partial_proxy_rules_duration_seconds", "its second sync"),
    ("kubeproxy_conntrack_reconciler_sync_duration_seconds", "a change of a UDP endpoint"),
    ("kubeproxy_conntrack_reconciler_deleted_entries_total", "a stale UDP flow"),
    ("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "a failure"),
    ("kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total", "a failure"),
];
