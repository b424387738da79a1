// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the operator switched on or off; it never changes while the agent runs.

/// Switches of rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// A ClusterIP refuses what is not one of its ports, and a free address of a ServiceCIDR
    /// gives no answer (CIP-04, CIP-05).
    pub guard_cluster_ips: bool,
    /// `spec.externalIPs` are served (XIP-04).
    pub external_ips: bool,
}

impl Rules {
    /// As kube-proxy's nftables mode.
    pub const NFTABLES: Self = Self { guard_cluster_ips: true, external_ips: true };
}

impl Default for Rules {
    /// Only what objects ask for.
    fn default() -> Self {
        Self { guard_cluster_ips: false, external_ips: true }
    }
}
