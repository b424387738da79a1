// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a flow's time is over: pure.

use lb_common::flow::{FlowEntry, FlowFlags, Phase, Seen};

/// Whether a half was idle for so long that its flow may be over.
pub(super) fn is_idle(half: &FlowEntry, now_ns: u64) -> bool {
    Phase::ALL.iter().any(|phase| phase.is_over(half.last_seen_ns, now_ns))
}

/// Whether a flow is over, by one half and the other, if that is there.
pub(super) fn is_over(half: &FlowEntry, other: Option<&FlowEntry>, now_ns: u64) -> bool {
    let seen = other.map_or(Seen::empty(), FlowEntry::seen);
    let (forward, reply) = if half.flags().contains(FlowFlags::REPLY) {
        (seen, half.seen())
    } else {
        (half.seen(), seen)
    };
    let last = other.map_or(0, |other| other.last_seen_ns).max(half.last_seen_ns);
    Phase::of(half.to.protocol, forward, reply).is_over(last, now_ns)
}

#[cfg(test)]
mod tests {
    use lb_common::{flow::FlowKey, protocol::Protocol};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn half(protocol: Protocol, flags: FlowFlags, seen: Seen, at: u64) -> FlowEntry {
        FlowEntry {
            to: FlowKey { protocol, ..FlowKey::default() },
            last_seen_ns: at * SECOND,
            flags: flags.bits(),
            seen: seen.bits(),
            ..FlowEntry::default()
        }
    }

    #[test]
    fn the_newer_half_counts_whichever_is_met_first() {
        let forward = half(Protocol::UDP, FlowFlags::empty(), Seen::ANY, 100);
        let reply = half(Protocol::UDP, FlowFlags::REPLY, Seen::ANY, 200);
        for (one, other) in [(&forward, &reply), (&reply, &forward)] {
            assert!(!is_over(one, Some(other), 320 * SECOND));
            assert!(is_over(one, Some(other), 321 * SECOND));
        }
    }

    #[test]
    fn a_flow_is_what_both_its_halves_have_seen() {
        let forward = half(Protocol::UDP, FlowFlags::empty(), Seen::ANY, 100);
        let silent = half(Protocol::UDP, FlowFlags::REPLY, Seen::empty(), 0);
        assert!(is_over(&forward, Some(&silent), 131 * SECOND), "unreplied: 30 s");
        assert!(is_over(&forward, None, 131 * SECOND));
        assert!(!is_over(&forward, None, 130 * SECOND));
        let data = Seen::ANY.union(Seen::SYN).union(Seen::DATA);
        let forward = half(Protocol::TCP, FlowFlags::empty(), data, 100);
        let reply = half(Protocol::TCP, FlowFlags::REPLY, data, 100);
        assert!(!is_over(&forward, Some(&reply), 86_000 * SECOND), "established");
        assert!(is_over(&forward, Some(&reply), 86_501 * SECOND));
        let reset = half(Protocol::TCP, FlowFlags::REPLY, data.union(Seen::RST), 100);
        assert!(is_over(&forward, Some(&reset), 111 * SECOND));
    }

    #[test]
    fn only_halves_that_were_idle_are_looked_at_twice() {
        let half = half(Protocol::TCP, FlowFlags::empty(), Seen::ANY, 100);
        assert!(!is_idle(&half, 110 * SECOND) && is_idle(&half, 111 * SECOND));
        assert!(!is_idle(&half, 0), "a clock that is behind");
    }
}
