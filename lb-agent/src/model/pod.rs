// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods of this node whose Service traffic is translated packet by packet, at the node's end of
//! their interface, and not at their sockets.

use std::{fmt, net::IpAddr, sync::Arc};

/// A pod that runs on this node, not in its network, and is marked.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Pod {
    /// `status.podIPs`; none as long as it has none.
    pub addresses: Vec<IpAddr>,
    /// What marks it.
    pub mark: Mark,
}

/// Why a pod's sockets are left alone.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Mark {
    /// Its own label says so.
    Label,
    /// Its RuntimeClass, of this name, is one of those that the operator named.
    RuntimeClass(Arc<str>),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label => f.pad("label"),
            Self::RuntimeClass(name) => f.pad(&format!("runtime class {name}")),
        }
    }
}
