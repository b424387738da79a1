// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A process in a pod that measures on command, and its partner that answers.
//!
//! One JSON object a line in each direction. The loops are tight: blocking sockets, no
//! allocation, one clock read on either side of what is measured.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context as _, Result, bail};
use lab::{place::Place, process::Process};
use serde::{Deserialize, Serialize};

pub(crate) mod inside;
pub(crate) mod partner;

/// What to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Connect, one byte there, one byte back, close; `count` times round `to`.
    Connections { to: Vec<SocketAddr>, count: u32 },
    /// One byte there and back on one connection, `count` times.
    Kept { to: Vec<SocketAddr>, count: u32 },
    /// One byte there and back on one unconnected UDP socket, `count` times.
    Datagrams { to: Vec<SocketAddr>, count: u32 },
    /// `connect(2)` alone, to a listener on port `listen` of this very pod.
    ConnectCalls { to: Vec<SocketAddr>, count: u32, listen: u16 },
    /// `connect(2)` again and again on one UDP socket.
    Reconnects { to: Vec<SocketAddr>, count: u32 },
    /// So many pieces of 128 KiB on one connection, to their end.
    Stream { to: Vec<SocketAddr>, pieces: u32 },
    /// Connect until it succeeds.
    Await { to: SocketAddr, limit_ms: u64 },
    /// Connect to each until it succeeds, in this order.
    Sweep { to: Vec<SocketAddr>, limit_ms: u64 },
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Median time of one round and its 99th percentile, nanoseconds.
    Median { ns: f64, late_ns: f64 },
    /// Packets, and the time that they took, nanoseconds.
    Sent { packets: f64, ns: f64 },
    /// When it happened: `CLOCK_MONOTONIC` at the first and at the last success, nanoseconds.
    Happened { first_ns: u64, last_ns: u64 },
    /// It did not work.
    Failed { error: String },
}

/// A measuring process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Probe {
    name: String,
    _process: Process,
    tasks: ChildStdin,
    outcomes: BufReader<ChildStdout>,
}

impl Probe {
    /// Starts one in a pod, or another place.
    pub(crate) fn start(pod: &Place) -> Result<Self> {
        let mut command = pod.command(own_program()?)?;
        command.arg("probe").stdin(Stdio::piped()).stdout(Stdio::piped());
        let log = pod.logs.join(format!("{}-probe.log", pod.name));
        let mut process = Process::spawn_piped(&format!("probe in {}", pod.name), command, log)?;
        let child = process.child();
        let tasks = child.stdin.take().context("a piped child has an input")?;
        let outcomes = child.stdout.take().context("a piped child has an output")?;
        let name = pod.name.clone();
        Ok(Self { name, _process: process, tasks, outcomes: BufReader::new(outcomes) })
    }

    /// Starts a measurement.
    pub(crate) fn begin(&mut self, task: &Task) -> Result<()> {
        let mut line = serde_json::to_string(task)?;
        line.push('\n');
        self.tasks.write_all(line.as_bytes()).with_context(|| self.name.clone())
    }

    /// Waits for its end. Every task bounds itself.
    pub(crate) fn end(&mut self) -> Result<Outcome> {
        let mut line = String::new();
        self.outcomes.read_line(&mut line).with_context(|| self.name.clone())?;
        match serde_json::from_str(&line) {
            Ok(Outcome::Failed { error }) => bail!("{}: {error}", self.name),
            Ok(outcome) => Ok(outcome),
            Err(_) => bail!("{}: the probe ended, saying {line:?}", self.name),
        }
    }

    /// The median of a measurement, nanoseconds.
    pub(crate) fn median_ns(&mut self, task: &Task) -> Result<f64> {
        self.median_and_late_ns(task).map(|(ns, _)| ns)
    }

    /// That, and the 99th percentile.
    pub(crate) fn median_and_late_ns(&mut self, task: &Task) -> Result<(f64, f64)> {
        self.begin(task)?;
        match self.end()? {
            Outcome::Median { ns, late_ns } => Ok((ns, late_ns)),
            other => bail!("{}: {other:?} is no median", self.name),
        }
    }

    /// Packets that were sent, and nanoseconds that they took.
    pub(crate) fn sent(&mut self, task: &Task) -> Result<(f64, f64)> {
        self.begin(task)?;
        match self.end()? {
            Outcome::Sent { packets, ns } => Ok((packets, ns)),
            other => bail!("{}: {other:?} is no stream", self.name),
        }
    }

    /// When it first and when it last succeeded, `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) fn happened(&mut self) -> Result<(u64, u64)> {
        match self.end()? {
            Outcome::Happened { first_ns, last_ns } => Ok((first_ns, last_ns)),
            other => bail!("{}: {other:?} is no moment", self.name),
        }
    }
}

/// Starts a partner in a pod and waits until it listens. Dropping it ends it.
pub(crate) fn start_partner(pod: &Place) -> Result<Process> {
    let mut command = pod.command(own_program()?)?;
    command.arg("partner").stdin(Stdio::null()).stdout(Stdio::piped());
    let log = pod.logs.join(format!("{}-partner.log", pod.name));
    let mut process = Process::spawn_piped(&format!("partner in {}", pod.name), command, log)?;
    let stdout = process.child().stdout.take().context("a piped child has an output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() != "listening" {
        bail!("the partner in {} does not listen", pod.name);
    }
    Ok(process)
}

/// This very program, which is also its probes and partners.
fn own_program() -> Result<std::path::PathBuf> {
    env::current_exe().context("finding the running executable")
}

/// The port that partners listen on, TCP and UDP.
pub(crate) const PORT: u16 = 8080;
