// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The network namespaces in which sockets of a cgroup tree may be.
//!
//! A namespace has no list of its own. One that has a process is found at the process, and
//! one that is kept without any (a runtime makes the namespace before the pod) at its mount;
//! each counts once, by its inode.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// A network namespace, open: it lives at least as long as this does.
#[derive(Debug)]
pub struct Netns(File);

/// What is below a cgroup: its own id and those of the cgroups in it, and the processes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Subtree {
    /// As sock_diag names a socket's cgroup.
    pub cgroups: BTreeSet<u64>,
    /// In this process's pid namespace; those that it cannot see are left out.
    pub processes: BTreeSet<u32>,
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Netns {
    /// The namespace of this process.
    pub fn own() -> io::Result<Self> {
        File::open(OWN).map(Self)
    }

    /// Runs a function in the namespace, on a thread that ends with it: no thread of ours
    /// stays there and keeps it alive. Needs CAP_SYS_ADMIN.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            body()
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("netns".to_owned());
            let ended = thread.spawn_scoped(scope, inside)?.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("a thread in a namespace panicked")))
        })
    }
}

impl Subtree {
    /// Walks the tree. A cgroup that goes meanwhile is passed over.
    pub fn of(root: &Path) -> Self {
        let mut found = Self::default();
        let mut waiting = vec![root.to_owned()];
        while let Some(directory) = waiting.pop() {
            let Ok(metadata) = fs::metadata(&directory) else { continue };
            found.cgroups.insert(metadata.ino());
            // A threaded cgroup has no list: its processes are in that of one above it.
            let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            let processes = processes.lines().filter_map(|line| line.parse::<u32>().ok());
            found.processes.extend(processes.filter(|process| *process != 0));
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            let directories = entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(directories.map(|it| it.path()));
        }
        found
    }

    /// The namespaces of the processes and of this one, and those that are mounted where this
    /// process can see them; at most so many, in the order of their inodes. One that cannot be
    /// opened (its process has ended) is left out.
    pub fn namespaces(&self, limit: usize) -> Vec<Netns> {
        let processes = self.processes.iter().map(|id| PathBuf::from(format!("/proc/{id}/ns/net")));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut paths = BTreeMap::new();
        for path in [PathBuf::from(OWN)].into_iter().chain(processes).chain(mounted(&mounts)) {
            if let Ok(metadata) = fs::metadata(&path) {
                paths.entry(metadata.ino()).or_insert(path);
            }
        }
        let opened = paths.into_iter().filter_map(|(inode, path)| {
            let file = File::open(path).ok()?;
            // A process number may have passed to another meanwhile.
            (file.metadata().ok()?.ino() == inode).then_some(Netns(file))
        });
        opened.take(limit).collect()
    }
}

/// Where network namespaces are mounted, by the text of `/proc/self/mountinfo`
/// (proc_pid_mountinfo(5)): the root of such a mount reads `net:[4026531840]`.
fn mounted(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        root.starts_with("net:[").then(|| place.into())
    })
}

/// The namespace of the whole process, whichever thread asks.
const OWN: &str = "/proc/self/ns/net";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_namespaces_are_told_from_other_mounts() {
        let mountinfo = "\
31 23 0:28 / /run rw,relatime - tmpfs tmpfs rw,mode=755
90 31 0:4 net:[4026532171] /run/netns/cni-1 rw shared:7 - nsfs nsfs rw
91 31 0:4 mnt:[4026532172] /run/snapd/ns/x rw - nsfs nsfs rw";
        let found: Vec<_> = mounted(mountinfo).collect();
        assert_eq!(found, [PathBuf::from("/run/netns/cni-1")]);
    }

    #[test]
    fn a_tree_without_cgroups_has_this_processs_namespace() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("cgroup.procs"), "0\n").unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("below/cgroup.procs"), "1\n").unwrap();
        let tree = Subtree::of(directory.path());
        assert_eq!((tree.cgroups.len(), tree.processes), (2, [1].into()));
        assert_eq!(Subtree::default().namespaces(1).len(), 1);
    }
}
