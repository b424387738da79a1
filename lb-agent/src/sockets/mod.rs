// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UDP sockets that must look for another backend: found after a change, and disconnected. And
//! UDP flows of clients outside, which are forgotten.
//!
//! ```text
//! reconcile ─► Ledger ─► Search ─► SOCKETS ─► namespaces ─► sock_diag ─► SOCK_DESTROY
//! ```
//!
//! An unconnected socket chooses anew at its next datagram. A connected one never asks again:
//! no hook runs when it sends. It gets ECONNABORTED here, and connects again.
//!
//! Invariant: a socket is disconnected only if its cookie and its peer are those of a record
//! that our programs wrote, or if its peer is a frontend, which no translated socket has, and no
//! other proxy's translation leads its datagrams to an endpoint. All of it runs on a thread of its own, and the reconcile loop never waits for it.

mod flows;
mod sweep;

use std::{
    io,
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

use crate::{
    datapath::diag,
    model::Family,
    observe::metrics::ProxyMetrics,
    plan::stale::{Ledger, Search, Update},
    reconcile::DatagramSink,
};

/// Looks for UDP sockets whose peer has gone.
#[derive(Debug)]
pub struct Sweeper {
    /// Where the maps are pinned.
    bpf_root: PathBuf,
    /// The cgroup whose sockets are balanced.
    cgroup_root: PathBuf,
    metrics: ProxyMetrics,
    ledger: Ledger,
    /// What is still to be looked for.
    search: Search,
    /// Searches that may still follow because of it.
    tries: usize,
    /// Sockets that are to be disconnected and were not found yet.
    pending: sweep::Known,
    /// Whether flows of clients outside are still to be looked at.
    are_flows_due: bool,
    /// Whether there were sockets for which another proxy's translation lasted.
    has_led: bool,
}

impl Sweeper {
    /// For the sockets below a cgroup.
    pub fn new(bpf_root: PathBuf, cgroup_root: PathBuf, metrics: ProxyMetrics) -> Self {
        Self {
            bpf_root,
            cgroup_root,
            metrics,
            ledger: Ledger::default(),
            search: Search::default(),
            tries: 0,
            pending: sweep::Known::default(),
            are_flows_due: false,
            has_led: false,
        }
    }

    /// Starts the thread, which ends when what it is told through is dropped.
    pub fn start(mut self) -> io::Result<DatagramSink> {
        let (sender, updates) = mpsc::channel();
        thread::Builder::new().name("sockets".to_owned()).spawn(move || self.run(&updates))?;
        Ok(Box::new(move |batch| {
            if sender.send(batch).is_err() {
                tracing::error!("the thread that disconnects UDP sockets has ended");
            }
        }))
    }

    fn run(&mut self, updates: &Receiver<Vec<Update>>) {
        if let Err(error) = diag::probe() {
            tracing::warn!(%error, "connected UDP sockets will stay with backends that are gone: SOCK_DESTROY does not work, see lb-agent check");
        }
        while let Some(batches) = self.wait(updates) {
            for update in batches.into_iter().flatten() {
                let before = self.search.is_empty();
                self.ledger.update(update, &mut self.search);
                if before && !self.search.is_empty() {
                    self.tries = TRIES;
                }
                self.are_flows_due |= !self.search.is_empty();
            }
            if self.search.is_empty() {
                continue;
            }
            // No record of ours tells which endpoints those sockets use.
            self.search.is_first |= self.has_led;
            let before = processor_time();
            if self.are_flows_due {
                self.forget_flows(Instant::now());
            }
            self.sweep(Instant::now());
            // However many changes come: a fifth of a processor at most. By the clock on the
            // wall, a processor that others want as well would make it wait five times longer.
            thread::sleep((processor_time().saturating_sub(before) * 4).max(PAUSE));
        }
    }

    /// What came since the last time; `None` when nothing more will. Waits only so long for
    /// it if there is something to look for again.
    fn wait(&mut self, updates: &Receiver<Vec<Update>>) -> Option<Vec<Vec<Update>>> {
        let first = if !self.search.is_empty() {
            updates.recv_timeout(AGAIN)
        } else if self.has_led {
            updates.recv_timeout(STILL_LED)
        } else {
            updates.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match first {
            Ok(first) => Some([first].into_iter().chain(updates.try_iter()).collect()),
            Err(RecvTimeoutError::Timeout) => {
                if self.search.is_empty() {
                    (self.search.is_first, self.tries) = (true, 1);
                }
                Some(Vec::new())
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Takes the flows of clients outside out of FLOWS that must look for another backend.
    fn forget_flows(&mut self, started: Instant) {
        match flows::forget(&self.bpf_root, &self.ledger) {
            Ok((v4, v6)) => {
                self.are_flows_due = false;
                for (family, forgotten) in [(Family::V4, v4), (Family::V6, v6)] {
                    self.metrics.reconciled(family, started.elapsed(), forgotten);
                }
                if v4 + v6 > 0 {
                    tracing::info!(v4, v6, "UDP flows of clients outside get another backend");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "UDP flows may stay with endpoints that left their Service");
            }
        }
    }

    /// Looks once. A socket that had asked a program but was not connected yet when it was
    /// looked at is found at the next try.
    fn sweep(&mut self, started: Instant) {
        self.tries = self.tries.saturating_sub(1);
        let found = sweep::sweep(
            &self.bpf_root,
            &self.cgroup_root,
            &self.ledger,
            &self.search,
            &mut self.pending,
        );
        let is_done = match found {
            Ok(found) => {
                for (family, disconnected) in [(Family::V4, found.v4), (Family::V6, found.v6)] {
                    self.metrics.reconciled(family, started.elapsed(), disconnected);
                }
                if found.v4 + found.v6 > 0 {
                    let (v4, v6, namespaces) = (found.v4, found.v6, found.namespaces);
                    tracing::info!(v4, v6, namespaces, "disconnected UDP sockets");
                }
                if found.namespaces > 0 {
                    self.has_led = found.led > 0;
                }
                self.pending.is_empty() && !(self.search.is_first && self.tries == TRIES - 1)
            }
            Err(error) => {
                tracing::warn!(%error, "UDP sockets may stay with backends that are gone");
                false
            }
        };
        if is_done || self.tries == 0 {
            self.search = Search::default();
            self.pending.clear();
        }
    }
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Searches for the same reason: for two seconds.
const TRIES: usize = 6;
/// Between them.
const AGAIN: Duration = Duration::from_millis(200);
/// Until those are looked at again for which another proxy's translation lasted: the kernel keeps
/// a flow of datagrams for 30 s after the last one, or 120 s.
const STILL_LED: Duration = Duration::from_secs(5);
/// Between any two.
const PAUSE: Duration = Duration::from_millis(100);
