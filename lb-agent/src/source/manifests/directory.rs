// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A directory that is followed by inotify.
//!
//! Two watches: one of the directory, one of its parent, by which a directory that is
//! replaced (renamed over, or a symbolic link that is pointed elsewhere) is found again.
//! While the directory is missing it is looked for once a second: nothing could tell. A
//! symbolic link's target is read anew when something changes in the directory itself, as the
//! link `..data` of a mounted ConfigMap does.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::source::error::Error;

/// A directory and what is known of its files.
pub(super) struct Directory {
    path: PathBuf,
    events: EventStream<[u8; EVENT_BYTES]>,
    /// The same events, to ask the kernel whether there are any.
    queue: OwnedFd,
    /// The watch of the directory itself.
    watch: Option<WatchDescriptor>,
    /// Which directory that watch is of: device and inode; `None` once it is gone.
    identity: Option<(u64, u64)>,
    /// Files that somebody writes to: what they hold now may be half of it.
    writing: BTreeSet<OsString>,
    /// What each file was when it was read last.
    stamps: BTreeMap<PathBuf, Stamp>,
    /// Why the directory cannot be read, if so.
    missing: Option<io::Error>,
}

/// What a look at the directory found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every file that counts.
    pub(super) present: BTreeSet<PathBuf>,
    /// The texts of those that changed.
    pub(super) read: Vec<(PathBuf, io::Result<String>)>,
}

/// Tells one version of a file from another: device, inode, length, and the times of the last
/// change of its content and of its inode in nanoseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp([i128; 5]);

