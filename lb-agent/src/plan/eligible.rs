// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which endpoints of one service port and family may serve, and for whom.
//!
//! ```text
//! slices ─► Join (by port name and protocol) ─► one endpoint per ip:port ─► cluster set, local set
//! ```

use std::{cmp::Ordering, net::IpAddr};

use bitflags::bitflags;
use lb_common::{addr::Addr, be::Be16, protocol::Protocol};

use super::topology::Preference;
use crate::model::{
    Family,
    endpoint::{Conditions, Endpoint, EndpointSlice},
    node::Node,
};

/// An endpoint that may be sent to, or that may go on serving what it has. 20 bytes: there is
/// one for every endpoint of every service port in memory.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Candidate {
    /// The endpoint's address.
    pub address: Addr,
    /// The port that it listens on.
    pub port: Be16,
    /// What it may be used for.
    pub role: Role,
}

bitflags! {
    /// What a candidate may be used for.
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct Role: u8 {
        /// In the cluster set (TRP-02).
        const CLUSTER = 1 << 0;
        /// In the local set (TRP-04).
        const LOCAL = 1 << 1;
        /// Ready. Without it the endpoint only keeps what it has, unless a set fell back to it.
        const READY = 1 << 2;
        /// On this node (EPS-14).
        const HERE = 1 << 3;
    }
}

/// The endpoints of one service port and family.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Endpoints {
    /// In order of address and port; each pair once (EPS-08). Also those that serve without
    /// being in a set: what they have already stays with them (CT-05).
    pub candidates: Box<[Candidate]>,
    /// Whether some endpoint anywhere is ready, or serving while it terminates (TRP-05).
    pub somewhere: bool,
}

/// All slices of one Service and family, by port.
pub struct Join<'a> {
    /// Sorted by port name and protocol; ports that are equal in both stand in the order of
    /// their slices.
    ports: Vec<(&'a str, Protocol, Be16, &'a [Endpoint])>,
    family: Family,
}

impl<'a> Join<'a> {
    /// Joins slices (EPS-04); those of the other family are left out (FAM-05).
    pub fn new(slices: impl Iterator<Item = &'a EndpointSlice>, family: Family) -> Self {
        let mut ports: Vec<_> = slices
            .filter(|slice| slice.family == family)
            .flat_map(|slice| {
                slice.ports.iter().map(|port| {
                    let number = Be16::from_host(port.port.get());
                    (&*port.name, port.protocol, number, &*slice.endpoints)
                })
            })
            .collect();
        ports.sort_by_key(|&(name, protocol, ..)| (name, protocol));
        Self { ports, family }
    }

    /// The endpoints of the service port with this name and protocol (EPS-05), with the sets
    /// that its frontends need.
    pub fn endpoints(
        &self,
        name: &str,
        protocol: Protocol,
        needed: Role,
        node: &Node,
    ) -> Endpoints {
        let mut found = self.matching(name, protocol);
        found.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
        found.dedup_by(|next, kept| {
            let same = (next.address, next.port) == (kept.address, kept.port);
            if same && replaces(next.of) {
                kept.of = next.of;
            }
            same
        });
        let mut endpoints = Endpoints {
            candidates: Box::default(),
            somewhere: found.iter().any(|endpoint| class(endpoint.of.conditions).is_some()),
        };
        let preference = Preference::of(
            found.iter().map(|endpoint| endpoint.of).filter(|endpoint| endpoint.conditions.ready),
            node,
        );
        let sets = Sets::of(&found, node);
        endpoints.candidates = found
            .iter()
            .map(|endpoint| Candidate {
                address: endpoint.address,
                port: endpoint.port,
                role: sets.role(endpoint.of, node, preference)
                    & (needed | Role::READY | Role::HERE),
            })
            .zip(&found)
            .filter(|(candidate, endpoint)| {
                candidate.role.intersects(Role::CLUSTER | Role::LOCAL | Role::READY)
                    || endpoint.of.conditions.serving
            })
            .map(|(candidate, _)| candidate)
            .collect();
        endpoints
    }

    fn matching(&self, name: &str, protocol: Protocol) -> Vec<Found<'a>> {
        let key =
            |port: &(&str, Protocol, Be16, &[Endpoint])| (port.0, port.1).cmp(&(name, protocol));
        let from = self.ports.partition_point(|port| key(port) == Ordering::Less);
        let ports = self.ports.iter().skip(from).take_while(|port| key(port) == Ordering::Equal);
        ports
            .flat_map(|&(_, _, port, endpoints)| {
                endpoints.iter().map(move |endpoint| (port, endpoint))
            })
            .filter(|(_, endpoint)| belongs(endpoint.address, self.family))
            .map(|(port, of)| Found { address: of.address.into(), port, of })
            .collect()
    }
}

/// An endpoint with the port that its slice gives it.
struct Found<'a> {
    address: Addr,
    port: Be16,
    of: &'a Endpoint,
}

/// The class that each set consists of: ready endpoints, or those that serve while they
/// terminate. The two fallbacks are independent of each other (TRP-04).
struct Sets {
    cluster: Class,
    local: Class,
}

/// How an endpoint can be used.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Class {
    /// For everything.
    Ready,
    /// Where nothing is ready.
    Draining,
}

impl Sets {
    fn of(found: &[Found<'_>], node: &Node) -> Self {
        let fallback = |any_ready| if any_ready { Class::Ready } else { Class::Draining };
        let ready = || found.iter().filter(|endpoint| endpoint.of.conditions.ready);
        Self {
            cluster: fallback(ready().next().is_some()),
            local: fallback(ready().any(|endpoint| is_here(endpoint.of, node))),
        }
    }

    /// Topology narrows the ready part of the cluster set and nothing else (TOP-10, TRP-02).
    fn role(&self, endpoint: &Endpoint, node: &Node, preference: Preference<'_>) -> Role {
        let class = class(endpoint.conditions);
        let here = is_here(endpoint, node);
        let preferred = class == Some(Class::Draining) || preference.admits(endpoint);
        let mut role = Role::empty();
        role.set(Role::READY, class == Some(Class::Ready));
        role.set(Role::HERE, here);
        role.set(Role::CLUSTER, class == Some(self.cluster) && preferred);
        role.set(Role::LOCAL, class == Some(self.local) && here);
        role
    }
}

/// How the endpoint can be used; `None`: not at all (EP-03). Ready is believed even of one
/// that terminates (EP-02).
pub(super) fn class(conditions: Conditions) -> Option<Class> {
    if conditions.ready {
        Some(Class::Ready)
    } else if conditions.serving && conditions.terminating {
        Some(Class::Draining)
    } else {
        None
    }
}

/// Whether the later of two entries for the same ip:port counts (EPS-09): one that does not
/// terminate beats any earlier one; one that does, none.
const fn replaces(later: &Endpoint) -> bool {
    !later.conditions.terminating
}

/// Whether an endpoint is on this node (EPS-14).
pub(super) fn is_here(endpoint: &Endpoint, node: &Node) -> bool {
    !node.name.is_empty() && endpoint.node.as_ref() == Some(&node.name)
}

/// Whether the address is one of the family; IPv4-mapped IPv6 is of neither.
fn belongs(address: IpAddr, family: Family) -> bool {
    match address {
        IpAddr::V4(_) => family == Family::V4,
        IpAddr::V6(address) => family == Family::V6 && address.to_ipv4_mapped().is_none(),
    }
}

#[cfg(test)]
mod tests;
