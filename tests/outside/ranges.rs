// SPDX-License-Identifier: Apache-2.0 OR MIT
//! loadBalancerSourceRanges, for clients outside.

use lab::{
    need_lab,
    wire::{AskSpec, Family, HoldSpec},
};

use crate::bed::{Bed, PROTOCOLS, Way};

/// LB-06, LB-10, LB-12, NP-10, XIP-02: a client outside of the ranges gets no answer from a
/// VIP and is served by every other way; what is open goes on.
#[test]
fn lb_06_a_client_outside_of_the_ranges_gets_no_answer_from_a_vip() {
    need_lab!();
    keeps_to_ranges(&Bed::start());
}

/// Ranges with the client and then without, while connections are open.
pub(crate) fn keeps_to_ranges(bed: &Bed) {
    let pods = bed.pods();
    let client = bed.served.lab.client();
    let own = [format!("{}/32", client.v4), format!("{}/128", client.v6)];
    let mut web = bed.expose(&pods, |spec| {
        spec.load_balancer_source_ranges = Some(own.to_vec());
    });
    let vip = |family| Way::Vip.at(bed.node(1), family);
    for (family, protocol) in both() {
        bed.ask(protocol, vip(family)).unwrap();
    }
    let ask = AskSpec::tcp(vip(Family::V4));
    let hold = HoldSpec { ask, connections: 4, every_ms: 20 };
    let hold = bed.client.hold(hold).unwrap();
    let others = ["10.9.0.0/16".to_owned(), "2001:db8:9::/48".to_owned()];
    web.service.spec.as_mut().unwrap().load_balancer_source_ranges = Some(others.to_vec());
    bed.rewrite(&web);
    for (family, protocol) in both() {
        bed.is_silent(protocol, vip(family));
        for way in [Way::NodePort, Way::ExternalIp] {
            bed.ask(protocol, way.at(bed.node(1), family)).unwrap();
        }
    }
    assert!(bed.agent(1).counter("dropped_source_range").unwrap() >= 4);
    let report = bed.client.stop_hold(hold).unwrap();
    assert!(report.breaks.is_empty() && report.exchanges > 0, "{report:?}");
}

fn both() -> impl Iterator<Item = (Family, &'static str)> {
    Family::BOTH.into_iter().flat_map(|family| PROTOCOLS.map(|protocol| (family, protocol)))
}
