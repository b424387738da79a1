// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a socket dialled and what it got: its record in SOCKETS or SOCKETS_OVER.
//!
//! The kernel holds the socket's lock around every hook that comes here with a cookie
//! (`BPF_CGROUP_RUN_PROG_*_LOCK`, and `inet_getname`), and a release comes when nobody
//! else can use the socket: one record never has two writers. Two sockets race for a
//! place only, and a compare-and-swap decides that. The sequence is for the agent, which
//! reads records without any lock.

use core::mem::offset_of;

use lb_common::{
    addr::Addr,
    be::Be16,
    counter::Counter,
    socket::{Dialled, Held, MAX_MORE, OverKey, SocketRecord},
    verdict::Target,
};

use crate::{
    kernel::{self, Live},
    maps,
};

/// One half of a record: what connect() dialled, or what sendto() did.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Half {
    Connected,
    Datagram,
}

/// The frontend that a socket dialled.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct Frontend {
    pub(crate) address: Addr,
    pub(crate) port: Be16,
}

/// The backend that a half of a record holds.
#[derive(Clone, Copy)]
pub(crate) struct Holding {
    pub(crate) backend: u32,
    pub(crate) generation: u32,
}

/// A socket's record in map memory.
#[derive(Clone, Copy)]
pub(crate) struct Record(Live<SocketRecord>);

/// The socket's record, if it has one. A socket that never dialled a Service costs one
/// array look-up and one compare.
#[inline(always)]
pub(crate) fn own(cookie: u64) -> Option<Record> {
    let place = maps::socket_place(cookie)?;
    if place.load::<u64, OWNER>() == cookie {
        return Some(Record(place));
    }
    if place.load::<u8, SPILLED>() == 0 {
        return None;
    }
    maps::over(&OverKey::new(cookie, 0)).map(Record)
}

/// Remembers what a socket dialled and got, in place of what that half held before. Looks its
/// record up again: one that is kept over the decision doubles the verifier's work.
#[inline(always)]
pub(crate) fn remember(cookie: u64, half: Half, frontend: Frontend, target: &Target) {
    let record = match own(cookie).or_else(|| claim(cookie)) {
        Some(record) if half == Half::Datagram && record.holds_other_datagram(frontend) => {
            more(record, cookie, frontend)
        }
        record => record,
    };
    match record {
        Some(record) => record.fill(half, frontend, target),
        None => maps::count(Counter::StateLost),
    }
}

/// Forgets a socket and gives its backends' counts back. Always allows the close.
#[inline(always)]
pub(crate) fn release(cookie: u64) -> i32 {
    if let Some(record) = own(cookie) {
        record.clear(Half::Connected);
        record.clear(Half::Datagram);
        if record.flags().contains(Held::MORE) {
            release_more(cookie);
        }
        let in_place =
            maps::socket_place(cookie).is_some_and(|place| place.load::<u64, OWNER>() == cookie);
        if in_place {
            record.0.store::<u8, HELD>(0);
            // Last, and with a full barrier: whoever claims the place finds it empty.
            record.0.replace::<OWNER>(cookie, 0);
        } else {
            maps::remove_over(&OverKey::new(cookie, 0));
        }
        maps::count(Counter::Released);
    }
    1
}

/// Removes the socket's further datagram records.
#[inline(always)]
fn release_more(cookie: u64) {
    for index in 1..=MAX_MORE {
        let key = OverKey::new(cookie, index);
        let Some(more) = maps::over(&key).map(Record) else {
            return;
        };
        more.clear(Half::Datagram);
        maps::remove_over(&key);
    }
}

/// Takes the socket's place in SOCKETS, or a record in SOCKETS_OVER if it is taken.
#[inline(always)]
fn claim(cookie: u64) -> Option<Record> {
    let place = maps::socket_place(cookie)?;
    if place.replace::<OWNER>(0, cookie) {
        return Some(Record(place));
    }
    // Before the record exists, so that no look-up can miss it.
    place.store::<u8, SPILLED>(1);
    maps::count(Counter::StateOverflow);
    maps::add_over(&OverKey::new(cookie, 0)).map(Record)
}

/// The further datagram record for a frontend: its own, a new one, or, when the socket
/// has used up its share, one at random.
#[inline(always)]
fn more(record: Record, cookie: u64, frontend: Frontend) -> Option<Record> {
    for index in 1..=MAX_MORE {
        let key = OverKey::new(cookie, index);
        let Some(more) = maps::over(&key).map(Record) else {
            record.set_flag(Held::MORE);
            return maps::add_over(&key).map(Record);
        };
        if more.frontend(Half::Datagram) == frontend {
            return Some(more);
        }
    }
    let victim = 1 + kernel::random() % MAX_MORE;
    maps::over(&OverKey::new(cookie, victim)).map(Record)
}

impl Record {
    /// The backend that the socket is connected to, if it dialled this frontend for it.
    #[inline(always)]
    pub(crate) fn connected_to(self, frontend: Frontend) -> Option<Holding> {
        let holding = self.held(Half::Connected)?;
        (self.frontend(Half::Connected) == frontend).then_some(holding)
    }

    /// The backend that the socket's datagrams to this frontend go to.
    #[inline(always)]
    pub(crate) fn datagrams_to(self, cookie: u64, frontend: Frontend) -> Option<Holding> {
        if let Some(holding) = self.held(Half::Datagram)
            && self.frontend(Half::Datagram) == frontend
        {
            return Some(holding);
        }
        if !self.flags().contains(Held::MORE) {
            return None;
        }
        for index in 1..=MAX_MORE {
            let more = Self(maps::over(&OverKey::new(cookie, index))?);
            if more.frontend(Half::Datagram) == frontend {
                return more.held(Half::Datagram);
            }
        }
        None
    }

