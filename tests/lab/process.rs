// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A started process that does not outlive its guard.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait;

/// A child process with its log. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    label: String,
    log: PathBuf,
    /// Set by [`Process::leave`].
    left: bool,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub fn spawn(label: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("opening log {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Self::spawn_piped(label, command, log)
    }

    /// The same with standard streams as the command has them.
    pub fn spawn_piped(label: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("starting {label}"))?;
        Ok(Self { child, label: label.to_owned(), log, left: false })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has resident, bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.with_context(|| format!("{} has ended", self.label))?;
        let kib: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .with_context(|| format!("VmRSS {line:?}"))?;
        Ok(kib * 1024)
    }

    /// Its pipes, where the command asked for some.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).context("a pid fits an i32")?;
        kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("sending {signal} to {}", self.label))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        // Refused only when it has been reaped: then `wait` knows the status.
        drop(self.child.kill());
        self.child.wait().with_context(|| format!("reaping {}", self.label))
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it still runs after `limit` (it is killed then).
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        if self.is_running() {
            self.signal(Signal::SIGTERM)?;
        }
        let ended = wait::until(limit, &format!("{} to end after SIGTERM", self.label), || {
            !matches!(self.child.try_wait(), Ok(None))
        });
        let status = self.kill()?;
        ended.map(|()| status)
    }

    /// Waits for its own end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait::until(limit, &format!("{} to end", self.label), || {
            !matches!(self.child.try_wait(), Ok(None))
        })?;
        self.child.wait().with_context(|| format!("reaping {}", self.label))
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of its output, for an error message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().rev().take(TAIL_LINES).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("last lines of {}:\n{}", self.log.display(), lines.join("\n"))
    }

    /// Lets it run on after this guard.
    pub fn leave(&mut self) {
        self.left = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.left {
            // Nothing to tell: it either ended before or ends now.
            drop(self.kill());
        }
    }
}

/// Lines of a log in an error message.
const TAIL_LINES: usize = 30;
