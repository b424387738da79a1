// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EVENTS, read by whoever monitors: one process a bpf-root, since each event is given out once.
//!
//! It writes one word of CONFIG, which the agent never does: the lease that programs compare
//! with the clock. So nothing has to be undone when the process is killed.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::maps::{Map, MapData, MapError, PerCpuArray, RingBuf};
use lb_common::{
    config::Config,
    counter::Counter,
    event::{Event, Lease},
    maps,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{arrays::Array, load, syscall, view};

/// The events of one bpf-root, as long as this lives.
pub struct Events {
    root: PathBuf,
    one_in: u8,
    open: Open,
    _lock: File,
}

/// Why there are no events.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// Another process has them.
    #[error("{}: another monitor runs here, and each event is given out once; end that one first", path.display())]
    Taken {
        /// The lock.
        path: PathBuf,
    },
    /// The lock cannot be had.
    #[error("cannot lock {}: {source}", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No agent ever ran here, or what it left was unloaded.
    #[error("{} has no maps with events (any more); does an agent of this version run here?", path.display())]
    Absent {
        /// The bpf-root.
        path: PathBuf,
    },
    /// A map cannot be used.
    #[error("cannot use map {map}: {source}")]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: MapError,
    },
}

/// The maps.
struct Open {
    ring: RingBuf<MapData>,
    config: Array<Config>,
    counters: PerCpuArray<MapData, u64>,
    /// The ids of the ring and of CONFIG.
    ids: [u32; 2],
}

impl Events {
    /// Asks for one event in 2^`one_in` from now on, for the time of [`LEASE`]. `lock` is a file
    /// that only one process has.
    pub fn open(root: &Path, lock: &Path, one_in: u8) -> Result<Self, EventsError> {
        let lock = take(lock)?;
        let open = Open::new(root)?;
        let mut events = Self { root: root.to_owned(), one_in, open, _lock: lock };
        // What was told to one who was killed.
        while events.take_one().is_some() {}
        events.ask();
        Ok(events)
    }

    /// Asks for more. Call it every second. An agent that made the maps anew meanwhile is
    /// followed; whether it did.
    pub fn renew(&mut self) -> Result<bool, EventsError> {
        let is_new = Open::ids(&self.root)? != self.open.ids;
        if is_new {
            self.open = Open::new(&self.root)?;
        }
        self.ask();
        Ok(is_new)
    }

    /// The next event that is there.
    pub fn take_one(&mut self) -> Option<Event> {
        loop {
            let item = self.open.ring.next()?;
            // Other lengths are of no program of ours.
            if let Ok(event) = bytemuck::try_pod_read_unaligned(&item) {
                return Some(event);
            }
        }
    }

    /// Waits until there may be an event.
    ///
    /// # Errors
    /// What poll(2) said; a signal is none.
    pub fn wait(&self, longest: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX);
        let ring = PollFd::new(self.open.ring.as_fd(), PollFlags::POLLIN);
        match poll(&mut [ring], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Events that were left out since the node's programs were loaded.
    pub fn lost(&self) -> Result<u64, EventsError> {
        let values = self.open.counters.get(&Counter::EventsLost.index(), 0);
        Ok(values.map_err(unusable(maps::COUNTERS))?.iter().sum())
    }

    fn ask(&mut self) {
        let end_ns = view::now_ns() + u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX);
        self.open.config.set_events(Lease::until(end_ns, self.one_in));
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.open.config.set_events(Lease::default());
    }
}

impl Open {
    fn new(root: &Path) -> Result<Self, EventsError> {
        let ids = Self::ids(root)?;
        let open = |map| load::pinned_map(root, map).map_err(unusable(map));
        let ring = open(maps::EVENTS)?;
        let ring = Map::from_map_data(ring).and_then(RingBuf::try_from);
        let counters = Map::from_map_data(open(maps::COUNTERS)?).and_then(PerCpuArray::try_from);
        let config = Array::map(open(maps::CONFIG)?.fd(), 1).map_err(MapError::IoError);
        Ok(Self {
            ring: ring.map_err(unusable(maps::EVENTS))?,
            config: config.map_err(unusable(maps::CONFIG))?,
            counters: counters.map_err(unusable(maps::COUNTERS))?,
            ids,
        })
    }

    /// The ids of the maps that are pinned now.
    fn ids(root: &Path) -> Result<[u32; 2], EventsError> {
        let absent = |_| EventsError::Absent { path: root.to_owned() };
        let id = |map| -> Result<u32, EventsError> {
            let map = load::pinned_map(root, map).map_err(absent)?;
            let found = syscall::describe_map(map.fd()).map_err(MapError::IoError);
            Ok(found.map_err(absent)?.id)
        };
        Ok([id(maps::EVENTS)?, id(maps::CONFIG)?])
    }
}

fn take(path: &Path) -> Result<File, EventsError> {
    let failed = |source| EventsError::Lock { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let file = File::create(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EventsError::Taken { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn unusable(map: &'static str) -> impl FnOnce(MapError) -> EventsError {
    move |source| EventsError::Map { map, source }
}

/// How long programs tell events after they were last asked to.
pub const LEASE: Duration = Duration::from_secs(3);
