// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One write of the kernel's maps.

use std::sync::Arc;

use lb_common::{
    addr::Addr,
    affinity::{Member, MemberKey},
    backend::{BackendFlags, Life},
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    range::{Admission, CidrKey, CidrRule, RangeKey},
    service::{Service, ServiceFlags, SetWord},
    slot::Slot,
};

/// One write. A plan is a list of them, and they are executed in its order: every prefix
/// leaves the maps consistent. Runs of the same kind stand together, so that a hash map's can
/// go to the kernel in one batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Op {
    /// BACKENDS: a whole element, which no slot names yet. `life` is stored last.
    Backend {
        /// Index into BACKENDS.
        index: u32,
        /// Generation, state, protocol and port.
        life: Life,
        /// The backend's address.
        address: Addr,
        /// Where it is.
        flags: BackendFlags,
    },
    /// BACKENDS: `life` of an element that is in use; one 64-bit store.
    Life {
        /// Index into BACKENDS.
        index: u32,
        /// The same backend in another state.
        life: Life,
    },
    /// BACKENDS: `flags` of an element that is in use; one 32-bit store.
    BackendFlags {
        /// Index into BACKENDS.
        index: u32,
        /// The new flags.
        flags: BackendFlags,
    },
    /// SLOTS: a region that no set word names.
    Slots {
        /// The first slot.
        base: u32,
        /// The region.
        slots: Box<[Slot]>,
    },
    /// NAMES: put, or removed.
    Name {
        /// The service port's id.
        id: u32,
        /// Its name; `None` removes the element.
        text: Option<Arc<str>>,
    },
    /// MEMBERS: put, or removed.
    Member {
        /// Service id and backend.
        key: MemberKey,
        /// The kinds of frontend; `None` removes the element.
        member: Option<Member>,
    },
    /// SOURCE_RANGES: put, or removed.
    SourceRange {
        /// Service id and network.
        key: RangeKey,
        /// Why its clients are admitted; `None` removes the element.
        admission: Option<Admission>,
    },
    /// SERVICE_CIDRS: put, or removed.
    ServiceCidr {
        /// The network.
        key: CidrKey,
        /// What becomes of flows to addresses that no Service has; `None` removes the element.
        rule: Option<CidrRule>,
    },
    /// SERVICES: a whole record, which no frontend names.
    Service {
        /// Index into SERVICES.
        index: u32,
        /// The record. A free one has no sets, and keeps id and generation.
        record: Box<Service>,
    },
    /// SERVICES: flags and affinity of a record in use; both with one 64-bit store.
    Rules {
        /// Index into SERVICES.
        index: u32,
        /// The new flags.
        flags: ServiceFlags,
        /// The affinity timeout in seconds; 0 without affinity.
        affinity_secs: u32,
    },
    /// SERVICES: `inside` of a record in use; one 64-bit store, the commit of a set.
    Inside {
        /// Index into SERVICES.
        index: u32,
        /// The new set.
        set: SetWord,
    },
    /// SERVICES: `outside` of a record in use; one 64-bit store, the commit of a set.
    Outside {
        /// Index into SERVICES.
        index: u32,
        /// The new set.
        set: SetWord,
    },
    /// FRONTENDS4: put (also over another value), or removed.
    Frontend4 {
        /// What clients dial.
        key: FrontendKey4,
        /// The service index with the key's tag; `None` removes the element.
        value: Option<FrontendValue>,
    },
    /// FRONTENDS6: put (also over another value), or removed.
    Frontend6 {
        /// What clients dial.
        key: FrontendKey6,
        /// The service index with the key's tag; `None` removes the element.
        value: Option<FrontendValue>,
    },
    /// NODEPORTS: one family's half of an element; one 32-bit store.
    NodePort {
        /// The index of [`node_port_index`](lb_common::maps::node_port_index).
        index: u32,
        /// Which half.
        ipv6: bool,
        /// The service index; 0 removes the node port.
        service: u32,
    },
    /// NODE_ADDRS: put, or removed.
    NodeAddress {
        /// One of this node's addresses.
        address: Addr,
        /// Whether NodePorts answer there.
        present: bool,
    },
    /// Waits until no program still uses what it read before: an RCU grace period.
    Grace,
}

impl Op {
    /// Whether the op writes something: all do but [`Op::Grace`].
    pub const fn is_write(&self) -> bool {
        !matches!(self, Self::Grace)
    }

    /// Whether the op only takes away what others may still need: it can wait for another
    /// plan.
    pub fn takes_away(&self) -> bool {
        match self {
            Self::Name { text, .. } => text.is_none(),
            Self::Member { member, .. } => member.is_none(),
            Self::SourceRange { admission, .. } => admission.is_none(),
            Self::ServiceCidr { rule, .. } => rule.is_none(),
            Self::Service { record, .. } => record.flags().contains(ServiceFlags::FREE),
            Self::Life { .. } | Self::Grace => true,
            Self::Frontend4 { value, .. } | Self::Frontend6 { value, .. } => value.is_none(),
            Self::NodePort { service, .. } => *service == 0,
            Self::NodeAddress { present, .. } => !present,
            Self::Backend { .. }
            | Self::BackendFlags { .. }
            | Self::Slots { .. }
            | Self::Rules { .. }
            | Self::Inside { .. }
            | Self::Outside { .. } => false,
        }
    }
}
