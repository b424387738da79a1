// SPDX-License-Identifier: Apache-2.0 OR MIT
//! BPF arrays as memory: a write is a store, not a system call (4.6 ns against 961 ns).
//!
//! Every access is one aligned 64-bit load or store, so a set word, a backend's life or a
//! node port changes as a whole under the programs' eyes. Only the agent writes these
//! arrays (and the programs BACKEND_LOAD and SOCKETS), from one task.
#![expect(unsafe_code, reason = "memory that is shared with the kernel")]

use std::{
    io,
    marker::PhantomData,
    mem::offset_of,
    os::fd::{AsFd, AsRawFd as _},
    sync::atomic::{AtomicU64, Ordering},
};

use bytemuck::Pod;
use lb_common::{
    addr::Addr,
    backend::BackendLoad,
    config::{Config, NETS_WORDS, NetBit, PortRange},
    event::Lease,
    socket::{Dialled, Held, SocketRecord},
};
use memmap2::{MmapOptions, MmapRaw};

/// A BPF_MAP_TYPE_ARRAY with BPF_F_MMAPABLE whose values are `T`: words of 8 bytes.
#[derive(Debug)]
pub struct Array<T> {
    memory: MmapRaw,
    len: u32,
    writes: u64,
    value: PhantomData<T>,
}

impl<T: Pod> Array<T> {
    /// Maps an array's memory. `len` is the map's own max_entries: the kernel refuses more.
    pub fn map(map: impl AsFd, len: u32) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(WORD) && size_of::<T>() > 0) };
        let bytes = len as usize * size_of::<T>();
        let memory = MmapOptions::new().len(bytes).map_raw(map.as_fd().as_raw_fd())?;
        Ok(Self { memory, len, writes: 0, value: PhantomData })
    }

    /// Number of elements.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Never: a BPF array has at least one element.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Words that were stored through this value. A store of what is there is left out.
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    /// An element, word by word; `None` past the end.
    pub fn read(&self, index: u32) -> Option<T> {
        let words = self.element(index)?;
        let mut value = T::zeroed();
        for (word, bytes) in words.iter().zip(bytemuck::bytes_of_mut(&mut value).chunks_mut(WORD)) {
            bytes.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
        }
        Some(value)
    }

    /// Writes an element: the words that differ, the last first, so that the first word
    /// (a set, a life) is stored when all others are there. Whether it is in the array.
    pub fn write(&mut self, index: u32, value: &T) -> bool {
        let bytes = bytemuck::bytes_of(value);
        let mut stored = 0;
        let Some(words) = self.element(index) else {
            return false;
        };
        for (place, bytes) in words.iter().zip(bytes.chunks_exact(WORD)).rev() {
            stored += store(place, word_of(bytes));
        }
        self.writes += stored;
        true
    }

    /// Writes the word at a byte offset of an element with one store. Whether both are in
    /// the array.
    pub fn write_word(&mut self, index: u32, offset: usize, word: u64) -> bool {
        let Some(place) = self.word(index, offset) else {
            return false;
        };
        self.writes += store(place, word);
        true
    }

    /// Writes elements from an index on; how many were in the array.
    pub fn write_from(&mut self, base: u32, values: &[T]) -> usize {
        (base..).zip(values).take_while(|(index, value)| self.write(*index, value)).count()
    }

    /// The elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len).filter_map(|index| self.read(index))
    }

    /// The elements up to the last one that is not zero.
    pub fn written(&self) -> Vec<T> {
        let words = self.words();
        let last = words.iter().rposition(|word| word.load(Ordering::Relaxed) != 0);
        let count = last.map_or(0, |last| last * WORD / size_of::<T>() + 1);
        self.iter().take(count).collect()
    }

    fn word(&self, index: u32, offset: usize) -> Option<&AtomicU64> {
        debug_assert!(offset.is_multiple_of(WORD));
        self.element(index)?.get(offset / WORD)
    }

    fn element(&self, index: u32) -> Option<&[AtomicU64]> {
        let words = size_of::<T>() / WORD;
        let start = index as usize * words;
        self.words().get(start..start + words)
    }

    fn words(&self) -> &[AtomicU64] {
        #[expect(clippy::cast_ptr_alignment, reason = "a mapping starts at a page")]
        let first = self.memory.as_ptr().cast::<AtomicU64>();
        // SAFETY: the mapping is aligned, has `memory.len()` bytes and lives as long as
        // `self`. Others change it with atomic or volatile accesses only (the programs), and
        // nothing else in this process knows of it.
        unsafe { std::slice::from_raw_parts(first, self.memory.len() / WORD) }
    }
}

impl Array<BackendLoad> {
    /// Adds to a backend's sockets, atomically with what programs add; wraps.
    pub fn add(&mut self, index: u32, sockets: u64) -> bool {
        let Some(place) = self.word(index, offset_of!(BackendLoad, sockets)) else {
            return false;
        };
        place.fetch_add(sockets, Ordering::SeqCst);
        self.writes += 1;
        true
    }

