// SPDX-License-Identifier: Apache-2.0 OR MIT
//! No endpoints: the program answers itself.

use std::time::{Duration, Instant};

use lab::{need_lab, wire::Family};

use crate::bed::{Bed, PROTOCOLS, Way};

/// NOEP-01, NOEP-11, UPD-09: without endpoints a client outside is refused at once, by a reset
/// or by "port unreachable"; with the first endpoint it is served.
#[test]
fn noep_01_without_endpoints_a_client_outside_is_refused_at_once() {
    need_lab!();
    refuses_at_once(&Bed::start());
}

/// By every way, and then serves.
pub(crate) fn refuses_at_once(bed: &Bed) {
    let pods = bed.pods();
    let mut web = bed.expose(&[], |_| {});
    let all = || {
        let ways = Way::ALL.into_iter().flat_map(|it| PROTOCOLS.map(|protocol| (it, protocol)));
        ways.flat_map(|(way, protocol)| Family::BOTH.map(|family| (way, protocol, family)))
    };
    for (way, protocol, family) in all() {
        let to = way.at(bed.node(1), family);
        let started = Instant::now();
        let error = bed.ask(protocol, to).unwrap_err();
        assert_eq!(error.name, "ECONNREFUSED", "{protocol} {to}");
        assert!(started.elapsed() < AT_ONCE, "{protocol} {to}: {:?}", started.elapsed());
    }
    web.add(&pods[0]).unwrap();
    web.add(&pods[2]).unwrap();
    bed.rewrite(&web);
    for (way, protocol, family) in all() {
        bed.ask(protocol, way.at(bed.node(1), family)).unwrap();
    }
}

/// A client that sends its SYN again waits a second before it does.
const AT_ONCE: Duration = Duration::from_millis(900);
