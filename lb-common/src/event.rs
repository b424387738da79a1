// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EVENTS: what a person who monitors is told, and the word of CONFIG that asks for it.

use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, be::Be16, flow::FlowKey};

/// An element of EVENTS, 88 bytes: one decision of a program that a person may want to see.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Event {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// The tuple that the packet came with. Of a socket what it dialled: its own address and
    /// port are zero.
    pub key: FlowKey,
    /// A new flow's backend; zero without one.
    pub target: Addr,
    /// Cookie of a socket's network namespace; 0 for a packet.
    pub netns: u64,
    /// [`Service::id`](crate::service::Service::id) of a new flow; 0 if the program does not
    /// know it any more.
    pub service_id: u32,
    /// Index of the device that a packet is on; 0 for a socket.
    pub device: u32,
    /// Index of the [`Counter`](crate::counter::Counter) that says why.
    pub counter: u32,
    /// The backend's port; zero without one.
    pub target_port: Be16,
    /// [`EventKind`], as the number that a dump shows.
    pub kind: u8,
    /// Always 0.
    pub _pad: u8,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum EventKind {
    /// A packet began a flow.
    NewFlow = 1,
    /// A packet was dropped.
    Dropped = 2,
    /// A client was told that nobody serves.
    Refused = 3,
    /// A packet's sender was told something else: no more hops, or too big.
    Answered = 4,
    /// A socket's connect() or sendto() failed as if there were no answer.
    SocketDropped = 5,
    /// A socket's connect() or sendto() was refused.
    SocketRefused = 6,
}

/// The word of CONFIG that asks for events: until when, and how many. 0 asks for none.
///
/// A lease, so that nothing goes on when whoever asked is killed. The lower 8 bits hold n: one
/// event in 2^n is wanted. The rest is the end, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Lease(u64);

/// What a CPU has told of late, 24 bytes: the programs' own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Told {
    /// The window of time that `count` is of: its beginning in units of 2^[`WINDOW_BITS`] ns.
    pub window: u64,
    /// Events in it.
    pub count: u64,
    /// Index of the [`Counter`](crate::counter::Counter) that a packet ended with last.
    pub noted: u32,
    /// Always 0.
    pub _pad: u32,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::NewFlow,
        Self::Dropped,
        Self::Refused,
        Self::Answered,
        Self::SocketDropped,
        Self::SocketRefused,
    ];

    /// The kind that a number stands for.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The name that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NewFlow => "new",
            Self::Dropped | Self::SocketDropped => "dropped",
            Self::Refused | Self::SocketRefused => "refused",
            Self::Answered => "answered",
        }
    }

    /// Whether it is about a socket's call, not about a packet.
    pub const fn is_socket(self) -> bool {
        matches!(self, Self::SocketDropped | Self::SocketRefused)
    }
}

impl Lease {
    /// Asks for one event in 2^`one_in` until a moment.
    #[must_use]
    pub const fn until(end_ns: u64, one_in: u8) -> Self {
        let one_in = if one_in > MAX_ONE_IN { MAX_ONE_IN } else { one_in };
        Self(end_ns & !LOWER | one_in as u64)
    }

    /// Whether nobody asks at all: spares the look at the clock.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether it is over.
    #[inline(always)]
    pub const fn is_over(self, now_ns: u64) -> bool {
        self.0 & !LOWER <= now_ns
    }

    /// Whether one of all events is wanted, given 32 random bits.
    #[inline(always)]
    pub const fn picks(self, random: u32) -> bool {
        random & ((1_u32 << (self.0 & MAX_ONE_IN as u64)) - 1) == 0
    }

    /// The word in CONFIG.
    pub const fn to_word(self) -> u64 {
        self.0
    }
}

/// Events that a CPU may tell in a window of 2^[`WINDOW_BITS`] nanoseconds: a flood is told as a
/// thousand a second, and the rest is counted as lost.
pub const WINDOW_EVENTS: u64 = 128;
/// A window is 134 ms.
pub const WINDOW_BITS: u32 = 27;
/// At most one in 2^31.
pub const MAX_ONE_IN: u8 = 31;

const LOWER: u64 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_and_samples() {
        assert!(Lease::default().is_none() && Lease::default().is_over(0));
        let lease = Lease::until(1_000_000, 3);
        assert!(!lease.is_none() && !lease.is_over(999_000) && lease.is_over(1_000_000));
        let picked = (0..4096).filter(|random| lease.picks(*random)).count();
        assert_eq!(picked, 512);
        assert!((0..64).all(|random| Lease::until(1_000_000, 0).picks(random)));
        assert_eq!(Lease::until(1 << 20, 200), Lease::until(1 << 20, MAX_ONE_IN));
    }

    #[test]
    fn every_kind_has_a_number_of_its_own() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_number(kind as u8), Some(kind));
        }
        assert_eq!(EventKind::from_number(0), None);
    }
}
