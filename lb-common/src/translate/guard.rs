// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What keeps a flow from a backend: source ranges, and ClusterIPs without a frontend.

use super::{Client, Destination, MAX_LOOKUPS, Maps, ServiceView};
use crate::{
    addr::Addr,
    counter::Counter,
    key::{FrontendKey4, FrontendKey6},
    range::{Admission, CidrKey, CidrRule, Guard, RangeKey},
    service::ServiceFlags,
    verdict::Verdict,
};

/// Whether the client may reach the frontend at all (LB-06).
#[inline(always)]
pub(super) fn admits(maps: &impl Maps, client: &impl Client, service: &ServiceView) -> bool {
    if !service.flags.contains(ServiceFlags::SOURCE_RANGES) {
        return true;
    }
    let id = service.id;
    client.comes_from(service.flags.contains(ServiceFlags::IPV6), |address| {
        match maps.admission(&RangeKey::client(id, address)) {
            Some(admission) => address != Guard::NODE || admission == Admission::NODE,
            None => false,
        }
    })
}

/// What becomes of a flow to no frontend: nothing, unless it goes to where ClusterIPs are.
/// One look-up more for all others.
#[inline(always)]
pub(super) fn without_service(
    maps: &impl Maps,
    destination: &Destination,
    reason: Counter,
) -> Verdict {
    let address = match destination {
        Destination::V4(key) => Addr::from_v4(key.address),
        Destination::V6(key) => key.address,
    };
    let Some(rule) = maps.cidr_rule(&CidrKey::address(address)) else {
        return Verdict::Pass(reason);
    };
    match is_cluster_ip(maps, destination) {
        Some(true) => Verdict::Refuse(Counter::RefusedUnknownPort),
        Some(false) if rule == CidrRule::SERVICE_CIDR => Verdict::Drop(Counter::DroppedFreeAddress),
        Some(false) => Verdict::Pass(reason),
        None => Verdict::Pass(Counter::PassRecycled),
    }
}

/// Whether some Service has the address; `None` if the map does not tell.
#[inline(always)]
fn is_cluster_ip(maps: &impl Maps, destination: &Destination) -> Option<bool> {
    for _ in 0..MAX_LOOKUPS {
        let (found, tag) = match destination {
            Destination::V4(key) => {
                let key = FrontendKey4::any_port(key.address);
                (maps.frontend4(&key), key.tag())
            }
            Destination::V6(key) => {
                let key = FrontendKey6::any_port(key.address);
                (maps.frontend6(&key), key.tag())
            }
        };
        match found {
            None => return Some(false),
            Some(value) if value.tag == tag => return Some(true),
            Some(_) => {}
        }
    }
    None
}
