// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the cgroup2 tree is mounted, and the cgroup whose sockets are balanced.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use super::syscall;

/// A cgroup2 directory, open.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: File,
    id: u64,
}

impl Cgroup {
    /// Opens a cgroup.
    ///
    /// # Errors
    ///
    /// Those of open(2); `InvalidInput` if the directory is in no cgroup2 file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        if syscall::file_system(&path)? != syscall::CGROUP2_SUPER_MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not in a cgroup2 file system",
            ));
        }
        let directory = File::open(&path)?;
        let id = directory.metadata()?.ino();
        Ok(Self { path, directory, id })
    }

    /// Its path, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its id, as links name it: the directory's inode number.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Whether the calling process is in it or below it; `None` if that cannot be told from
    /// the caller's cgroup namespace.
    pub fn holds_caller(&self) -> Option<bool> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let mount = find_mount().ok()??;
        if own.starts_with("..") {
            return None;
        }
        Some(fs::canonicalize(mount.join(own)).ok()?.starts_with(&self.path))
    }

    /// Whether it is the root of the whole hierarchy. A cgroup namespace or a bind mount
    /// can make another one look like it, but only the real root has no `cgroup.type`.
    pub fn is_real_root(&self) -> bool {
        !self.path.join("cgroup.type").exists()
    }

    /// This cgroup and those above it, as far as they can be seen, nearest first.
    pub fn lineage(&self) -> Vec<Self> {
        let ancestors = self.path.ancestors();
        ancestors.map_while(|path| Self::open(path).ok()).collect()
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The mount point of the cgroup2 tree: the one that shows its root, if several do not.
/// `None`: there is none.
pub fn find_mount() -> io::Result<Option<PathBuf>> {
    Ok(mount_in(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// Finds the cgroup2 mount in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn mount_in(mountinfo: &str) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        if file_system.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        Some((fields.next()?, fields.next()?))
    });
    let nearest_root = mounts.min_by_key(|(root, _)| root.len())?;
    Some(PathBuf::from(unescape(nearest_root.1)))
}

/// Octal escapes stand for blanks, tabs, newlines and backslashes.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_that_shows_the_root_is_found() {
        let mountinfo = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
90 23 0:38 /kubelet/pod1 /run/mine rw - cgroup2 cgroup2 rw
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:4 - cgroup2 cgroup2 rw";
        assert_eq!(mount_in(mountinfo), Some(PathBuf::from("/sys/fs/cgroup/uni fied")));
        assert_eq!(mount_in(""), None);
    }
}
