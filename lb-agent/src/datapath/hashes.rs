// SPDX-License-Identifier: Apache-2.0 OR MIT
//! BPF hash maps, typed: single elements through aya, many at once through bpf(2)'s batches
//! (284 ns an insert against 1077 ns).

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::maps::{HashMap, IterableMap as _, Map, MapData, MapError};
use bytemuck::Pod;

use super::{
    syscall::{self, BatchFailed},
    wire::Wire,
};

/// A BPF_MAP_TYPE_HASH or BPF_MAP_TYPE_LRU_HASH from `K` to `V`.
#[derive(Debug)]
pub struct Hash<K: Pod, V: Pod> {
    map: HashMap<MapData, Wire<K>, Wire<V>>,
    writes: u64,
}

impl<K: Pod, V: Pod> Hash<K, V> {
    /// Wraps a map whose shape has been checked.
    pub fn new(map: MapData) -> Result<Self, MapError> {
        let map = HashMap::try_from(Map::from_map_data(map)?)?;
        Ok(Self { map, writes: 0 })
    }

    /// Elements that were written or removed through this value.
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    /// An element's value.
    pub fn read(&self, key: K) -> io::Result<Option<V>> {
        match self.map.get(&Wire(key), 0) {
            Ok(value) => Ok(Some(value.0)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }

    /// Puts an element. `E2BIG`: the map is full.
    pub fn put(&mut self, key: K, value: V) -> io::Result<()> {
        self.map.insert(Wire(key), Wire(value), 0).map_err(errno)?;
        self.writes += 1;
        Ok(())
    }

    /// Puts elements, in order, up to the first that fails.
    pub fn put_all(&mut self, keys: &[K], values: &[V]) -> Result<(), BatchFailed> {
        if keys.is_empty() {
            return Ok(());
        }
        let result = syscall::update_batch(self.fd(), keys, values);
        self.writes += result.as_ref().map_or_else(|failed| failed.done, |()| keys.len()) as u64;
        result
    }

    /// Removes an element; one that is missing is no error.
    pub fn remove(&mut self, key: K) -> io::Result<()> {
        match self.map.remove(&Wire(key)).map_err(errno) {
            Ok(()) => self.writes += 1,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes elements, in order, up to the first that fails; missing ones are no error.
    pub fn remove_all(&mut self, keys: &[K]) -> Result<(), BatchFailed> {
        let mut done = 0;
        while let Some(rest) = keys.get(done..).filter(|rest| !rest.is_empty()) {
            match syscall::delete_batch(self.fd(), rest) {
                Ok(()) => {
                    self.writes += rest.len() as u64;
                    done = keys.len();
                }
                Err(failed) => {
                    self.writes += failed.done as u64;
                    done += failed.done;
                    if failed.source.raw_os_error() != Some(libc::ENOENT) {
                        return Err(BatchFailed { done, source: failed.source });
                    }
                    done += 1;
                }
            }
        }
        Ok(())
    }

    /// Every element. What others change meanwhile may be in it or not.
    pub fn dump(&self) -> io::Result<Vec<(K, V)>> {
        let mut elements = Vec::new();
        self.read_all(|keys, values| {
            elements.extend(keys.iter().copied().zip(values.iter().copied()));
            Ok(())
        })?;
        Ok(elements)
    }

    /// Hands every element to a function, some thousands at a time.
    pub fn read_all(&self, mut take: impl FnMut(&[K], &[V]) -> io::Result<()>) -> io::Result<()> {
        let (mut keys, mut values) = (vec![K::zeroed(); BATCH], vec![V::zeroed(); BATCH]);
        let mut cursor = None;
        loop {
            match syscall::lookup_batch(self.fd(), cursor, &mut keys, &mut values) {
                Ok(read) => {
                    let keys = keys.get(..read.count).unwrap_or_default();
                    take(keys, values.get(..read.count).unwrap_or_default())?;
                    match read.next {
                        Some(next) => cursor = Some(next),
                        None => return Ok(()),
                    }
                }
                // One bucket has more elements than there was room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    keys.resize(keys.len() * 2, K::zeroed());
                    values.resize(values.len() * 2, V::zeroed());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.map().fd().as_fd()
    }
}

/// The kernel's answer inside of aya's error.
fn errno(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        MapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// Elements that are read in one call.
const BATCH: usize = 4096;