impl Directory {
    /// Opens the directory and begins to follow it.
    ///
    /// # Errors
    /// [`Error::ManifestsDirectory`] if it is none or cannot be read, [`Error::Inotify`] if
    /// the kernel refuses a watch.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::ManifestsDirectory { path: path.to_owned(), source };
        fs::read_dir(path).map_err(unreadable)?;
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let unfollowed = |source| Error::Inotify { path: absolute.clone(), source };
        let inotify = Inotify::init().map_err(unfollowed)?;
        let parent = absolute.parent().unwrap_or(&absolute);
        let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ONLYDIR;
        inotify.watches().add(parent, mask).map_err(unfollowed)?;
        let queue = inotify.as_fd().try_clone_to_owned().map_err(unfollowed)?;
        let events = inotify.into_event_stream([0; EVENT_BYTES]).map_err(unfollowed)?;
        let mut directory = Self {
            path: absolute.clone(),
            events,
            queue,
            watch: None,
            identity: None,
            writing: BTreeSet::new(),
            stamps: BTreeMap::new(),
            missing: None,
        };
        directory.follow().map_err(unfollowed)?;
        Ok(directory)
    }

    /// The directory, as an absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why the directory cannot be read now, if so.
    pub(super) fn failure(&self) -> Option<Error> {
        let missing = self.missing.as_ref()?;
        let source = io::Error::new(missing.kind(), missing.to_string());
        Some(Error::File { path: self.path.clone(), source })
    }

    /// Waits until something may have changed.
    pub(super) async fn changed(&mut self) {
        loop {
            let event = if self.missing.is_some() {
                let Ok(event) = tokio::time::timeout(RETRY, self.events.next()).await else {
                    return;
                };
                event
            } else {
                self.events.next().await
            };
            match event {
                Some(Ok(event)) if self.note(&event) => return,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Looks at the directory; `None` if it cannot be read, so that what is known stays.
    pub(super) async fn scan(&mut self) -> Option<Scan> {
        loop {
            self.drain().await;
            let found = self.follow().and_then(|()| self.look());
            let mut scan = match found {
                Ok(scan) => scan,
                Err(error) => {
                    self.missing = Some(error);
                    return None;
                }
            };
            self.missing = None;
            // A file that was changed while it was read is read again.
            if self.drain().await {
                self.forget(&scan);
                continue;
            }
            self.leave_unfinished(&mut scan);
            return Some(scan);
        }
    }

    /// Watches the directory that the path leads to now.
    fn follow(&mut self) -> io::Result<()> {
        let metadata = fs::metadata(&self.path)?;
        let identity = Some((metadata.dev(), metadata.ino()));
        if self.watch.is_some() && self.identity == identity {
            return Ok(());
        }
        if let Some(old) = self.watch.take() {
            // The kernel dropped it already if the directory was deleted.
            drop(self.events.watches().remove(old));
        }
        self.writing.clear();
        self.watch =
            Some(self.events.watches().add(&self.path, WatchMask::ONLYDIR | IN_DIRECTORY)?);
        self.identity = identity;
        Ok(())
    }

    /// Takes every event that is there; true if one may matter.
    async fn drain(&mut self) -> bool {
        let mut matters = false;
        loop {
            let event = match self.events.next().now_or_never() {
                Some(event) => event,
                // The runtime has not been told yet of what the kernel has.
                None if self.has_events() => self.events.next().await,
                None => return matters,
            };
            let Some(Ok(event)) = event else { return matters };
            matters |= self.note(&event);
        }
    }

    /// Whether the kernel has events that were not read.
    fn has_events(&self) -> bool {
        let mut queue = [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)];
        poll(&mut queue, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Takes up one event; true if a look at the directory may find something new.
    fn note(&mut self, event: &EventOwned) -> bool {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            self.writing.clear();
            return true;
        }
        if Some(&event.wd) != self.watch.as_ref() {
            // The parent: only an entry of the directory's own name is of interest.
            return event.name.as_deref() == self.path.file_name();
        }
        let gone = EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF;
        if event.mask.intersects(gone) {
            self.identity = None;
            return true;
        }
        let Some(name) = &event.name else { return true };
        if event.mask.contains(EventMask::MODIFY)
            || (event.mask.contains(EventMask::CREATE) && is_being_made(&self.path.join(name)))
        {
            self.writing.insert(name.clone());
            return false;
        }
        let whole = EventMask::CLOSE_WRITE | EventMask::MOVED_TO;
        if event.mask.intersects(whole | EventMask::MOVED_FROM | EventMask::DELETE) {
            self.writing.remove(name);
        }
        true
    }

    fn look(&mut self) -> io::Result<Scan> {
        let mut scan = Scan::default();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let path = self.path.join(&name);
            if !counts(&path) {
                continue;
            }
            if self.writing.contains(&name) {
                scan.present.insert(path);
                continue;
            }
            match read(&path, self.stamps.get(&path)) {
                Ok(None) => {}
                Ok(Some((stamp, text))) => {
                    self.stamps.insert(path.clone(), stamp);
                    scan.read.push((path.clone(), Ok(text)));
                }
                // Gone between the listing and the look, or a symbolic link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.stamps.remove(&path);
                    scan.read.push((path.clone(), Err(error)));
                }
            }
            scan.present.insert(path);
        }
        self.stamps.retain(|path, _| scan.present.contains(path));
        Ok(scan)
    }

    /// Takes out of a look what somebody began to write to meanwhile: it may be half of a
    /// file, and is read when it is closed.
    fn leave_unfinished(&mut self, scan: &mut Scan) {
        let Self { writing, stamps, .. } = self;
        scan.read.retain(|(path, _)| {
            let unfinished = path.file_name().is_some_and(|name| writing.contains(name));
            if unfinished {
                stamps.remove(path);
            }
            !unfinished
        });
    }

    /// Makes the next look read again what this one read.
    fn forget(&mut self, scan: &Scan) {
        for (path, _) in &scan.read {
            self.stamps.remove(path);
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let nanos = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        Self([
            metadata.dev().into(),
            metadata.ino().into(),
            metadata.size().into(),
            nanos(metadata.mtime(), metadata.mtime_nsec()),
            nanos(metadata.ctime(), metadata.ctime_nsec()),
        ])
    }
}

/// The file's text, or `None` if it is what it was at `known`.
fn read(path: &Path, known: Option<&Stamp>) -> io::Result<Option<(Stamp, String)>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let stamp = Stamp::of(&metadata);
    if known == Some(&stamp) || !metadata.is_file() {
        return Ok(None);
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Some((stamp, text)))
}

/// Whether a file of this name is a manifest.
fn counts(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let known = ["yaml", "yml", "json"];
    !hidden && path.extension().is_some_and(|it| known.iter().any(|known| it == *known))
}

/// Whether a new entry is a file that its maker will close: links and directories are whole
/// at once.
fn is_being_made(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file() && it.nlink() == 1)
}

/// What is followed in the directory.
const IN_DIRECTORY: WatchMask = WatchMask::CREATE
    .union(WatchMask::MODIFY)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF);

/// How often a missing directory is looked for.
const RETRY: Duration = Duration::from_secs(1);

/// Room for events that are read at once: 16 of the longest names.
const EVENT_BYTES: usize = 16 * (16 + 256);
