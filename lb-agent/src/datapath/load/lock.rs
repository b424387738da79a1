// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One agent per bpf-root: flock(2) on the directory itself, which ends with the process
//! and leaves nothing behind.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::error::{LoadError, file};

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    directory: File,
}

impl Lock {
    /// Takes the lock on a directory.
    ///
    /// # Errors
    ///
    /// [`LoadError::Locked`] if another process has it.
    pub(super) fn take(path: &Path) -> Result<Self, LoadError> {
        let directory = File::open(path).map_err(file("open", path))?;
        match directory.try_lock() {
            Ok(()) => Ok(Self { directory }),
            Err(TryLockError::WouldBlock) => {
                let inode = directory.metadata().map_err(file("read", path))?.ino();
                let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
                Err(LoadError::Locked { path: path.to_owned(), pid: holder(&locks, inode) })
            }
            Err(TryLockError::Error(error)) => Err(file("lock", path)(error)),
        }
    }
}

impl Drop for Lock {
    /// Unlocks: closing would not, while a child process that was just forked has a copy of
    /// the descriptor.
    fn drop(&mut self) {
        let _closed_next = self.directory.unlock();
    }
}

/// The process that holds a flock on an inode, in the text of `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 4711 00:1c:23 0 EOF`.
fn holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        if fields.next()? != "FLOCK" {
            return None;
        }
        let pid = fields.nth(2)?;
        let (_, number) = fields.next()?.rsplit_once(':')?;
        (number.parse() == Ok(inode)).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_flock_is_found_by_inode() {
        let locks = "\
1: POSIX  ADVISORY  READ  12 00:17:77 0 EOF
2: FLOCK  ADVISORY  WRITE 4711 00:1c:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 4712 00:1c:77 0 EOF
3: FLOCK  ADVISORY  WRITE 99 00:1c:78 0 EOF";
        assert_eq!(holder(locks, 77), Some(4711));
        assert_eq!(holder(locks, 78), Some(99));
        assert_eq!(holder(locks, 79), None);
    }

    #[test]
    fn a_second_lock_on_adirectory_is_refused_with_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let held = Lock::take(directory.path()).unwrap();
        let Err(LoadError::Locked { pid, .. }) = Lock::take(directory.path()) else {
            panic!("two agents have the lock");
        };
        assert_eq!(pid, Some(std::process::id()));
        drop(held);
        Lock::take(directory.path()).unwrap();
    }
}
