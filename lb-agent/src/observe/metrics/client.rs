// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the agent fares with its source: requests to the API server under the names that every
//! Go client of Kubernetes has for them, kube-proxy among them, and what failed.

use std::{collections::BTreeSet, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::Histogram,
    },
    registry::Registry,
};
use tokio::sync::watch;

use crate::source::{Answer, AnswerSink, Place, Status};

/// Requests to the API server. Cheap to clone: clones feed the same series.
#[derive(Clone, Debug)]
pub struct ClientMetrics {
    /// By status, or `<error>` if there was no answer; method; host.
    requests: Family<[(&'static str, String); 3], Counter>,
    /// By method and host; watches left out, whose answers have no end.
    latency: Latency,
}

/// Times by two labels.
type Latency = Family<[(&'static str, String); 2], Histogram, fn() -> Histogram>;

/// Asks the source's status at each scrape.
#[derive(Debug)]
pub(super) struct SourceCollector(pub(super) watch::Receiver<Status>);

impl ClientMetrics {
    /// Where a source leaves what became of its requests.
    pub fn sink(&self) -> AnswerSink {
        let this = self.clone();
        AnswerSink::new(move |answer| this.answered(answer))
    }

    /// Notes what became of a request.
    pub(super) fn answered(&self, answer: &Answer) {
        let Answer { method, host, code, took, is_watch } = answer;
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        let labels = [("code", code), ("host", host.clone()), ("method", method.clone())];
        self.requests.get_or_create(&labels).inc();
        if !is_watch {
            let labels = [("host", host.clone()), ("verb", method.clone())];
            self.latency.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Number of HTTP requests, partitioned by status code, method, and host",
            self.requests.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host",
            self.latency.clone(),
        );
    }
}

impl Default for ClientMetrics {
    fn default() -> Self {
        Self { requests: Family::default(), latency: Family::new_with_constructor(histogram) }
    }
}

impl Collector for SourceCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.borrow().clone();
        let counter = ConstCounter::new(0_u64);
        let mut failures = encoder.encode_descriptor(
            "source_failures",
            "Lists, watches and reads of the source that failed, by what was in the way",
            None,
            counter.metric_type(),
        )?;
        for (failure, count) in &status.counts {
            let labels = [
                ("reason", failure.reason.as_ref()),
                ("resource", failure.resource),
                ("verb", failure.verb),
            ];
            ConstCounter::new(*count).encode(failures.encode_family(&labels)?)?;
        }
        let failing: BTreeSet<_> = status.failures.keys().map(Place::name).collect();
        let known = status.counts.keys().map(|failure| failure.resource);
        let gauge = ConstGauge::new(0_i64);
        let mut now = encoder.encode_descriptor(
            "source_failing",
            "Whether a resource that failed once fails now: what it said last is served",
            None,
            gauge.metric_type(),
        )?;
        for resource in known.chain(failing.iter().copied()).collect::<BTreeSet<_>>() {
            let value = i64::from(failing.contains(resource));
            ConstGauge::new(value).encode(now.encode_family(&[("resource", resource)])?)?;
        }
        Ok(())
    }
}

/// The bounds of `k8s.io/component-base/metrics/prometheus/restclient`.
fn histogram() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0])
}