    /// The frontend through which the socket connected to the backend at this address.
    #[inline(always)]
    pub(crate) fn peer_at(self, address: Addr, port: Be16) -> Option<Frontend> {
        if self.reached(Half::Connected, address, port) {
            return Some(self.frontend(Half::Connected));
        }
        None
    }

    /// The frontend through which the socket's datagrams reached the backend at this address.
    #[inline(always)]
    pub(crate) fn source_at(self, cookie: u64, address: Addr, port: Be16) -> Option<Frontend> {
        if self.reached(Half::Datagram, address, port) {
            return Some(self.frontend(Half::Datagram));
        }
        if !self.flags().contains(Held::MORE) {
            return None;
        }
        for index in 1..=MAX_MORE {
            let more = Self(maps::over(&OverKey::new(cookie, index))?);
            if more.reached(Half::Datagram, address, port) {
                return Some(more.frontend(Half::Datagram));
            }
        }
        None
    }

    /// Forgets what connect() dialled: the socket has connected to something else.
    #[inline(always)]
    pub(crate) fn forget_connected(self) {
        self.clear(Half::Connected);
    }

    /// The backend that a half holds, if it does.
    #[inline(always)]
    fn held(self, half: Half) -> Option<Holding> {
        self.flags().contains(half.flag()).then(|| match half {
            Half::Connected => Holding {
                backend: self.0.load::<u32, { CONNECTED + BACKEND }>(),
                generation: self.0.load::<u32, { CONNECTED + GENERATION }>(),
            },
            Half::Datagram => Holding {
                backend: self.0.load::<u32, { DATAGRAM + BACKEND }>(),
                generation: self.0.load::<u32, { DATAGRAM + GENERATION }>(),
            },
        })
    }

    /// The frontend of a half; meaningless if the half is not held.
    #[inline(always)]
    fn frontend(self, half: Half) -> Frontend {
        match half {
            Half::Connected => Frontend {
                address: self.0.load::<Addr, CONNECTED>(),
                port: self.0.load::<Be16, CONNECTED_PORT>(),
            },
            Half::Datagram => Frontend {
                address: self.0.load::<Addr, DATAGRAM>(),
                port: self.0.load::<Be16, DATAGRAM_PORT>(),
            },
        }
    }

    /// Whether the datagram half is taken by another frontend.
    #[inline(always)]
    fn holds_other_datagram(self, frontend: Frontend) -> bool {
        self.flags().contains(Held::DATAGRAM) && self.frontend(Half::Datagram) != frontend
    }

    /// Whether a half's backend is at this address and port.
    #[inline(always)]
    fn reached(self, half: Half, address: Addr, port: Be16) -> bool {
        match self.held(half) {
            Some(holding) => maps::is_at(holding.backend, address, port),
            None => false,
        }
    }

    /// Fills a half, counts the new backend and gives back the one it had.
    #[inline(always)]
    fn fill(self, half: Half, frontend: Frontend, target: &Target) {
        maps::add_load(target.backend, 1);
        if let Some(old) = self.held(half) {
            maps::add_load(old.backend, -1);
        }
        self.step();
        match half {
            Half::Connected => {
                self.0.store::<Addr, CONNECTED>(frontend.address);
                self.0.store::<u32, { CONNECTED + BACKEND }>(target.backend);
                self.0.store::<u32, { CONNECTED + GENERATION }>(target.generation);
                self.0.store::<Be16, CONNECTED_PORT>(frontend.port);
            }
            Half::Datagram => {
                self.0.store::<Addr, DATAGRAM>(frontend.address);
                self.0.store::<u32, { DATAGRAM + BACKEND }>(target.backend);
                self.0.store::<u32, { DATAGRAM + GENERATION }>(target.generation);
                self.0.store::<Be16, DATAGRAM_PORT>(frontend.port);
            }
        }
        self.set_flag(half.flag());
        self.step();
    }

    /// Empties a half and gives its backend's count back.
    #[inline(always)]
    fn clear(self, half: Half) {
        if let Some(old) = self.held(half) {
            maps::add_load(old.backend, -1);
            self.step();
            self.0.store::<u8, HELD>((self.flags() - half.flag()).bits());
            self.step();
        }
    }

    #[inline(always)]
    fn flags(self) -> Held {
        Held::from_bits_retain(self.0.load::<u8, HELD>())
    }

    #[inline(always)]
    fn set_flag(self, flag: Held) {
        self.0.store::<u8, HELD>((self.flags() | flag).bits());
    }

    /// Odd before a change, even after it.
    #[inline(always)]
    fn step(self) {
        self.0.store::<u8, SEQUENCE>(self.0.load::<u8, SEQUENCE>().wrapping_add(1));
    }
}

impl Half {
    #[inline(always)]
    const fn flag(self) -> Held {
        match self {
            Self::Connected => Held::CONNECTED,
            Self::Datagram => Held::DATAGRAM,
        }
    }
}

const OWNER: usize = offset_of!(SocketRecord, owner);
const CONNECTED: usize = offset_of!(SocketRecord, connected);
const CONNECTED_PORT: usize = offset_of!(SocketRecord, connected_port);
const DATAGRAM: usize = offset_of!(SocketRecord, datagram);
const DATAGRAM_PORT: usize = offset_of!(SocketRecord, datagram_port);
const BACKEND: usize = offset_of!(Dialled, backend);
const GENERATION: usize = offset_of!(Dialled, generation);
const SEQUENCE: usize = offset_of!(SocketRecord, sequence);
const HELD: usize = offset_of!(SocketRecord, held);
const SPILLED: usize = offset_of!(SocketRecord, spilled);
