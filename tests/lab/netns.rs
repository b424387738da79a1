// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Named network namespaces, made and configured with `ip -batch`.
//!
//! Names live in `/run/netns`, so `ip netns exec` works on a lab by hand.

use std::{
    fs::{self, File},
    io::Write as _,
    panic,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

/// A network namespace by name. Does not own it: the lab does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Netns(String);

/// Lines for `ip -batch`, in one namespace or in the caller's.
#[derive(Debug, Default)]
pub struct Batch {
    lines: String,
}

impl Netns {
    /// A handle for a namespace of this name, whether or not it exists.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Its name below `/run/netns`.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.0)
    }

    /// Moves the calling thread in; threads and processes that it starts follow.
    pub fn enter(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path)
            .with_context(|| format!("opening network namespace {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering network namespace {} (root is needed)", self.0))
    }

    /// Runs `body` on a thread of its own inside the namespace.
    ///
    /// The thread stays in this process's cgroup: sockets that must be seen by
    /// a node's hooks belong in a child process (`Place::driver`).
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().map(|()| body()));
            inside.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
        })
    }

    /// Writes settings below `/proc/sys/net`, named with slashes.
    pub fn set_sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(key, value)| {
                fs::write(Path::new("/proc/sys/net").join(key), value)
                    .with_context(|| format!("setting net/{key} to {value} in {}", self.0))
            })
        })?
    }
}

impl Batch {
    /// Adds one `ip` command, without the word `ip`.
    pub fn line(&mut self, line: impl AsRef<str>) -> &mut Self {
        self.lines.push_str(line.as_ref());
        self.lines.push('\n');
        self
    }

    /// Runs the lines in the caller's namespace.
    pub fn run(&self) -> Result<()> {
        finish(self.start(None)?, &self.lines)
    }

    /// Runs the lines inside `netns`.
    pub fn run_in(&self, netns: &Netns) -> Result<()> {
        finish(self.start(Some(netns))?, &self.lines)
    }

    /// Runs several batches, each in its namespace, at the same time.
    pub fn run_all(batches: &[(Netns, Self)]) -> Result<()> {
        let started = batches.iter().map(|(netns, batch)| batch.start(Some(netns)));
        let started: Vec<_> = started.collect();
        batches.iter().zip(started).try_for_each(|((netns, batch), child)| {
            finish(child?, &batch.lines).context(format!("in {}", netns.0))
        })
    }

    /// Starts `ip` and hands it the lines.
    fn start(&self, netns: Option<&Netns>) -> Result<Child> {
        let mut command = Command::new("ip");
        if let Some(netns) = netns {
            command.args(["-n", netns.name()]);
        }
        let mut child = command
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting `ip` (apt-get install iproute2)")?;
        let mut stdin = child.stdin.take().context("ip has a standard input")?;
        stdin.write_all(self.lines.as_bytes()).context("writing to `ip -batch`")?;
        Ok(child)
    }
}

/// Names of all namespaces that start with `prefix`.
pub fn with_prefix(prefix: &str) -> Vec<Netns> {
    fs::read_dir(NETNS_DIR)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .map(Netns)
        .collect()
}

/// Waits for `ip`; its error output names the line that failed.
fn finish(child: Child, lines: &str) -> Result<()> {
    let output = child.wait_with_output().context("waiting for `ip`")?;
    ensure!(
        output.status.success(),
        "ip -batch failed: {}\nlines were:\n{lines}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Where iproute2 keeps named namespaces.
const NETNS_DIR: &str = "/run/netns";
