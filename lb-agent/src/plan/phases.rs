// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The order of a plan: what is named comes before what names it.

use super::op::Op;

/// The ops of a plan before its grace period, phase by phase. Within a phase the order of
/// the pushes is kept.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    /// New backends; those in use that become active again.
    pub backends: Vec<Op>,
    /// Slots, in regions that no set word names.
    pub slots: Vec<Op>,
    /// Names of new service ids.
    pub names: Vec<Op>,
    /// Members that a new set needs, beside those that the old one does.
    pub members: Vec<Op>,
    /// Source ranges that a Service has from now on, then those that it has no more.
    pub ranges: Vec<Op>,
    /// New records; set words and rules of records in use: the commit points.
    pub records: Vec<Op>,
    /// FRONTENDS4.
    pub frontends4: Vec<Op>,
    /// FRONTENDS6.
    pub frontends6: Vec<Op>,
    /// Node ports, node addresses and where ClusterIPs are.
    pub node_ports: Vec<Op>,
    /// Frontends, node ports, node addresses and ServiceCIDRs that are gone.
    pub removals: Vec<Op>,
    /// What all that allows: members and source ranges taken away, backends that get nothing new.
    pub settlement: Vec<Op>,
}

impl Phases {
    /// All ops in their order.
    pub fn into_ops(self) -> Vec<Op> {
        let Self {
            backends,
            slots,
            names,
            members,
            ranges,
            records,
            frontends4,
            frontends6,
            node_ports,
            removals,
            settlement,
        } = self;
        let phases = [
            backends, slots, names, members, ranges, records, frontends4, frontends6, node_ports,
            removals, settlement,
        ];
        phases.into_iter().flatten().collect()
    }
}
