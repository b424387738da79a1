// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many surveys side by side: most of the time of one whose packets are
//! dropped is waiting.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::exchange;
use crate::wire::{AskSpec, Attempt, SurveySpec};

/// Runs all of them; the attempts of each, in the order of `specs`.
pub(super) fn run(specs: &[SurveySpec]) -> Vec<Vec<Attempt>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![Vec::new(); specs.len()]);
    thread::scope(|scope| {
        for _ in 0..WORKERS.min(specs.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(spec) = specs.get(index) else { return };
                    let attempts = survey(spec);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(place) = done.get_mut(index) {
                        *place = attempts;
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// One survey, to its end.
fn survey(spec: &SurveySpec) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for _ in 0..spec.times {
        for ask in &spec.asks {
            if !attempts.is_empty() {
                thread::sleep(Duration::from_millis(spec.idle_ms));
            }
            let attempt = attempt(ask);
            let timed_out = attempt.outcome.as_ref().is_err_and(|error| error.name == "ETIMEDOUT");
            attempts.push(attempt);
            let failures = attempts.iter().filter(|attempt| attempt.outcome.is_err()).count();
            if timed_out || failures >= ENOUGH_FAILURES {
                return attempts;
            }
        }
    }
    attempts
}

/// One exchange on a socket of its own.
fn attempt(ask: &AskSpec) -> Attempt {
    let started = Instant::now();
    let outcome = exchange::ask(ask, "who").map(|(_, answer)| answer.echo);
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Attempt { outcome, elapsed_ms }
}

/// Surveys at a time.
const WORKERS: usize = 24;
/// Failures after which the next ones would say nothing new.
const ENOUGH_FAILURES: usize = 3;
