// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which endpoints of a service port are not used on this node, and why, and which are only
//! because there is nothing better: the maps hold those that are used, but not the reason.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use lb_common::protocol::Protocol;

use super::{
    eligible::{Class, class, is_here},
    port::PortName,
    topology::Preference,
};
use crate::model::{
    endpoint::{Endpoint, EndpointSlice},
    node::Node,
    slices::Slices,
    snapshot::Snapshot,
};

/// An endpoint that is not used, or for want of a better one.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LeftOut {
    /// Its address; and its port, if its slice has the one that is asked for.
    pub address: (IpAddr, Option<u16>),
    /// Why.
    pub why: Why,
}

/// Why an endpoint is not used, or is. The message names the rule.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Why {
    /// It has no port of the service port's name and protocol.
    #[error("its slice has no port {wanted}, only {has} (EPS-05)")]
    Port {
        /// The name and protocol that it would need.
        wanted: String,
        /// What the slice has.
        has: String,
    },
    /// Its conditions forbid it.
    #[error("it is not ready (EP-03)")]
    NotReady,
    /// It is about to end, and others are not.
    #[error("it terminates, and others are ready (TRP-04)")]
    Terminating,
    /// It is used after all.
    #[error("it terminates, but is used: none is ready (TRP-04)")]
    Fallback,
    /// It is on another node, and the policy is Local.
    #[error("it is on {node}, and the policy is Local (TRP-11)")]
    Elsewhere {
        /// The node, or what stands for none.
        node: Arc<str>,
    },
    /// Hints give it to other nodes.
    #[error("hints give it to node {nodes}, and every endpoint has such a hint (TOP-03)")]
    NodeHints {
        /// Whom it is for.
        nodes: String,
    },
    /// Hints give it to other zones.
    #[error("hints give it to zone {zones}, and this node is in {zone} (TOP-04)")]
    ZoneHints {
        /// Whom it is for.
        zones: String,
        /// Where this node is.
        zone: String,
    },
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            (address, Some(port)) => write!(f, "{}: {}", SocketAddr::new(address, port), self.why),
            (address, None) => write!(f, "{address}: {}", self.why),
        }
    }
}

/// The endpoints that a service port does not use, in order. `local`: of the local set. Nothing
/// if there is no such service port.
pub fn left_out(snapshot: &Snapshot, name: &PortName, local: bool) -> Vec<LeftOut> {
    let Some((service, port)) = name.parts() else { return Vec::new() };
    let of = snapshot.slices.get(&service);
    let slices = of.into_iter().flat_map(Slices::iter);
    let slices: Vec<_> = slices.filter(|slice| slice.family == name.family).collect();
    let mut left = BTreeSet::new();
    let mut found = Vec::new();
    for slice in slices {
        let matching = slice.ports.iter().find(|it| (&*it.name, it.protocol) == (port.0, port.1));
        match matching {
            Some(port) => found.extend(slice.endpoints.iter().map(|it| (it, port.port.get()))),
            None => left.extend(slice.endpoints.iter().map(|it| wrong_port(it, slice, port))),
        }
    }
    let node = &snapshot.node;
    let ready = found.iter().map(|(it, _)| *it).filter(|it| it.conditions.ready);
    let preference = Preference::of(ready.clone(), node);
    let is_ready = ready.clone().any(|it| !local || is_here(it, node));
    let mut used = BTreeSet::new();
    for (endpoint, port) in &found {
        let address = (endpoint.address, Some(*port));
        match why(endpoint, node, preference, local, is_ready) {
            Some(why) => {
                left.insert(LeftOut { address, why });
            }
            None => {
                used.insert(address);
            }
        }
    }
    // One that moves between slices is in both (EPS-08).
    left.into_iter().filter(|it| !used.contains(&it.address)).collect()
}

fn wrong_port(
    endpoint: &Endpoint,
    slice: &EndpointSlice,
    (name, protocol): (&str, Protocol),
) -> LeftOut {
    let has = slice.ports.iter().map(|port| called(&port.name, port.protocol));
    let has = has.collect::<Vec<_>>().join(", ");
    let why = Why::Port { wanted: called(name, protocol), has };
    LeftOut { address: (endpoint.address, None), why }
}

