// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Connections that live on: each exchanges a line now and then and tells when
//! it breaks or when another pod answers.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{exchange, load::count_one};
use crate::{
    wait::monotonic_ns,
    wire::{Answer, Break, HoldReport, HoldSpec, SocketError},
};

/// Held connections.
pub(super) struct Hold {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the connections' threads share.
struct Shared {
    stop: AtomicBool,
    report: Mutex<HoldReport>,
}

impl Hold {
    /// Opens the connections one after another, then lets each live on a
    /// thread of its own.
    pub(super) fn start(spec: &HoldSpec) -> Self {
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), report: Mutex::default() });
        let mut threads = Vec::new();
        for connection in 0..spec.connections {
            let opened = exchange::ask(&spec.ask, "hello");
            match opened {
                Ok((socket, answer)) => {
                    shared.established(&answer);
                    let (shared, spec) = (Arc::clone(&shared), spec.clone());
                    threads.push(thread::spawn(move || {
                        shared.live(connection, &spec, &socket, &answer.echo.pod);
                    }));
                }
                Err(error) => shared.broken(connection, None, error),
            }
        }
        Self { shared, threads }
    }

    /// The report so far; `stop` closes the connections first.
    pub(super) fn report(&mut self, stop: bool) -> HoldReport {
        if stop {
            self.shared.stop.store(true, Ordering::Relaxed);
            for thread in self.threads.drain(..) {
                // A thread that panicked has said so on standard error.
                drop(thread.join());
            }
        }
        self.shared.report().clone()
    }
}

impl Shared {
    /// One connection's life after its first answer.
    fn live(&self, connection: u32, spec: &HoldSpec, socket: &Socket, pod: &str) {
        let mut due = Instant::now();
        let mut number = 0_u64;
        while self.pause(&mut due, Duration::from_millis(spec.every_ms)) {
            number += 1;
            let answer = exchange::again(socket, &spec.ask, &format!("exchange {number}"));
            let same = answer.and_then(|answer| {
                let other = answer.echo.pod;
                if other == pod { Ok(()) } else { Err(SocketError::answered_by(&other)) }
            });
            match same {
                Ok(()) => self.report().exchanges += 1,
                Err(error) => {
                    self.report().open -= 1;
                    self.broken(connection, Some(pod), error);
                    return;
                }
            }
        }
        exchange::hang_up(socket);
        self.report().open -= 1;
    }

    /// Waits until `every` after the last time; false when it is time to end.
    fn pause(&self, due: &mut Instant, every: Duration) -> bool {
        *due += every;
        while !self.stop.load(Ordering::Relaxed) {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(STOP_INTERVAL));
        }
        false
    }

    /// Counts a connection that was answered.
    fn established(&self, answer: &Answer) {
        let mut report = self.report();
        report.open += 1;
        report.exchanges += 1;
        count_one(&mut report.pods, &answer.echo.pod);
    }

    /// Notes the end of a connection.
    fn broken(&self, connection: u32, pod: Option<&str>, error: SocketError) {
        let pod = pod.map(str::to_owned);
        self.report().breaks.push(Break { connection, pod, at_ns: monotonic_ns(), error });
    }

    /// The report, whatever happened to another thread.
    fn report(&self) -> MutexGuard<'_, HoldReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longest sleep before a connection looks whether it should end.
const STOP_INTERVAL: Duration = Duration::from_millis(50);
