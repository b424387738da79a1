// SPDX-License-Identifier: Apache-2.0 OR MIT
//! BACKENDS: who uses which backend, and in which state it therefore is.

use std::{collections::BTreeSet, slice};

use foldhash::HashMap;
use lb_common::{
    addr::Addr,
    backend::{Backend, BackendFlags, Life, State},
    be::Be16,
    protocol::Protocol,
    slot::Slot,
};

use super::{alloc::Indexes, eligible::Role, op::Op, phases::Phases, refs, tables::Tables};

/// What a backend is: service ports that name the same one share it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct BackendKey {
    /// Where traffic is sent.
    pub address: Addr,
    /// The port there.
    pub port: Be16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
}

/// A service port's use of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hold {
    /// Index into BACKENDS.
    pub index: u32,
    /// As in the candidate that it was taken for, without the sets that nothing leads to.
    pub role: Role,
}

/// All backends, by key and by index.
#[derive(Clone, Debug)]
pub struct Backends {
    by_key: HashMap<BackendKey, u32>,
    /// By index; an element without key is free.
    entries: Vec<Option<Entry>>,
    indexes: Indexes,
    /// Free indexes that sockets still use.
    busy: Vec<u32>,
    /// Whose use changed since the last settlement.
    touched: Vec<u32>,
    /// Backends that nobody uses any more: they die after a grace period.
    dying: BTreeSet<u32>,
    /// How many grace periods have begun.
    graces: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: BackendKey,
    /// As the last settlement left it.
    life: Life,
    flags: BackendFlags,
    /// Service ports that have it in a set; how many of them call it ready, and local.
    in_sets: u32,
    ready: u32,
    here: u32,
    /// Service ports that have it in no set: it keeps what it has.
    kept: u32,
    /// Not written yet.
    is_new: bool,
    /// How many grace periods had begun when a service port last stopped using it.
    released: u32,
}

impl Backends {
    /// What a dump holds, used by nobody so far.
    pub fn restore(tables: &Tables, capacity: u32) -> Self {
        let found = tables.backends.iter().filter(|(index, backend)| {
            (1..capacity).contains(index) && refs::is_usable(backend.life)
        });
        let found: Vec<(u32, Backend)> = found.collect();
        let end = found.last().map_or(0, |(index, _)| *index as usize + 1);
        let mut this = Self {
            by_key: HashMap::default(),
            entries: vec![None; end],
            indexes: Indexes::new(capacity, found.iter().map(|(index, _)| *index)),
            busy: Vec::new(),
            touched: found.iter().map(|(index, _)| *index).collect(),
            dying: BTreeSet::new(),
            graces: 0,
        };
        for (index, backend) in found {
            let Life { port, protocol, .. } = backend.life;
            let key = BackendKey { address: backend.address, port, protocol };
            this.by_key.entry(key).or_insert(index);
            this.put(index, Some(Entry::new(key, backend.life, backend.flags())));
        }
        this
    }

    /// Where a backend is. `earlier` is what the service port had, in the order of its
    /// candidates: most are there still, and looking there costs no search.
    pub fn find(&self, key: &BackendKey, earlier: &mut slice::Iter<'_, Hold>) -> Option<u32> {
        let is_it = |hold: &Hold| {
            let entry = self.entries.get(hold.index as usize).and_then(Option::as_ref);
            entry.is_some_and(|entry| entry.key == *key)
        };
        match earlier.as_slice().iter().take(LOOK_AHEAD).position(is_it) {
            Some(skipped) => earlier.nth(skipped).map(|hold| hold.index),
            None => self.by_key.get(key).copied(),
        }
    }

    /// Uses a backend in a set, where it was found, or in a place of its own. `None`: BACKENDS
    /// is full. An index that sockets still use is not given away.
    pub fn hold(
        &mut self,
        found: Option<u32>,
        key: BackendKey,
        role: Role,
        tables: &Tables,
        load: &dyn Fn(u32) -> u64,
    ) -> Option<Hold> {
        let index = match found {
            Some(index) => index,
            None => self.create(key, tables, load)?,
        };
        let hold = Hold { index, role };
        self.count(hold, u32::wrapping_add);
        Some(hold)
    }

    /// Keeps a backend that is in no set. One without a place has no sockets, and needs none.
    pub fn keep(&mut self, index: u32) -> Hold {
        let hold = Hold { index, role: Role::empty() };
        self.count(hold, u32::wrapping_add);
        hold
    }

    /// Ends one use: set words that are written now name the backend no more.
    pub fn release(&mut self, hold: Hold) {
        self.count(hold, u32::wrapping_sub);
        let graces = self.graces;
        if let Some(entry) = self.entry_mut(hold.index) {
            entry.released = graces;
        }
    }

    /// Ends one use, a grace period after the last set word that named it for this.
    pub fn let_go(&mut self, hold: Hold) {
        self.count(hold, u32::wrapping_sub);
    }

    /// Notes that a grace period begins.
    pub const fn part(&mut self) {
        self.graces = self.graces.wrapping_add(1);
    }

    /// Takes a use back that nothing was planned for; a place that was found for it is free.
    pub fn undo(&mut self, hold: Hold) {
        self.release(hold);
        if let Some(entry) = self.entries.get(hold.index as usize).copied().flatten()
            && entry.is_new
            && entry.in_sets + entry.kept == 0
        {
            self.forget(hold.index, &entry);
        }
    }

    /// The slot that names a backend.
    pub fn slot(&self, index: u32) -> Slot {
        let entry = self.entries.get(index as usize).copied().flatten();
        entry.map_or_else(Slot::default, |Entry { key, life, flags, .. }| {
            refs::slot_of(index, &Backend::new(life, key.address, flags))
        })
    }

