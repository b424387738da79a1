// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a look at one half of a flow comes to: whether the flow is over, and what the collector
//! says of it in two bytes.

use bytemuck::{Pod, Zeroable};

use super::{FlowEntry, FlowFlags, FlowKey, Phase, Seen};

/// The one value of PASS, 16 bytes: what the agent tells the collector before it reads FLOWS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Pass {
    /// CLOCK_MONOTONIC in nanoseconds.
    pub now_ns: u64,
    /// The longest time-out of phases that pass, in seconds; see
    /// [`Phase::timeout_secs_within`].
    pub passing_secs: u32,
    /// Always 0.
    pub _pad: u32,
}

/// What was found at one element of FLOWS, 2 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Visit {
    /// The index in [`Phase::ALL`], and [`Visit::OVER`] or [`Visit::REPLY`].
    kind: u8,
    /// Seconds until the flow is over if nothing more comes; 255 for that and more.
    pub left_secs: u8,
}

impl Visit {
    /// The flow was over and is no more.
    const OVER: u8 = 1 << 4;
    /// The reply's half of a flow whose forward half tells the rest.
    const REPLY: u8 = 1 << 5;
    /// The flow has no other half, and is better lost than in the way of others.
    const ONE_WAY: u8 = 1 << 6;
    /// Where the phase is.
    const PHASE: u8 = 15;

    /// The half of a flow that is counted by its other half.
    pub const COUNTED: Self = Self { kind: Self::REPLY, left_secs: u8::MAX };

    /// A flow that was idle so long, in nanoseconds, within a time-out in seconds.
    #[expect(clippy::cast_possible_truncation, reason = "compared with the most before")]
    #[inline(always)]
    pub const fn of(phase: Phase, idle_ns: u64, timeout_secs: u32) -> Self {
        let timeout_ns = timeout_secs as u64 * SECOND_NS;
        if idle_ns > timeout_ns {
            return Self { kind: phase as u8 | Self::OVER, left_secs: 0 };
        }
        let left_secs = (timeout_ns - idle_ns) / SECOND_NS;
        let left_secs = if left_secs < u8::MAX as u64 { left_secs as u8 } else { u8::MAX };
        Self { kind: phase as u8, left_secs }
    }

    /// The same of a flow without another half.
    #[inline(always)]
    #[must_use]
    pub const fn one_way(self) -> Self {
        Self { kind: self.kind | Self::ONE_WAY, ..self }
    }

    /// Whether the flow has one half only.
    #[inline(always)]
    pub const fn is_one_way(self) -> bool {
        self.kind & Self::ONE_WAY != 0
    }

    /// Whether the flow was over.
    #[inline(always)]
    pub const fn is_over(self) -> bool {
        self.kind & Self::OVER != 0
    }

    /// The flow's phase; `None` if its other half tells.
    pub fn phase(self) -> Option<Phase> {
        let phase = Phase::ALL.get(usize::from(self.kind & Self::PHASE)).copied();
        phase.filter(|_| self.kind & Self::REPLY == 0)
    }
}

/// What a half with a key comes to, by the other half if that is there and leads back.
#[inline(always)]
pub fn visit(pass: &Pass, key: &FlowKey, half: &FlowEntry, other: Option<&FlowEntry>) -> Visit {
    if half.flags().contains(FlowFlags::DIRECT) {
        return one_way(pass, key, half);
    }
    let is_reply = half.flags().contains(FlowFlags::REPLY);
    if is_reply && other.is_some() {
        return Visit::COUNTED;
    }
    let (seen, other_ns) = match other {
        Some(other) => (other.seen(), other.last_seen_ns),
        None => (Seen::empty(), 0),
    };
    let (forward, reply) = if is_reply { (seen, half.seen()) } else { (half.seen(), seen) };
    let phase = Phase::of(key.protocol, forward, reply);
    let last_ns = if other_ns > half.last_seen_ns { other_ns } else { half.last_seen_ns };
    let idle_ns = pass.now_ns.saturating_sub(last_ns);
    Visit::of(phase, idle_ns, phase.timeout_secs_within(pass.passing_secs))
}

/// What the half of a flow without another half comes to. Where room is scarce it is kept no
/// longer than flows that have not begun in earnest: without it the flow goes where the Maglev
/// table says, which is mostly the same.
#[inline(always)]
fn one_way(pass: &Pass, key: &FlowKey, half: &FlowEntry) -> Visit {
    let phase = Phase::one_way(key.protocol, half.seen());
    let idle_ns = pass.now_ns.saturating_sub(half.last_seen_ns);
    let timeout_secs = phase.timeout_secs();
    let is_scarce = timeout_secs > pass.passing_secs;
    Visit::of(phase, idle_ns, if is_scarce { pass.passing_secs } else { timeout_secs }).one_way()
}

const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
