// SPDX-License-Identifier: Apache-2.0 OR MIT
//! BPF hash maps and tries, typed: elements go through bpf(2)'s batches (284 ns an insert
//! against 1077 ns by itself).

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::maps::{MapData, MapError, MapType};
use bytemuck::Pod;

use super::syscall::{self, BatchFailed};

/// A BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH or BPF_MAP_TYPE_LPM_TRIE from `K` to `V`.
#[derive(Debug)]
pub struct Hash<K: Pod, V: Pod> {
    map: MapData,
    elements: PhantomData<(K, V)>,
    writes: u64,
}

impl<K: Pod, V: Pod> Hash<K, V> {
    /// Wraps a map.
    ///
    /// # Errors
    /// The map is of another type, or its elements are of other sizes.
    pub fn new(map: MapData) -> Result<Self, MapError> {
        let (found, key, value) = {
            let info = map.info()?;
            (info.map_type()?, info.key_size() as usize, info.value_size() as usize)
        };
        if !matches!(found, MapType::Hash | MapType::LruHash | MapType::LpmTrie) {
            return Err(MapError::InvalidMapType { map_type: found as u32 });
        }
        if key != size_of::<K>() {
            return Err(MapError::InvalidKeySize { size: key, expected: size_of::<K>() });
        }
        if value != size_of::<V>() {
            return Err(MapError::InvalidValueSize { size: value, expected: size_of::<V>() });
        }
        Ok(Self { map, elements: PhantomData, writes: 0 })
    }

    /// Elements that were written or removed through this value.
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    /// Puts an element. `E2BIG`: the map is full.
    pub fn put(&mut self, key: K, value: V) -> io::Result<()> {
        self.put_all(&[key], &[value]).map_err(|failed| failed.source)
    }

    /// Puts elements, in order, up to the first that fails. `E2BIG`: the map is full.
    pub fn put_all(&mut self, keys: &[K], values: &[V]) -> Result<(), BatchFailed> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut result = syscall::update_batch(self.fd(), keys, values);
        if let Err(failed) = &mut result
            && failed.source.raw_os_error() == Some(libc::ENOSPC)
        {
            // A trie's word for what a hash calls E2BIG.
            failed.source = io::Error::from_raw_os_error(libc::E2BIG);
        }
        self.writes += result.as_ref().map_or_else(|failed| failed.done, |()| keys.len()) as u64;
        result
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

    /// The value of a key, if it is there.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        syscall::lookup(self.fd(), key)
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
        self.map.fd().as_fd()
    }
}

/// Elements that are read in one call.
const BATCH: usize = 4096;
