// SPDX-License-Identifier: Apache-2.0 OR MIT
//! File systems of the kernel that must be mounted.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use crate::{command, setup::Requirement};

/// Where pinned maps and links live.
pub(crate) static BPFFS: Requirement = Requirement {
    name: "bpffs",
    purpose: "pins of maps and links",
    find: || mounted("bpf"),
    install: || mount("bpf", BPFFS_DIR),
    by_hand: "mount -t bpf bpf /sys/fs/bpf",
};

/// What socket programs are attached to.
pub(crate) static CGROUP2: Requirement = Requirement {
    name: "cgroup2",
    purpose: "the cgroups that socket programs are attached to",
    find: || mounted("cgroup2"),
    install: || mount("cgroup2", CGROUP2_DIR),
    by_hand: "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
};

fn mounted(kind: &str) -> Result<String, String> {
    let mounts = fs::read_to_string("/proc/self/mounts")
        .map_err(|error| format!("/proc/self/mounts cannot be read: {error}"))?;
    mount_point(&mounts, kind).ok_or_else(|| "not mounted".to_owned())
}

/// The first mount point of a file system of this kind; lines are `source point kind options …`.
fn mount_point(mounts: &str, kind: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?;
        (words.next()? == kind).then(|| point.to_owned())
    })
}

fn mount(kind: &str, dir: &str) -> Result<()> {
    if !command::is_root() {
        bail!("mounting takes root");
    }
    if !Path::new(dir).is_dir() {
        fs::create_dir_all(dir)?;
    }
    command::run(command::command("mount").args(["-t", kind, kind, dir]))
}

const BPFFS_DIR: &str = "/sys/fs/bpf";
const CGROUP2_DIR: &str = "/sys/fs/cgroup/unified";

#[cfg(test)]
mod tests {
    use super::mount_point;

    #[test]
    fn a_mount_is_found_by_its_kind_and_not_by_its_name() {
        let mounts = "bpf /somewhere tmpfs rw 0 0\nnone /sys/fs/bpf bpf rw 0 0\n";
        assert_eq!(mount_point(mounts, "bpf"), Some("/sys/fs/bpf".to_owned()));
        assert_eq!(mount_point(mounts, "cgroup2"), None);
    }
}
