// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EndpointSlices: where a Service's traffic may go.

use std::{net::IpAddr, num::NonZeroU16, sync::Arc, time::SystemTime};

use lb_common::protocol::Protocol;

use super::{Family, ObjectName, share};

/// One EndpointSlice of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointSlice {
    /// Namespace and name of the slice.
    pub name: ObjectName,
    /// The Service it belongs to, by label and its own namespace (EPS-02).
    pub service: ObjectName,
    /// The family of every endpoint's address (FAM-05).
    pub family: Family,
    /// The ports that every endpoint of the slice listens on.
    pub ports: Vec<EndpointPort>,
    /// The endpoints, in the slice's order.
    pub endpoints: Vec<Endpoint>,
    /// When what last changed the slice happened, by annotation (MET-05).
    pub triggered: Option<SystemTime>,
}

/// A port of a slice; (name, protocol) ties it to a service port (EPS-05).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointPort {
    /// The port's name; empty for the unnamed one.
    pub name: Arc<str>,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port that the endpoint listens on.
    pub port: NonZeroU16,
}

/// One endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// `addresses[0]` (EPS-07).
    pub address: IpAddr,
    /// Whether it may serve.
    pub conditions: Conditions,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// `hints.forZones`: zones that should use it (TOP-04).
    pub for_zones: Vec<Arc<str>>,
    /// `hints.forNodes`: nodes that should use it (TOP-03).
    pub for_nodes: Vec<Arc<str>>,
}

/// An endpoint's conditions with their defaults filled in (EP-01).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Conditions {
    /// May get traffic; true where the slice says nothing.
    pub ready: bool,
    /// Answers, even if it is shutting down; true where the slice says nothing.
    pub serving: bool,
    /// Is shutting down; false where the slice says nothing.
    pub terminating: bool,
}

impl EndpointSlice {
    /// Shares the texts of an earlier version that are the same: they stay where they are,
    /// and the new ones are gone while they are still in a cache.
    pub fn share(&mut self, earlier: &Self) {
        self.name.share(&earlier.name);
        self.service.share(&earlier.service);
        for (port, earlier) in self.ports.iter_mut().zip(&earlier.ports) {
            share(&mut port.name, &earlier.name);
        }
        for (endpoint, earlier) in self.endpoints.iter_mut().zip(&earlier.endpoints) {
            if let (Some(node), Some(earlier)) = (&mut endpoint.node, &earlier.node) {
                share(node, earlier);
            }
        }
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Self { ready: true, serving: true, terminating: false }
    }
}
