// SPDX-License-Identifier: Apache-2.0 OR MIT
//! cgroup2: the mount is found, never assumed; subtrees are killed and removed whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::wait;

/// Mount point of the cgroup2 hierarchy, from `/proc/self/mountinfo`.
///
/// # Errors
/// When none is mounted.
pub fn mount_point() -> Result<PathBuf> {
    mounts_of("cgroup2")?
        .into_iter()
        .next()
        .context("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

/// Mount points of one file system type, in the order of `mountinfo`.
pub fn mounts_of(fs_type: &str) -> Result<Vec<PathBuf>> {
    let text =
        fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(parse_mounts(&text, fs_type))
}

/// Makes the directory, parents too.
pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("creating cgroup {}", path.display()))
}

/// Moves the calling process in.
pub fn enter(path: &Path) -> Result<()> {
    let procs = path.join("cgroup.procs");
    fs::write(&procs, process::id().to_string())
        .with_context(|| format!("entering cgroup {}", path.display()))
}

/// Ids of all processes in the subtree.
pub fn processes(path: &Path) -> Vec<u32> {
    let own = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let own: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    children(path).iter().flat_map(|child| processes(child)).chain(own).collect()
}

/// Kills every process of the subtree and waits until none is left.
///
/// # Errors
/// When a process outlives SIGKILL by five seconds.
pub fn kill(path: &Path) -> Result<()> {
    match fs::write(path.join("cgroup.kill"), "1") {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("killing cgroup {}", path.display()));
        }
    }
    wait::until(PATIENCE, &format!("processes of {} to end", path.display()), || {
        let events = fs::read_to_string(path.join("cgroup.events")).unwrap_or_default();
        !events.contains("populated 1")
    })
}

/// Kills what runs in the subtree and removes it. Nothing there is success.
///
/// # Errors
/// When it cannot be emptied within five seconds.
pub fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    kill(path)?;
    let mut last = None;
    let removed =
        wait::until(PATIENCE, &format!("cgroup {} to be removable", path.display()), || {
            last = remove_tree(path).err();
            last.is_none()
        });
    match (removed, last) {
        (Err(late), Some(error)) => bail!("{late}: {error}"),
        (removed, _) => removed,
    }
}

/// Removes the directories, deepest first.
fn remove_tree(path: &Path) -> io::Result<()> {
    children(path).iter().try_for_each(|child| remove_tree(child))?;
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Directories right below.
fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The mount points in `mountinfo` text: field 5, and the type after ` - `
/// (proc(5)). Only mounts of the whole file system (root `/`) count: a mount of
/// a subtree would hide the real root.
fn parse_mounts(mountinfo: &str, fs_type: &str) -> Vec<PathBuf> {
    let whole = mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && source.split(' ').next()? == fs_type).then(|| PathBuf::from(point))
    });
    whole.collect()
}

/// How long killing and removing may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_is_found_by_type_and_whole_root() {
        let text = "41 31 0:38 /kube /a rw,relatime - cgroup2 cgroup2 rw\n\
                    42 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n\
                    43 31 0:39 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(parse_mounts(text, "cgroup2"), [PathBuf::from("/sys/fs/cgroup/unified")]);
    }
}
