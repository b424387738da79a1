// SPDX-License-Identifier: Apache-2.0 OR MIT
//! BACKENDS and BACKEND_LOAD: where traffic is sent.

use bitflags::bitflags;
use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, be::Be16, protocol::Protocol};

/// Value of BACKENDS, 32 bytes, indexed by backend index; index 0 is never used.
///
/// Shared by every service port that names the same address, port and protocol.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Backend {
    /// Generation, state, protocol and port: one aligned 64-bit store changes them together.
    pub life: Life,
    /// The pod's address.
    pub address: Addr,
    /// [`BackendFlags`], as the number that a dump of the map shows.
    pub flags: u32,
    /// Always 0.
    pub _pad: u32,
}

/// The part of a backend that decides whether a stale holder may still use it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Life {
    /// Raised when the backend dies, so that everything that remembers the index can tell.
    pub generation: u32,
    /// [`State`] as a number.
    pub state: u8,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port that the pod listens on.
    pub port: Be16,
}

/// What a backend may be used for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum State {
    /// The index is not in use.
    Free = 0,
    /// Gets new connections and keeps what it has.
    Active = 1,
    /// Keeps what it has and gets nothing new.
    Terminating = 2,
    /// Gone: nothing may be sent to it.
    Dead = 3,
}

bitflags! {
    /// Where a backend is.
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
    #[repr(transparent)]
    pub struct BackendFlags: u32 {
        /// On this node.
        const LOCAL = 1 << 0;
    }
}

/// Value of BACKEND_LOAD: sockets that currently use the backend.
///
/// Written by the kernel programs with atomic adds only.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct BackendLoad {
    /// Exact: returns to 0 when the last such socket is closed.
    pub sockets: u64,
}

impl Backend {
    /// A backend from its parts.
    pub const fn new(life: Life, address: Addr, flags: BackendFlags) -> Self {
        Self { life, address, flags: flags.bits(), _pad: 0 }
    }

    /// Where it is.
    pub const fn flags(&self) -> BackendFlags {
        BackendFlags::from_bits_retain(self.flags)
    }
}

impl Life {
    /// Whether a holder of `generation` may go on using the backend.
    #[inline(always)]
    pub const fn keeps(self, generation: u32) -> bool {
        self.generation == generation
            && (self.state == State::Active as u8 || self.state == State::Terminating as u8)
    }

    /// The state; `Free` for a number that no version of the agent writes.
    pub const fn state(self) -> State {
        match self.state {
            1 => State::Active,
            2 => State::Terminating,
            3 => State::Dead,
            _ => State::Free,
        }
    }

    /// From the word that the kernel program loaded.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        bytemuck::must_cast(word)
    }

    /// The word that the agent stores.
    pub const fn to_word(self) -> u64 {
        bytemuck::must_cast(self)
    }
}

impl State {
    /// The name that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Active => "active",
            Self::Terminating => "terminating",
            Self::Dead => "dead",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(state: State) -> Life {
        Life {
            generation: 4,
            state: state as u8,
            protocol: Protocol::UDP,
            port: Be16::from_host(53),
        }
    }

    #[test]
    fn a_terminating_backend_keeps_what_it_has_and_a_dead_one_nothing() {
        assert!(life(State::Terminating).keeps(4));
        assert!(!life(State::Dead).keeps(4));
        assert!(!life(State::Free).keeps(4));
        assert!(!life(State::Terminating).keeps(5));
    }

    #[test]
    fn life_is_one_store_and_one_load() {
        let life = life(State::Terminating);
        assert_eq!(Life::from_word(life.to_word()), life);
        assert_eq!(bytemuck::cast::<_, u64>(life), life.to_word());
        assert_eq!(life.state(), State::Terminating);
    }
}
