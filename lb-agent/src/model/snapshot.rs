// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All objects at one moment, and what changed since the last one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use foldhash::HashMap;
use ipnet::IpNet;

use super::{
    ObjectName,
    issue::{Issue, ObjectKind},
    node::Node,
    pod::Pod,
    rules::Rules,
    service::Service,
    slices::Slices,
    uplinks::Uplinks,
};

/// The cluster at one moment. Sources build it up change by change; values are shared,
/// so that a clone of one Service's input costs two pointers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// This node.
    pub node: Node,
    /// This node's addresses on which NodePorts answer (NP-02), kept by netlink; 127.0.0.1
    /// stands for all of 127/8 (NP-05).
    pub node_addresses: BTreeSet<IpAddr>,
    /// The ways to clients outside. No Service is compiled by them.
    pub uplinks: Uplinks,
    /// Every proxied Service.
    pub services: HashMap<ObjectName, Arc<Service>>,
    /// Every Service's slices. Kept also while the Service is absent (EPS-03).
    pub slices: HashMap<ObjectName, Slices>,
    /// The Service under which each slice stands in `slices`: `apply` keeps it.
    pub slice_owners: HashMap<ObjectName, ObjectName>,
    /// `spec.cidrs` of every ServiceCIDR: where ClusterIPs are (CIP-05).
    pub service_cidrs: BTreeMap<ObjectName, Vec<IpNet>>,
    /// The pods of this node whose sockets are left alone. No Service is compiled by them.
    pub pods: BTreeMap<ObjectName, Pod>,
    /// What the operator switched on or off.
    pub rules: Rules,
    /// What was ignored, by the object it was found in.
    pub issues: BTreeMap<(ObjectKind, ObjectName), Vec<Issue>>,
}

/// Which Services a change touches: what must be compiled again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Touched {
    /// Only these, by Service name.
    Some(BTreeSet<ObjectName>),
    /// Every one: a relist, or a change of the node.
    All,
}

impl Touched {
    /// One Service.
    pub fn one(name: ObjectName) -> Self {
        Self::Some(BTreeSet::from([name]))
    }

    /// Whether nothing is to be compiled again.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some(names) if names.is_empty())
    }

    /// Adds what another change touches.
    pub fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::All, _) => {}
            (this, Self::All) => *this = Self::All,
            (Self::Some(names), Self::Some(more)) => names.extend(more),
        }
    }
}

impl Default for Touched {
    /// Nothing.
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}
