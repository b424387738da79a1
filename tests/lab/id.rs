// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Run ids, and whether the process that made a lab still lives.

use std::{
    fmt, fs, process,
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// The name of one lab: six characters of `[a-z0-9]`, part of the name of
/// everything that the lab makes outside its own namespaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

/// The process that made a lab. A pid alone could be somebody else's by now,
/// so its start time goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks from boot to its start.
    pub started_ticks: u64,
}

impl RunId {
    /// A new id. Uniqueness is proved by whoever claims it (`state::claim`).
    pub fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::from(since.subsec_nanos()) ^ since.as_secs());
        let count = u64::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let mut seed = (nanos ^ (u64::from(process::id()) << 32) ^ (count << 20))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut text = String::new();
        for _ in 0..ID_LENGTH {
            let digit = u32::try_from((seed >> 32) % 36).unwrap_or_default();
            text.push(char::from_digit(digit, 36).unwrap_or('0'));
            seed = seed.rotate_left(13).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        Self(text)
    }

    /// The id that a person typed.
    ///
    /// # Errors
    /// When it is not six characters of `[a-z0-9]`.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(
            text.len() == ID_LENGTH
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
            "{text:?} is no lab id: six of [a-z0-9], as `lab pods` lists them"
        );
        Ok(Self(text.to_owned()))
    }

    /// `sluice-<id>`: the first part of every name outside the lab.
    pub fn prefix(&self) -> String {
        format!("sluice-{self}")
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Owner {
    /// The calling process.
    pub fn current() -> Result<Self> {
        let pid = process::id();
        let started_ticks = start_ticks(pid).context("reading this process's own start time")?;
        Ok(Self { pid, started_ticks })
    }

    /// Whether that very process still runs.
    pub fn is_alive(&self) -> bool {
        start_ticks(self.pid).is_some_and(|ticks| ticks == self.started_ticks)
    }
}

/// Start time of a process that runs (a zombie does not).
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in brackets and may hold anything, brackets too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    (fields.next()? != "Z").then_some(())?;
    fields.nth(START_TIME - 4)?.parse().ok()
}

/// Characters of a run id.
const ID_LENGTH: usize = 6;
/// Number of the start time among the fields of `/proc/<pid>/stat`, from 1;
/// the state is number 3.
const START_TIME: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_impostor_is_not() {
        let owner = Owner::current().unwrap();
        assert!(owner.is_alive());
        let impostor = Owner { started_ticks: owner.started_ticks + 1, ..owner };
        assert!(!impostor.is_alive());
    }

    #[test]
    fn ids_differ_and_survive_parsing() {
        let (a, b) = (RunId::fresh(), RunId::fresh());
        assert_ne!(a, b);
        assert_eq!(RunId::parse(&a.to_string()).unwrap(), a);
        assert!(RunId::parse("../etc").is_err());
    }
}
