// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for a condition with a bound, instead of sleeping for luck.

use std::{
    env,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::time::{ClockId, clock_gettime};

/// Polls `done` every few milliseconds until it says true.
///
/// # Errors
/// When `limit` has passed; the message says what was waited for.
pub fn until(limit: Duration, what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    let limit = patient(limit);
    let mut pause = Duration::from_millis(1);
    while !done() {
        if started.elapsed() > limit {
            bail!("waited {:.1} s in vain for {what}", limit.as_secs_f64());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Polls `attempt` until it gives a value; the last error is part of the message.
///
/// # Errors
/// When `limit` has passed.
pub fn for_value<T>(
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut last = None;
    let outcome = until(limit, what, || {
        let result = attempt();
        let found = result.is_ok();
        last = Some(result);
        found
    });
    match (outcome, last) {
        (_, Some(Ok(value))) => Ok(value),
        (Err(late), Some(Err(error))) => Err(error.context(late)),
        _ => bail!("{what}: never tried"),
    }
}

/// `limit` on this machine: as many times longer as `LAB_PATIENCE` says, for emulated ones.
pub fn patient(limit: Duration) -> Duration {
    static TIMES: OnceLock<u32> = OnceLock::new();
    let times = || env::var("LAB_PATIENCE").ok()?.parse().ok();
    limit.saturating_mul(*TIMES.get_or_init(|| times().unwrap_or(1)))
}

/// `CLOCK_MONOTONIC` in nanoseconds: the same in every process of the machine,
/// so what a pod logged can be compared with what the test did.
pub fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .ok()
        .and_then(|now| u64::try_from(Duration::from(now).as_nanos()).ok())
        .unwrap_or_default()
}

/// Longest time between two looks at a condition.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