/// `None`: it is used as any other.
fn why(
    endpoint: &Endpoint,
    node: &Node,
    preference: Preference<'_>,
    local: bool,
    is_ready: bool,
) -> Option<Why> {
    match class(endpoint.conditions) {
        None => Some(Why::NotReady),
        Some(_) if local && !is_here(endpoint, node) => {
            let node = endpoint.node.clone().unwrap_or_else(|| "no node".into());
            Some(Why::Elsewhere { node })
        }
        Some(Class::Draining) if is_ready => Some(Why::Terminating),
        Some(Class::Draining) => Some(Why::Fallback),
        Some(Class::Ready) if local || preference.admits(endpoint) => None,
        Some(Class::Ready) => Some(match preference {
            Preference::Node(_) => Why::NodeHints { nodes: endpoint.for_nodes.join(", ") },
            Preference::Zone(zone) => {
                Why::ZoneHints { zones: endpoint.for_zones.join(", "), zone: zone.to_owned() }
            }
            Preference::All => return None,
        }),
    }
}

/// A port as a person calls it: `http/TCP`.
fn called(name: &str, protocol: Protocol) -> String {
    if name.is_empty() {
        format!("without a name/{protocol}")
    } else {
        format!("{name}/{protocol}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Family, ObjectName},
        plan::fixture::{Build, endpoint, node, slice},
    };

    fn told(slices: Vec<(&[&str], Vec<Build>)>, local: bool) -> Vec<String> {
        let mut snapshot = Snapshot { node: node("here", "a"), ..Snapshot::default() };
        let name = ObjectName::new("default", "web");
        for (number, (ports, endpoints)) in slices.into_iter().enumerate() {
            let slice = slice(&format!("web-{number}"), ports, endpoints);
            snapshot.slices.entry(name.clone()).or_default().insert(Arc::new(slice));
        }
        let port = PortName { text: "default/web:http/TCP".into(), family: Family::V4 };
        left_out(&snapshot, &port, local).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_reason_is_told_with_its_rule() {
        let all: Vec<(&[&str], _)> = vec![
            (&["http=80"], vec![endpoint("10.0.0.1"), endpoint("10.0.0.2").down()]),
            (&["http=80"], vec![endpoint("10.0.0.3").draining(), endpoint("10.0.0.4").serving()]),
            (&["web=80", "http=80/UDP"], vec![endpoint("10.0.0.5")]),
            (&["http=80"], vec![endpoint("fd00::1").down()]),
        ];
        assert_eq!(
            told(all, false),
            [
                "10.0.0.2:80: it is not ready (EP-03)",
                "10.0.0.3:80: it terminates, and others are ready (TRP-04)",
                "10.0.0.4:80: it is not ready (EP-03)",
                "10.0.0.5: its slice has no port http/TCP, only web/TCP, http/UDP (EPS-05)",
            ]
        );
    }

    #[test]
    fn hints_and_policies_leave_out_and_fallbacks_do_not() {
        let zones: Vec<(&[&str], _)> = vec![(
            &["http=80"],
            vec![endpoint("10.0.0.1").for_zones(&["a"]), endpoint("10.0.0.2").for_zones(&["b"])],
        )];
        let hints = "10.0.0.2:80: hints give it to zone b, and this node is in a (TOP-04)";
        assert_eq!(told(zones, false), [hints]);
        let two = || vec![endpoint("10.0.0.1").on("here"), endpoint("10.0.0.2").on("there")];
        assert_eq!(told(vec![(&["http=80"], two())], false), [""; 0]);
        let elsewhere = "10.0.0.2:80: it is on there, and the policy is Local (TRP-11)";
        assert_eq!(told(vec![(&["http=80"], two())], true), [elsewhere]);
        let draining = vec![endpoint("10.0.0.1").draining()];
        let fallback = "10.0.0.1:80: it terminates, but is used: none is ready (TRP-04)";
        assert_eq!(told(vec![(&["http=80"], draining)], false), [fallback]);
    }
}
