// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must be known of the node that this agent runs on.

use std::{net::IpAddr, sync::Arc};

/// This node, as far as routing depends on it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Node {
    /// The node's name, lower case (NOD-01). Empty: every endpoint is remote (EPS-14).
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`; `None` if absent or empty (TOP-07).
    pub zone: Option<Arc<str>>,
    /// `status.addresses`: InternalIPs, then ExternalIPs, in the object's order. The first of
    /// a family is the node's primary address (NP-03).
    pub addresses: Vec<IpAddr>,
    /// Whether load balancers may send traffic here: the Node object exists, is not being
    /// deleted and does not carry the autoscaler's deletion taint (HLZ-05).
    pub eligible: bool,
}

impl Node {
    /// A node of which only the name is known.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}
