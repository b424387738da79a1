// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SOCKETS and SOCKETS_OVER: what a socket dialled and what it got.
//!
//! SOCKETS is direct-mapped: the record of the socket with cookie `c` is at `c & mask`.
//! A socket whose place is taken has its record in SOCKETS_OVER, index 0; datagrams to
//! more than one frontend on one socket add records there, index 1 and up.

use bitflags::bitflags;
use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, be::Be16};

/// Value of SOCKETS and SOCKETS_OVER, 64 bytes: one cache line.
///
/// Shared by both families, since a dual-stack socket's datagrams leave through one
/// family's hook and are answered through the other's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct SocketRecord {
    /// The socket's cookie; 0 if the place is free. Taken by compare-and-swap.
    pub owner: u64,
    /// What connect() dialled: getpeername() shows it.
    pub connected: Dialled,
    /// What the last sendto() to a new frontend dialled: recvfrom() shows it.
    pub datagram: Dialled,
    /// Port of `connected`.
    pub connected_port: Be16,
    /// Port of `datagram`.
    pub datagram_port: Be16,
    /// Odd while a writer is at work, and different afterwards: a second thread on the
    /// same socket then takes nothing from the record.
    pub sequence: u8,
    /// [`Held`], as the number that a dump of the map shows.
    pub held: u8,
    /// 1 once a socket whose place this is had to go to SOCKETS_OVER. Never cleared by a
    /// program, so that a miss costs one compare while it is 0.
    pub spilled: u8,
    /// Always 0.
    pub _pad: u8,
}

/// A frontend that was dialled and the backend it was turned into. The frontend's port
/// stands beside, in the record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Dialled {
    /// The frontend's address.
    pub address: Addr,
    /// Index into BACKENDS, counted in BACKEND_LOAD while this is held.
    pub backend: u32,
    /// The generation of that index which is meant.
    pub generation: u32,
}

bitflags! {
    /// Which parts of a record are filled.
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
    #[repr(transparent)]
    pub struct Held: u8 {
        /// `connected` is valid.
        const CONNECTED = 1 << 0;
        /// `datagram` is valid.
        const DATAGRAM = 1 << 1;
        /// SOCKETS_OVER holds more datagram records of this socket.
        const MORE = 1 << 2;
    }
}

/// Key of SOCKETS_OVER, 16 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct OverKey {
    /// The socket's cookie.
    pub cookie: u64,
    /// 0: the socket's own record; 1 to [`MAX_MORE`]: further datagram records.
    pub index: u32,
    /// Always 0.
    pub _pad: u32,
}

impl SocketRecord {
    /// Which parts are filled.
    pub const fn held(&self) -> Held {
        Held::from_bits_retain(self.held)
    }
}

impl OverKey {
    /// A key from its parts.
    #[inline(always)]
    pub const fn new(cookie: u64, index: u32) -> Self {
        Self { cookie, index, _pad: 0 }
    }
}

/// Most frontends beside the first that one unconnected socket's replies are told apart
/// for. A resolver that asks all its name servers at once has three.
pub const MAX_MORE: u32 = 7;
