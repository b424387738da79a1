// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page, and the list of it in docs/metrics.md.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use super::*;
use crate::{
    observe::exposition::classic,
    source::{Answer, Error, Failure, Place, Resource},
};

#[derive(Debug)]
struct Fixed;

impl Kernel for Fixed {
    fn read(&self) -> Reading {
        Reading {
            counters: (0..u64::from(Counter::COUNT)).collect(),
            fills: vec![Fill { map: "SERVICES", used: 3, capacity: 16384, waiting: 5 }],
            flows: vec![("established", 3), ("syn-sent", 0)],
        }
    }
}

fn fixed(client: &ClientMetrics, source: Status) -> Arc<Metrics> {
    Metrics::new(Box::new(Fixed), client, watch::channel(source).1)
}

/// A source of which Services failed three times and EndpointSlices fail now.
fn failing() -> Status {
    let failure =
        |resource, verb, reason: &'static str| Failure { resource, verb, reason: reason.into() };
    let slices = Resource::EndpointSlices;
    let error = Error::NoNode { name: "n1".to_owned() };
    Status {
        failures: [(Place::Resource(slices), Arc::new(error))].into(),
        counts: [
            (failure("services", "watch", "403"), 3),
            (failure(slices.name(), "list", "connection"), 1),
        ]
        .into(),
        ..Status::default()
    }
}

/// A client that asked for a watch, a list and an Event, the last in vain.
fn asked() -> ClientMetrics {
    let client = ClientMetrics::default();
    for (method, code, is_watch) in
        [("GET", Some(200), true), ("GET", Some(200), false), ("POST", None, false)]
    {
        let host = "192.0.2.1:6443".to_owned();
        let took = Duration::from_millis(30);
        client.answered(&Answer { method: method.to_owned(), host, code, took, is_watch });
    }
    client
}

#[test]
fn what_failed_at_the_source_is_counted_and_what_fails_now_is_told() {
    let page = classic(&fixed(&ClientMetrics::default(), failing()).encode());
    for line in [
        "sluice_source_failures_total{reason=\"403\",resource=\"services\",verb=\"watch\"} 3",
        "sluice_source_failures_total{reason=\"connection\",\
         resource=\"endpointslices.discovery.k8s.io\",verb=\"list\"} 1",
        "sluice_source_failing{resource=\"endpointslices.discovery.k8s.io\"} 1",
        "sluice_source_failing{resource=\"services\"} 0",
    ] {
        assert!(page.contains(line), "{line} is missing:\n{page}");
    }
}

#[test]
fn requests_have_the_names_of_every_kubernetes_client() {
    let page = classic(&fixed(&asked(), Status::default()).encode());
    for line in [
        "rest_client_requests_total{code=\"200\",host=\"192.0.2.1:6443\",method=\"GET\"} 2",
        "rest_client_requests_total{code=\"<error>\",host=\"192.0.2.1:6443\",method=\"POST\"} 1",
        "rest_client_request_duration_seconds_bucket{le=\"0.025\",host=\"192.0.2.1:6443\",\
         verb=\"GET\"} 0",
        "rest_client_request_duration_seconds_bucket{le=\"0.1\",host=\"192.0.2.1:6443\",\
         verb=\"GET\"} 1",
        "rest_client_request_duration_seconds_count{host=\"192.0.2.1:6443\",verb=\"POST\"} 1",
    ] {
        assert!(page.contains(line), "{line} is missing:\n{page}");
    }
}

#[test]
fn a_page_holds_counters_fills_and_syncs() {
    let metrics = fixed(&ClientMetrics::default(), Status::default());
    metrics.sync.observe(Duration::from_millis(3), 7);
    let page = metrics.encode();
    for line in [
        "sluice_decisions_total{reason=\"pass_bypass\"} 1",
        "sluice_map_entries{map=\"SERVICES\"} 3",
        "sluice_map_capacity{map=\"SERVICES\"} 16384",
        "sluice_map_waiting{map=\"SERVICES\"} 5",
        "sluice_map_writes_total 7",
        "sluice_sync_duration_seconds_count 1",
        "process_resident_memory_bytes ",
    ] {
        assert!(page.contains(line), "{line} is missing:\n{page}");
    }
}

#[test]
fn the_checks_of_the_metrics_server_are_told() {
    let metrics = fixed(&ClientMetrics::default(), Status::default());
    metrics.checked();
    let page = classic(&metrics.encode_slis());
    for line in [
        "kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 1",
    ] {
        assert!(page.contains(line), "{line} is missing:\n{page}");
    }
}

/// One metric of a page.
#[derive(Default)]
struct Row {
    help: String,
    kind: String,
    labels: Vec<String>,
}

/// The metrics of a page, by name.
fn rows(page: &str) -> BTreeMap<String, Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|it| it.split_once(' ')) {
            rows.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' '))
        {
            rows.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if let Some((name, labels)) = line.split_once('{') {
            let family = ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|suffix| rows.get_key_value(name.strip_suffix(suffix)?))
                .map_or_else(|| name.to_owned(), |(family, _)| family.clone());
            let labels = labels.split('}').next().unwrap_or_default();
            let row = rows.entry(family).or_default();
            for label in labels.split(',').filter_map(|label| label.split('=').next()) {
                if label != "le" && !row.labels.iter().any(|known| known == label) {
                    row.labels.push(label.to_owned());
                }
            }
        }
    }
    rows
}

/// docs/metrics.md, from the registry.
fn document() -> String {
    let metrics = fixed(&asked(), failing());
    metrics.proxy.set_stranded(&crate::plan::stranded::Stranded::default());
    let mut text = HEAD.to_owned();
    let pages = [
        ("kube-proxy's own, on `/metrics`", "kubeproxy_", metrics.encode()),
        ("Sluice's, on `/metrics`", "sluice_", metrics.encode()),
        ("Those of every client of Kubernetes, on `/metrics`", "rest_client_", metrics.encode()),
        ("The process's, on `/metrics`", "process_", metrics.encode()),
        ("On `/metrics/slis`", "", metrics.encode_slis()),
    ];
    for (title, prefix, page) in pages {
        write!(text, "\n## {title}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n")
            .unwrap();
        for (name, row) in rows(&classic(&page)) {
            if name.starts_with(prefix) {
                let labels: Vec<_> = row.labels.iter().map(|it| format!("`{it}`")).collect();
                let (kind, help) = (row.kind, row.help);
                writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
            }
        }
    }
    text
}

/// `cargo xtask bless` writes the file.
#[test]
fn the_list_in_docs_is_what_the_registry_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let document = document();
    if env::var_os("SLUICE_BLESS").is_some() {
        fs::write(&path, &document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == document, "docs/metrics.md is behind; run: cargo xtask bless");
}

const HEAD: &str = "\
# Metrics

Generated from the registry by `cargo xtask bless`; a test compares. Served on `--metrics-bind-address` (127.0.0.1:10249): as OpenMetrics for whoever asks for it, else in the text format that kube-proxy serves.

Beside the pages below: `/healthz` (plain `ok`), `/proxyMode`, `/configz`. Health of the proxy itself is on `--healthz-bind-address`: see [operations.md](operations.md).
";