    /// What a backend is, and the slot that names it.
    pub fn named(&self, index: u32) -> Option<(BackendKey, Slot)> {
        let entry = self.entries.get(index as usize).copied().flatten()?;
        Some((entry.key, self.slot(index)))
    }

    /// How many have a place.
    pub fn used(&self) -> usize {
        self.indexes.used()
    }

    /// How many places are free.
    pub fn free(&self) -> u32 {
        self.indexes.free()
    }

    /// Whether some wait for their death.
    pub fn has_dying(&self) -> bool {
        !self.dying.is_empty()
    }

    /// Writes what follows from changed use: new backends and those that are active again
    /// before anything names them, those that get nothing new any more afterwards.
    pub fn settle(&mut self, phases: &mut Phases) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for index in touched {
            let Some(mut entry) = self.entries.get(index as usize).copied().flatten() else {
                continue;
            };
            if entry.in_sets + entry.kept > 0 {
                self.dying.remove(&index);
                entry.settle(index, phases);
                self.put(index, Some(entry));
            } else if entry.is_new {
                self.forget(index, &entry);
            } else {
                self.dying.insert(index);
            }
        }
    }

    /// The deaths of those that nobody has used since the last grace period began: to be
    /// executed when it is over. Their indexes are free then.
    pub fn bury(&mut self) -> Vec<Op> {
        for index in std::mem::take(&mut self.busy) {
            self.indexes.give(index);
        }
        let dying = std::mem::take(&mut self.dying);
        let is_late = |index: &u32| {
            let entry = self.entries.get(*index as usize).and_then(Option::as_ref);
            entry.is_some_and(|entry| entry.released == self.graces)
        };
        let (late, dead): (BTreeSet<_>, BTreeSet<_>) = dying.into_iter().partition(is_late);
        self.dying = late;
        let mut deaths = Vec::with_capacity(dead.len());
        for index in dead {
            if let Some(entry) = self.entries.get(index as usize).copied().flatten() {
                let generation = entry.life.generation.wrapping_add(1);
                let life = Life { generation, state: State::Dead as u8, ..entry.life };
                deaths.push(Op::Life { index, life });
                self.forget(index, &entry);
            }
        }
        deaths
    }

    fn create(
        &mut self,
        key: BackendKey,
        tables: &Tables,
        load: &dyn Fn(u32) -> u64,
    ) -> Option<u32> {
        let index = loop {
            let index = self.indexes.take()?;
            if load(index) == 0 {
                break index;
            }
            self.busy.push(index);
        };
        let life = Life {
            generation: next_generation(tables.backends.at(index).life),
            state: State::Active as u8,
            protocol: key.protocol,
            port: key.port,
        };
        let mut entry = Entry::new(key, life, BackendFlags::empty());
        (entry.is_new, entry.released) = (true, self.graces);
        self.by_key.insert(key, index);
        self.put(index, Some(entry));
        Some(index)
    }

    fn count(&mut self, hold: Hold, add: fn(u32, u32) -> u32) {
        if let Some(entry) = self.entry_mut(hold.index) {
            if hold.role.intersects(Role::CLUSTER | Role::LOCAL) {
                entry.in_sets = add(entry.in_sets, 1);
                entry.ready = add(entry.ready, u32::from(hold.role.contains(Role::READY)));
                entry.here = add(entry.here, u32::from(hold.role.contains(Role::HERE)));
            } else {
                entry.kept = add(entry.kept, 1);
            }
            self.touched.push(hold.index);
        }
    }

    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.entries.get_mut(index as usize).and_then(Option::as_mut)
    }

    fn forget(&mut self, index: u32, entry: &Entry) {
        if self.by_key.get(&entry.key) == Some(&index) {
            self.by_key.remove(&entry.key);
        }
        self.put(index, None);
        self.indexes.give(index);
    }

    fn put(&mut self, index: u32, entry: Option<Entry>) {
        let index = index as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, None);
        }
        if let Some(place) = self.entries.get_mut(index) {
            *place = entry;
        }
    }
}

impl Entry {
    const fn new(key: BackendKey, life: Life, flags: BackendFlags) -> Self {
        Self {
            key,
            life,
            flags,
            in_sets: 0,
            ready: 0,
            here: 0,
            kept: 0,
            is_new: false,
            released: 0,
        }
    }

    /// A backend that is in no set gets nothing new: what it has, it keeps (CT-05).
    fn settle(&mut self, index: u32, phases: &mut Phases) {
        let before = *self;
        let state = if self.ready > 0 { State::Active } else { State::Terminating };
        self.life.state = state as u8;
        if self.in_sets > 0 {
            // Where service ports disagree, slices of some name a wrong node: most are believed.
            self.flags.set(BackendFlags::LOCAL, self.here * 2 > self.in_sets);
        }
        let Self { life, flags, key, .. } = *self;
        if std::mem::take(&mut self.is_new) {
            phases.backends.push(Op::Backend { index, life, address: key.address, flags });
            return;
        }
        if flags != before.flags {
            phases.backends.push(Op::BackendFlags { index, flags });
        }
        if life != before.life {
            let phase = match state {
                State::Active => &mut phases.backends,
                State::Terminating | State::Free | State::Dead => &mut phases.settlement,
            };
            phase.push(Op::Life { index, life });
        }
    }
}

/// The generation of a new backend at an index. Death has raised it already; 0, which zeroed
/// memory has, is skipped.
const fn next_generation(before: Life) -> u32 {
    match (before.state(), before.generation) {
        (State::Dead, 1..) => before.generation,
        (_, u32::MAX) => 1,
        _ => before.generation + 1,
    }
}

/// One candidate that is gone hides no other one.
const LOOK_AHEAD: usize = 2;
