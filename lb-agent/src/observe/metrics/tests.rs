// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page, and the list of it in docs/metrics.md.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use super::*;
use crate::observe::exposition::classic;

#[derive(Debug)]
struct Fixed;

impl Kernel for Fixed {
    fn counters(&self) -> Vec<u64> {
        (0..u64::from(Counter::COUNT)).collect()
    }
    fn fills(&self) -> Vec<Fill> {
        vec![Fill { map: "SERVICES", used: 3, capacity: 16384, waiting: 5 }]
    }
}

#[test]
fn a_page_holds_counters_fills_and_syncs() {
    let metrics = Metrics::new(Box::new(Fixed));
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
    let metrics = Metrics::new(Box::new(Fixed));
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
    let metrics = Metrics::new(Box::new(Fixed));
    metrics.proxy.set_stranded(&crate::plan::stranded::Stranded::default());
    let mut text = HEAD.to_owned();
    let pages = [
        ("kube-proxy's own, on `/metrics`", "kubeproxy_", metrics.encode()),
        ("Sluice's, on `/metrics`", "sluice_", metrics.encode()),
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