    /// Takes all of a backend's sockets.
    pub fn take(&mut self, index: u32) -> u64 {
        let place = self.word(index, offset_of!(BackendLoad, sockets));
        place.map_or(0, |place| place.swap(0, Ordering::SeqCst))
    }
}

impl Array<Config> {
    /// Makes the programs look up destinations in an address's network.
    pub fn admit(&mut self, address: Addr) {
        let NetBit { word, mask } = NetBit::of(address);
        let offset = offset_of!(Config, nets) + word as usize * WORD;
        let nets = self.word(0, offset).map_or(0, |nets| nets.load(Ordering::Relaxed));
        self.write_word(0, offset, nets | mask);
    }

    /// Makes the programs look up destinations in all networks of a prefix; `bits` counts as
    /// in [`Addr`], where an IPv4 prefix has 96 more. One with too many networks means all
    /// destinations.
    pub fn admit_prefix(&mut self, prefix: Addr, bits: u32) {
        let spanned = NetBit::BITS.saturating_sub(bits);
        if spanned > MOST_SPANNED {
            for word in 0..NETS_WORDS {
                self.write_word(0, offset_of!(Config, nets) + word * WORD, u64::MAX);
            }
            return;
        }
        let first = u128::from_be_bytes(prefix.octets);
        for net in 0..1_u128 << spanned {
            let octets = (first | net << (Addr::BITS - NetBit::BITS)).to_be_bytes();
            self.admit(Addr { octets });
        }
    }

    /// Says what flows to backends of other nodes leave with: the node's addresses (zero for
    /// none), and no port of its sockets. A program that reads an address while it is changed
    /// may see half of each, and opens one flow in vain.
    pub fn set_own(&mut self, v4: Addr, v6: Addr, local_ports: PortRange) {
        let places = [offset_of!(Config, snat4), offset_of!(Config, snat6)];
        for (place, address) in places.into_iter().zip([v4, v6]) {
            let words: [u64; 2] = bytemuck::must_cast(address);
            for (at, word) in words.into_iter().enumerate() {
                self.write_word(0, place + at * WORD, word);
            }
        }
        self.write_word(0, offset_of!(Config, local_ports), local_ports.to_word());
    }

    /// Asks the programs for events, or no longer. For whoever monitors, not for the agent.
    pub fn set_events(&mut self, lease: Lease) {
        self.write_word(0, offset_of!(Config, events), lease.to_word());
    }

    /// Makes the programs look up destinations with a port (host order) as NodePorts.
    pub fn admit_node_port(&mut self, port: u16) {
        const NODE_PORTS: usize = offset_of!(Config, node_ports);
        let ports = self.word(0, NODE_PORTS).map_or(0, |ports| ports.load(Ordering::Relaxed));
        self.write_word(0, NODE_PORTS, PortRange::from_word(ports).with(port).to_word());
    }
}

impl Array<SocketRecord> {
    /// A socket's record as a whole, or `None` if the place is free or a program has been
    /// at work on it all along.
    pub fn read_record(&self, index: u32) -> Option<SocketRecord> {
        const OWNER: usize = offset_of!(SocketRecord, owner);
        if self.word(index, OWNER)?.load(Ordering::Acquire) == 0 {
            return None;
        }
        for _ in 0..MAX_READS {
            let before = self.read(index)?;
            let after = self.read(index)?;
            if before == after && before.sequence.is_multiple_of(2) {
                return (before.owner != 0).then_some(before);
            }
        }
        None
    }

    /// Makes what a half of a record holds look like something of the past, so that its socket
    /// chooses anew; whether it still held that. The backend's count is given back as ever.
    ///
    /// A program never looks at the generation to tell what it must give back, and stores
    /// backend and generation anew when the socket has chosen: the exchange then fails.
    pub fn outdate(&mut self, index: u32, half: Held, held: &Dialled) -> bool {
        let offset = match half {
            Held::CONNECTED => offset_of!(SocketRecord, connected),
            _ => offset_of!(SocketRecord, datagram),
        } + offset_of!(Dialled, backend);
        let Some(place) = self.word(index, offset) else {
            return false;
        };
        let word = |generation: u32| bytemuck::must_cast([held.backend, generation]);
        let [seen, past] = [held.generation, held.generation.wrapping_sub(1)].map(word);
        place.compare_exchange(seen, past, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

/// Stores a word if it differs; the number of stores.
fn store(place: &AtomicU64, word: u64) -> u64 {
    if place.load(Ordering::Relaxed) == word {
        return 0;
    }
    place.store(word, Ordering::Release);
    1
}

/// Eight bytes as the word that they are in memory; missing ones are zero.
fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_ne_bytes(word)
}

/// Bits that a prefix may be shorter than a network and is still told network by network:
/// that of a /10 or of a /106, which sets a fifth of all bits.
const MOST_SPANNED: u32 = 14;
/// Bytes of a word.
const WORD: usize = size_of::<u64>();
/// Tries to read a record that programs keep writing.
const MAX_READS: u32 = 8;
