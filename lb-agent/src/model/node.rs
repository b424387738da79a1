// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must be known of the node that this agent runs on.

use std::sync::Arc;

/// This node, as far as routing depends on it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Node {
    /// The node's name, lower case (NOD-01). Empty: every endpoint is remote (EPS-14).
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`; `None` if absent or empty (TOP-07).
    pub zone: Option<Arc<str>>,
}
