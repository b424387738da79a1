// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::protocol::Protocol;

const DATA: Seen = Seen::ANY.union(Seen::SYN).union(Seen::DATA);
const CALM: u32 = u32::MAX;

fn half(flags: FlowFlags, seen: Seen, at: u64) -> FlowEntry {
    FlowEntry {
        last_seen_ns: at * SECOND_NS,
        flags: flags.bits(),
        seen: seen.bits(),
        ..FlowEntry::default()
    }
}

fn look(
    protocol: Protocol,
    (half, other): (&FlowEntry, Option<&FlowEntry>),
    now: u64,
    passing_secs: u32,
) -> Visit {
    let key = FlowKey { protocol, ..FlowKey::default() };
    visit(&Pass { now_ns: now * SECOND_NS, passing_secs, _pad: 0 }, &key, half, other)
}

#[test]
fn a_flow_is_what_both_its_halves_have_seen_and_as_young_as_the_newer_one() {
    let forward = half(FlowFlags::empty(), Seen::ANY, 100);
    let silent = half(FlowFlags::REPLY, Seen::empty(), 0);
    let udp = |reply, now| look(Protocol::UDP, (&forward, reply), now, CALM);
    assert!(!udp(Some(&silent), 130).is_over() && udp(Some(&silent), 131).is_over());
    assert!(!udp(None, 130).is_over() && udp(None, 131).is_over());
    let answered = half(FlowFlags::REPLY, Seen::ANY, 200);
    assert!(!udp(Some(&answered), 320).is_over() && udp(Some(&answered), 321).is_over());
    assert_eq!(udp(Some(&answered), 200).left_secs, 120);
    assert_eq!(udp(Some(&answered), 50).left_secs, 120, "a clock that is behind");

    let forward = half(FlowFlags::empty(), DATA, 100);
    let tcp = |reply: &FlowEntry, now| look(Protocol::TCP, (&forward, Some(reply)), now, CALM);
    let reply = half(FlowFlags::REPLY, DATA, 100);
    assert_eq!(tcp(&reply, 86_000).phase(), Some(Phase::Established));
    assert_eq!(tcp(&reply, 100).left_secs, 255, "and more");
    assert!(!tcp(&reply, 86_500).is_over() && tcp(&reply, 86_501).is_over());
    let reset = half(FlowFlags::REPLY, DATA.union(Seen::RST), 100);
    assert!(!tcp(&reset, 110).is_over() && tcp(&reset, 111).is_over());
}

#[test]
fn a_reply_is_told_by_its_forward_half_and_by_itself_without_one() {
    let reply = half(FlowFlags::REPLY, DATA, 100);
    let forward = half(FlowFlags::empty(), DATA, 100);
    let with = look(Protocol::TCP, (&reply, Some(&forward)), 100_000, CALM);
    assert_eq!((with, with.phase(), with.is_over()), (Visit::COUNTED, None, false));
    let alone = look(Protocol::TCP, (&reply, None), 161, CALM);
    assert_eq!((alone.phase(), alone.is_over()), (Some(Phase::SynReceived), true));
}

/// It is judged by what the client said alone, has no other half, and goes early where room is
/// scarce.
#[test]
fn a_flow_of_one_direction_is_kept_as_its_client_has_it() {
    let stranger = half(FlowFlags::REPLY.union(FlowFlags::LOCAL), DATA, 1000);
    let direct = |seen, now, passing_secs| {
        let half = half(FlowFlags::DIRECT, seen, 100);
        look(Protocol::TCP, (&half, Some(&stranger)), now, passing_secs)
    };
    let open = direct(DATA, 86_500, CALM);
    assert_eq!((open.phase(), open.is_over()), (Some(Phase::Established), false));
    assert!(open.is_one_way() && direct(DATA, 86_501, CALM).is_over());
    assert!(!direct(DATA, 103, 3).is_over() && direct(DATA, 104, 3).is_over());
    let begun = Seen::ANY.union(Seen::SYN);
    assert_eq!(direct(begun, 100, CALM).phase(), Some(Phase::SynReceived));
    assert_eq!(direct(DATA.union(Seen::FIN), 100, CALM).phase(), Some(Phase::TimeWait));
    assert_eq!(direct(DATA.union(Seen::RST), 100, CALM).phase(), Some(Phase::Closed));
    let udp = look(Protocol::UDP, (&half(FlowFlags::DIRECT, Seen::ANY, 100), None), 220, CALM);
    assert_eq!((udp.phase(), udp.is_over()), (Some(Phase::Replied), false));
}

#[test]
fn only_phases_that_pass_are_cut_short() {
    for phase in Phase::ALL {
        let within = phase.timeout_secs_within(3);
        assert_eq!(within == 3, phase.is_passing(), "{phase:?}");
        assert!(phase.is_passing() || within == phase.timeout_secs(), "{phase:?}");
        assert_eq!(phase.timeout_secs_within(CALM), phase.timeout_secs());
        let over = Visit::of(phase, 4 * SECOND_NS, within);
        assert_eq!((over.phase(), over.is_over()), (Some(phase), phase.is_passing()));
    }
    let syn = half(FlowFlags::empty(), Seen::ANY.union(Seen::SYN), 100);
    let silent = half(FlowFlags::REPLY, Seen::empty(), 100);
    assert!(look(Protocol::TCP, (&syn, Some(&silent)), 104, 3).is_over());
    assert!(!look(Protocol::TCP, (&syn, Some(&silent)), 104, CALM).is_over());
}
