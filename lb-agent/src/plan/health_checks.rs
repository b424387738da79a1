// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which health-check node ports this node answers, and with how many endpoints (HCN-01,
//! HCN-06).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
};

use crate::model::{
    Family, ObjectName,
    service::Service,
    slices::Slices,
    snapshot::{Snapshot, Touched},
};

/// The health-check node ports of all Services.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HealthChecks {
    /// By Service.
    pub checks: BTreeMap<ObjectName, HealthCheck>,
    /// This node's addresses on which NodePorts answer.
    pub addresses: BTreeSet<IpAddr>,
}

/// One Service's port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HealthCheck {
    /// The port.
    pub port: NonZeroU16,
    /// The local ready endpoints of IPv4; `None` if the Service does not have the family.
    pub ipv4: Option<usize>,
    /// The same of IPv6.
    pub ipv6: Option<usize>,
}

impl HealthChecks {
    /// Looks again at what was touched, and says whether anything is different. Costs by what
    /// was touched, not by the cluster.
    pub fn update(&mut self, snapshot: &Snapshot, touched: &Touched) -> bool {
        let mut changed = self.addresses != snapshot.node_addresses;
        if changed {
            self.addresses.clone_from(&snapshot.node_addresses);
        }
        match touched {
            Touched::Some(names) => {
                for name in names {
                    changed |= self.update_service(name, snapshot);
                }
            }
            Touched::All => {
                let before = self.checks.len();
                self.checks.retain(|name, _| snapshot.services.contains_key(name));
                changed |= self.checks.len() != before;
                for name in snapshot.services.keys() {
                    changed |= self.update_service(name, snapshot);
                }
            }
        }
        changed
    }

    fn update_service(&mut self, name: &ObjectName, snapshot: &Snapshot) -> bool {
        let service = snapshot.services.get(name);
        match service.and_then(|service| HealthCheck::of(service, snapshot)) {
            Some(check) => self.checks.insert(name.clone(), check) != Some(check),
            None => self.checks.remove(name).is_some(),
        }
    }
}

impl HealthCheck {
    /// The count of a family; `None` if the Service does not have it.
    pub const fn count(&self, family: Family) -> Option<usize> {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }

    fn of(service: &Service, snapshot: &Snapshot) -> Option<Self> {
        let port = service.health_check_node_port?;
        let count = |family| {
            service.cluster_ip(family).map(|_| local_ready(service, snapshot, family).len())
        };
        Some(Self { port, ipv4: count(Family::V4), ipv6: count(Family::V6) })
    }
}

/// The addresses of a Service's ready endpoints on this node, over all of its ports. What
/// terminates counts by its readiness alone: 0, while it may still serve (HCN-06).
fn local_ready(service: &Service, snapshot: &Snapshot, family: Family) -> BTreeSet<IpAddr> {
    let node = &*snapshot.node.name;
    if node.is_empty() {
        return BTreeSet::new();
    }
    let slices = snapshot.slices.get(&service.name).into_iter().flat_map(Slices::iter);
    slices
        .filter(|slice| slice.family == family && !slice.ports.is_empty())
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.conditions.ready && endpoint.node.as_deref() == Some(node))
        .map(|endpoint| endpoint.address)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::fixture::{Build, endpoint, node, service, slice};

    /// What becomes of `default/web` with this health-check port and these slices.
    fn check(port: u16, slices: Vec<(&[&str], Vec<Build>)>) -> Option<HealthCheck> {
        let mut web = service("web", &["10.96.0.1", "fd00::1"], &["http=80", "admin=9000"]);
        web.health_check_node_port = NonZeroU16::new(port);
        let mut snapshot = Snapshot { node: node("here", ""), ..Snapshot::default() };
        for (number, (ports, endpoints)) in slices.into_iter().enumerate() {
            let slice = slice(&format!("web-{number}"), ports, endpoints);
            let of = snapshot.slices.entry(web.name.clone()).or_default();
            of.insert(Arc::new(slice));
        }
        snapshot.services.insert(web.name.clone(), Arc::new(web));
        let mut checks = HealthChecks::default();
        let touched = Touched::All;
        assert_eq!(checks.update(&snapshot, &touched), port != 0);
        assert!(!checks.update(&snapshot, &touched), "the same again is no change");
        checks.checks.into_values().next()
    }

    fn counts(slices: Vec<(&[&str], Vec<Build>)>) -> (Option<usize>, Option<usize>) {
        let check = check(30000, slices).unwrap();
        (check.ipv4, check.ipv6)
    }

    #[test]
    fn hcn_06_distinct_local_ready_addresses_over_all_ports() {
        let here = |address| endpoint(address).on("here");
        let two_ports: Vec<(&[&str], _)> = vec![
            (&["http=8080"], vec![here("10.0.0.1"), here("10.0.0.2")]),
            (&["admin=9090"], vec![here("10.0.0.1"), endpoint("10.0.0.9").on("there")]),
            (&["http=8080"], vec![here("fd00::9")]),
        ];
        assert_eq!(counts(two_ports), (Some(2), Some(1)));
        let draining: Vec<(&[&str], _)> =
            vec![(&["http=8080"], vec![here("10.0.0.1").draining(), here("10.0.0.2").down()])];
        assert_eq!(counts(draining), (Some(0), Some(0)), "terminating is 0, though it serves");
        assert_eq!(counts(vec![]), (Some(0), Some(0)), "without endpoints the port is open, too");
    }

    #[test]
    fn hcn_01_a_service_without_such_a_port_has_no_check() {
        assert_eq!(check(0, vec![]), None);
    }
}
