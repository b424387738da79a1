// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What it ran on, and what processes take of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use lab::{cgroup, id::RunId, tools::Tool};
use serde::Serialize;

/// A cgroup that counts memory, the kernel's for BPF maps too. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Of the memory controller's own hierarchy (cgroup v1); none where it is elsewhere.
    dir: Option<PathBuf>,
}

/// What a process holds, bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Held {
    /// `VmRSS`.
    pub(crate) resident: u64,
    /// `RssAnon`: the part that is its own, not files or maps of the kernel.
    pub(crate) own: u64,
    /// What its cgroup is charged, BPF maps included; none where it cannot be told.
    pub(crate) charged: Option<u64>,
}

impl Memory {
    /// A cgroup of that name in this run.
    pub(crate) fn new(run: &RunId, name: &str) -> Result<Self> {
        let Some(mount) = memory_mount() else {
            return Ok(Self { dir: None });
        };
        let dir = mount.join(format!("{}-{name}", run.prefix()));
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Self { dir: Some(dir) })
    }

    /// Moves a process in.
    pub(crate) fn take_in(&self, pid: u32) -> Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        let procs = dir.join("cgroup.procs");
        fs::write(&procs, pid.to_string()).with_context(|| format!("writing {}", procs.display()))
    }

    /// What a process in it holds now.
    pub(crate) fn of(&self, pid: u32) -> Result<Held> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kilobytes = line.and_then(|line| line.split_whitespace().next());
            let kilobytes = kilobytes.with_context(|| format!("{path} has no {name}"))?;
            Ok(kilobytes.parse::<u64>()? * 1024)
        };
        Ok(Held { resident: field("VmRSS:")?, own: field("RssAnon:")?, charged: self.charged() })
    }

    /// Bytes charged, without page cache.
    fn charged(&self) -> Option<u64> {
        let dir = self.dir.as_ref()?;
        let usage: u64 =
            fs::read_to_string(dir.join("memory.usage_in_bytes")).ok()?.trim().parse().ok()?;
        let stat = fs::read_to_string(dir.join("memory.stat")).ok()?;
        let cache = stat.lines().find_map(|line| line.strip_prefix("total_cache "));
        Some(usage.saturating_sub(cache?.trim().parse().ok()?))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Its processes are gone, or it stays and says so by its name.
        if let Some(dir) = &self.dir {
            drop(fs::remove_dir(dir));
        }
    }
}

/// The machine and the versions of what is compared.
pub(crate) fn describe() -> Result<Vec<(String, String)>> {
    let cpu_text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = field(&cpu_text, "model name").unwrap_or("unknown");
    let cpus = cpu_text.lines().filter(|line| line.starts_with("processor")).count();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory: u64 = field(&memory, "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut facts = vec![
        ("machine".to_owned(), format!("{cpus} CPUs ({cpu}), {} GiB", memory >> 20)),
        ("kernel".to_owned(), kernel.trim().to_owned()),
    ];
    let agent = lab::place::binary("lb-agent", "LB_AGENT")?;
    for (name, program) in [("lb-agent", agent), ("kube-proxy", Tool::KubeProxy.path()?)] {
        facts.push((name.to_owned(), version(&program, &["--version"])));
    }
    facts.push(("nft".to_owned(), version(Path::new("nft"), &["--version"])));
    facts.push(("iptables".to_owned(), version(Path::new("iptables"), &["--version"])));
    Ok(facts)
}

/// The value of `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, v)| v.trim()))
}

/// What a program says of itself.
fn version(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}

/// Where the memory controller is mounted, if it has a hierarchy of its own.
fn memory_mount() -> Option<PathBuf> {
    let mounts = cgroup::mounts_of("cgroup").ok()?;
    mounts.into_iter().find(|mount| mount.join("memory.usage_in_bytes").exists())
}
