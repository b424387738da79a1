// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many requests, each on a new socket, at a steady rate.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::exchange;
use crate::{
    wait::monotonic_ns,
    wire::{LoadReport, LoadSpec, LoggedRequest, SocketError},
};

/// A load that runs, or ran.
pub(super) struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What the workers share.
struct Shared {
    spec: LoadSpec,
    started: Instant,
    /// Number of the next request.
    next: AtomicU64,
    stop: AtomicBool,
    /// Workers that still run.
    running: AtomicUsize,
    tally: Mutex<Tally>,
}

/// What has been seen so far.
#[derive(Default)]
struct Tally {
    report: LoadReport,
    /// Latencies of answered requests, microseconds.
    latencies: Vec<u32>,
    /// Every request, where asked for.
    log: Vec<LoggedRequest>,
}

impl Load {
    /// Starts the workers.
    pub(super) fn start(spec: LoadSpec) -> Self {
        let count = spec.workers.max(1);
        let shared = Arc::new(Shared {
            spec,
            started: Instant::now(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            running: AtomicUsize::new(count as usize),
            tally: Mutex::default(),
        });
        let workers = (0..count).map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.work())
        });
        Self { workers: workers.collect(), shared }
    }

    /// The report so far; `stop` ends the load first.
    pub(super) fn report(&mut self, stop: bool) -> LoadReport {
        if stop {
            self.shared.stop.store(true, Ordering::Relaxed);
            for worker in self.workers.drain(..) {
                // A worker that panicked has said so on standard error.
                drop(worker.join());
            }
        }
        let ended = self.shared.running.load(Ordering::Acquire) == 0;
        let mut tally = self.shared.tally();
        tally.latencies.sort_unstable();
        let latency_us = [50, 90, 99, 100].map(|percent| percentile(&tally.latencies, percent));
        // The log may be long: it comes once, at the end.
        let log = if ended { std::mem::take(&mut tally.log) } else { Vec::new() };
        LoadReport { ended, latency_us, log, ..tally.report.clone() }
    }
}

impl Shared {
    /// Sends requests until the load is over.
    fn work(&self) {
        while let Some(number) = self.next_request() {
            let start_ns = monotonic_ns();
            let before = Instant::now();
            let ask = self.spec.request(number);
            let outcome = exchange::ask(&ask, &format!("request {number}"));
            let latency = u32::try_from(before.elapsed().as_micros()).unwrap_or(u32::MAX);
            let end_ns = monotonic_ns();
            let pod = outcome.map(|(_, answer)| answer.echo.pod);
            self.tally().count(&pod, latency, end_ns);
            if self.spec.log {
                self.tally().log.push(LoggedRequest {
                    start_ns,
                    end_ns,
                    to: ask.to,
                    pod: pod.ok(),
                });
            }
        }
        self.running.fetch_sub(1, Ordering::Release);
    }

    /// Waits for the time of the next request; none when there is no more.
    fn next_request(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.spec.requests.is_some_and(|limit| number >= limit) {
            return None;
        }
        let end = Duration::from_millis(self.spec.duration_ms);
        let due = if self.spec.rate == 0 {
            self.started.elapsed()
        } else {
            Duration::from_secs(1)
                .mul_f64(f64::from(u32::try_from(number).ok()?) / f64::from(self.spec.rate))
        };
        if due >= end {
            return None;
        }
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let left = due.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                return Some(number);
            }
            thread::sleep(left.min(STOP_INTERVAL));
        }
    }

    /// The tally, whatever happened to another worker.
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// Counts one request.
    fn count(&mut self, pod: &Result<String, SocketError>, latency_us: u32, at_ns: u64) {
        let report = &mut self.report;
        match pod {
            Ok(pod) => {
                report.ok += 1;
                count_one(&mut report.pods, pod);
                self.latencies.push(latency_us);
            }
            Err(error) => {
                report.failed += 1;
                count_one(&mut report.errors, &error.to_string());
                if report.first_failures_ns.len() < FIRST_FAILURES {
                    report.first_failures_ns.push(at_ns);
                }
            }
        }
    }
}

/// Adds one under a name.
pub(super) fn count_one(counts: &mut std::collections::BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}

/// The value below which `percent` of 100 sorted values are.
fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

/// Longest sleep before a worker looks whether it should stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);
/// Failures whose time is kept.
const FIRST_FAILURES: usize = 100;

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_of_a_hundred_values() {
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!(
            [50, 90, 99, 100].map(|percent| percentile(&sorted, percent)),
            [50, 90, 99, 100]
        );
        assert_eq!(percentile(&[], 50), 0);
    }
}
