// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The BPF file system, where each node's agent pins its maps and links.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

use crate::{cgroup, id::RunId};

/// A directory for one lab's pins, on a bpffs that is mounted if none is.
pub(crate) fn create_lab_dir(id: &RunId) -> Result<PathBuf> {
    mount_if_none()?;
    let dir = lab_dir(id).context("a bpffs was mounted and is not there")?;
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}

/// Where that directory is or would be; nowhere when no bpffs is mounted.
pub(crate) fn lab_dir(id: &RunId) -> Option<PathBuf> {
    let mounts = cgroup::mounts_of("bpf").ok()?;
    mounts.first().map(|root| root.join(id.prefix()))
}

/// Mounts one at the usual place, as systemd would, where there is none. The
/// kernel would stack a second one over the first and hide its pins, so labs
/// that start together take turns.
fn mount_if_none() -> Result<()> {
    let lock = File::create(LOCK).with_context(|| format!("creating {LOCK}"))?;
    lock.lock().with_context(|| format!("locking {LOCK}"))?;
    if !cgroup::mounts_of("bpf")?.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(DEFAULT).with_context(|| format!("creating {DEFAULT}"))?;
    let options = Some("mode=0700");
    mount(Some("bpf"), Path::new(DEFAULT), Some("bpf"), MsFlags::empty(), options)
        .with_context(|| format!("mounting a bpffs at {DEFAULT}"))
}

/// The usual mount point.
const DEFAULT: &str = "/sys/fs/bpf";
/// Taken while one is looked for and mounted.
const LOCK: &str = "/run/sluice-bpffs.lock";
