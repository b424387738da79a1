// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flows that FLOWS knows: found, kept up, forgotten.

use core::mem::offset_of;

use lb_common::{
    counter::Counter,
    flow::{FlowEntry, FlowFlags, FlowKey, Phase, REFRESH_NS, Seen, TcpFlags},
    protocol::Protocol,
};

use super::parse::Packet;
use crate::{
    kernel::{self, Live},
    maps,
};

/// The half of a flow that a packet belongs to.
pub(super) struct Flow {
    half: Live<FlowEntry>,
    /// The other half's key: the tuple that the packet leaves with, reversed.
    other_key: FlowKey,
    /// Which half it is, and where the backend is.
    pub(super) flags: FlowFlags,
}

impl Flow {
    /// The half that a tuple leads to.
    #[inline(always)]
    pub(super) fn find(key: &FlowKey) -> Option<Self> {
        let half = maps::flow(key)?;
        Some(Self {
            other_key: half.load::<FlowKey, { offset_of!(FlowEntry, to) }>().reversed(),
            flags: half.load::<FlowFlags, { offset_of!(FlowEntry, flags) }>(),
            half,
        })
    }

    /// The tuple that the packet leaves with.
    #[inline(always)]
    pub(super) const fn to(&self) -> FlowKey {
        self.other_key.reversed()
    }

    /// Whether its packets go on unchanged, and it has no other half.
    #[inline(always)]
    pub(super) fn is_direct(&self) -> bool {
        self.flags.contains(FlowFlags::DIRECT)
    }

    /// Notes a packet, and makes the other half anew if it is lost. `false` if the other half
    /// is another flow's, or this element has become another flow's under our eyes: then
    /// there is no flow.
    #[inline(always)]
    pub(super) fn keep(&self, packet: &Packet) -> bool {
        if self.is_direct() {
            let tag = self.half.load::<u16, { offset_of!(FlowEntry, tag) }>();
            let is_its_own = tag == FlowEntry::tag(&packet.key.words(), &self.to().words());
            if is_its_own {
                self.note(packet);
            }
            return is_its_own;
        }
        let back = packet.key.reversed();
        match maps::flow(&self.other_key) {
            Some(other) => {
                if !other.load::<FlowKey, { offset_of!(FlowEntry, to) }>().same(&back) {
                    return false;
                }
            }
            None => self.rebuild(&back),
        }
        self.note(packet);
        true
    }

    /// Whether a packet that may open a flow opens a new one: this one is over, or has not
    /// come far and its backend is gone.
    #[inline(always)]
    pub(super) fn starts_anew(&self, packet: &Packet) -> bool {
        if !packet.opens() {
            return false;
        }
        if self.is_direct() {
            let phase = Phase::one_way(packet.key.protocol, self.seen());
            return phase.may_start_anew() || !self.is_kept();
        }
        let (mut seen, mut last_seen_ns) = (Seen::empty(), self.last_seen_ns());
        if let Some(other) = maps::flow(&self.other_key) {
            seen = Seen::from_bits_retain(other.load::<u8, { offset_of!(FlowEntry, seen) }>());
            let other_ns = other.load::<u64, { offset_of!(FlowEntry, last_seen_ns) }>();
            last_seen_ns = if other_ns > last_seen_ns { other_ns } else { last_seen_ns };
        }
        let phase = Phase::of(packet.key.protocol, self.seen(), seen);
        if phase.may_start_anew() || phase.is_over(last_seen_ns, kernel::coarse_now_ns()) {
            return true;
        }
        let is_young =
            matches!(phase, Phase::Unreplied | Phase::Replied | Phase::SynSent | Phase::CookieWait);
        is_young && !self.is_kept()
    }

    /// Whether a backend's answer to an opening segment is another connection's: this one went
    /// further, and is closed. A client that kept its port on the way to the backend has taken
    /// it again for a connection to the backend itself, whose segments do not come by here.
    #[inline(always)]
    pub(super) fn is_anothers(&self, packet: &Packet) -> bool {
        let answers = TcpFlags::SYN.union(TcpFlags::ACK);
        if packet.key.protocol != Protocol::TCP
            || packet.tcp.intersection(TcpFlags::all()) != answers
            || !self.seen().contains(Seen::DATA)
        {
            return false;
        }
        let mut other = Seen::empty();
        if let Some(half) = maps::flow(&self.other_key) {
            other = Seen::from_bits_retain(half.load::<u8, { offset_of!(FlowEntry, seen) }>());
        }
        Phase::of(packet.key.protocol, other, self.seen()).may_start_anew()
    }

    /// Removes it, with its other half.
    #[inline(always)]
    pub(super) fn forget(&self, packet: &Packet) {
        if !self.is_direct() {
            maps::remove_flow(&self.other_key);
        }
        maps::remove_flow(&packet.key);
        maps::count(Counter::FlowRestarted);
    }

    /// Makes the other half from this one. What it had seen is lost with it: a connection is
    /// taken for an established one, which is kept longest.
    #[inline(always)]
    fn rebuild(&self, back: &FlowKey) {
        let mut entry = FlowEntry {
            to: *back,
            last_seen_ns: self.last_seen_ns(),
            backend: self.backend(),
            generation: self.generation(),
            service_id: self.half.load::<u32, { offset_of!(FlowEntry, service_id) }>(),
            flags: self.flags.bits() ^ FlowFlags::REPLY.bits(),
            seen: Seen::ANY.union(Seen::SYN).union(Seen::DATA).bits(),
            tag: 0,
        };
        // In place: a copy of the half is an eighth of the stack.
        entry.tag = entry.tag_of(&self.other_key);
        if maps::add_flow(&self.other_key, &entry).is_ok() {
            maps::count(Counter::FlowRebuilt);
        }
    }

    /// Writes what changes the entry, and nothing while nothing does.
    #[inline(always)]
    fn note(&self, packet: &Packet) {
        let now_ns = kernel::coarse_now_ns();
        if now_ns.saturating_sub(self.last_seen_ns()) > REFRESH_NS {
            self.half.store::<u64, { offset_of!(FlowEntry, last_seen_ns) }>(now_ns);
        }
        let before = self.seen();
        let seen = before.with(packet.key.protocol, packet.tcp);
        if seen != before {
            self.half.store::<u8, { offset_of!(FlowEntry, seen) }>(seen.bits());
        }
    }

    #[inline(always)]
    fn last_seen_ns(&self) -> u64 {
        self.half.load::<u64, { offset_of!(FlowEntry, last_seen_ns) }>()
    }

    #[inline(always)]
    fn seen(&self) -> Seen {
        Seen::from_bits_retain(self.half.load::<u8, { offset_of!(FlowEntry, seen) }>())
    }

    /// Whether the backend may be used by who has it.
    #[inline(always)]
    fn is_kept(&self) -> bool {
        maps::kept(self.backend(), self.generation()).is_some()
    }

    #[inline(always)]
    fn backend(&self) -> u32 {
        self.half.load::<u32, { offset_of!(FlowEntry, backend) }>()
    }

    #[inline(always)]
    fn generation(&self) -> u32 {
        self.half.load::<u32, { offset_of!(FlowEntry, generation) }>()
    }
}
