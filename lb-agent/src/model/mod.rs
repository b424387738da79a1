// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cluster as Sluice sees it: values that are valid by construction.
//!
//! `source::convert` makes them from Kubernetes objects; `plan` compiles them. This room
//! knows no Kubernetes types, no clock, no I/O.
//!
//! Invariant: a model value never holds something that `plan` would have to reject.

pub mod change;
pub mod endpoint;
pub mod issue;
pub mod local_ports;
pub mod node;
pub mod pod;
mod remedy;
pub mod rules;
pub mod service;
pub mod slices;
pub mod snapshot;
pub mod uplinks;

use std::{fmt, sync::Arc};

/// The protocol of a port, the same number as in a packet.
pub use lb_common::protocol::Protocol;

/// Namespace and name of a Kubernetes object. Cheap to clone. The namespace of an object
/// that has none, such as a Node, is empty.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

/// An IP family: Services are two independent sets of frontends and backends (FAM-01).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl ObjectName {
    /// From namespace and name.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Shares the texts of an equal name.
    fn share(&mut self, earlier: &Self) {
        share(&mut self.namespace, &earlier.namespace);
        share(&mut self.name, &earlier.name);
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address; IPv4-mapped IPv6 counts as IPv6, which no Service has.
    pub const fn of(address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(_) => Self::V4,
            std::net::IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Drops a text for an equal one that is there already.
fn share(text: &mut Arc<str>, known: &Arc<str>) {
    if text == known {
        text.clone_from(known);
    }
}
