// SPDX-License-Identifier: Apache-2.0 OR MIT
//! externalTrafficPolicy Local: the client's address is kept, and nothing leaves the node.

use lab::{need_lab, wire::Family};

use crate::bed::{Bed, PROTOCOLS, Way};

/// TRP-13, NOEP-03: with policy Local a node serves from its own pods, which see the client; a
/// node without any gives no answer.
#[test]
fn trp_13_policy_local_keeps_the_clients_address_and_is_silent_without_pods() {
    need_lab!();
    keeps_to_policy_local(&Bed::start());
}

/// With pods of the second node, by each node and way.
pub(crate) fn keeps_to_policy_local(bed: &Bed) {
    let pods = bed.pods();
    let local = |spec: &mut k8s_openapi::api::core::v1::ServiceSpec| {
        spec.external_traffic_policy = Some("Local".to_owned());
    };
    bed.expose(&pods[2..], local);
    let client = bed.served.lab.client();
    for family in Family::BOTH {
        for (way, protocol) in Way::EXTERNAL.into_iter().flat_map(|it| PROTOCOLS.map(|p| (it, p))) {
            bed.through(bed.node(2));
            let echo = bed.ask(protocol, way.at(bed.node(2), family)).unwrap();
            assert!(echo.pod.starts_with("pod-2-"), "{echo:?}");
            assert_eq!(echo.client.ip(), client.address(family), "{way:?} {protocol}");
            bed.through(bed.node(1));
            bed.is_silent(protocol, way.at(bed.node(1), family));
        }
    }
    assert!(bed.agent(1).counter("dropped_no_local_endpoints").unwrap() >= 12);
}
