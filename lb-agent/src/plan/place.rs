// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where things are in the maps: of one service port, and of what waits for a grace period.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{affinity::MemberKey, service::FrontendKind};

use super::{backends::Hold, port::PortName};

/// What one service port has in the maps.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Its id; never another's while the maps live.
    pub id: u32,
    /// The service index of each kind of frontend; 0 for none.
    pub records: [u32; KINDS.len()],
    /// Its regions, at most one a set.
    pub regions: Vec<Region>,
    /// The backends that it uses, in the order of its candidates.
    pub holds: Vec<Hold>,
}

/// The slots of a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Region {
    /// The first slot.
    pub base: u32,
    /// How many slots the set has.
    pub count: u32,
}

/// What nothing new leads to, and what programs may still use until a grace period is over.
#[derive(Clone, Debug, Default)]
pub struct Limbo {
    /// Service ports without frontends. One that comes back before the grace period takes up
    /// its place again.
    pub ports: BTreeMap<PortName, Place>,
    /// Records that no frontend names.
    pub records: Vec<u32>,
    /// Regions that no set word names.
    pub regions: Vec<Region>,
    /// Service ports whose source ranges nothing asks for any more.
    pub unguarded: BTreeSet<PortName>,
    /// Ids that nothing has.
    pub ids: Vec<u32>,
    /// Members that a dump has for service ports that wait here.
    pub members: Vec<MemberKey>,
}

impl Place {
    /// Nothing.
    pub const NONE: Self =
        Self { id: 0, records: [0; KINDS.len()], regions: Vec::new(), holds: Vec::new() };

    /// The service index of a kind of frontend; 0 for none.
    pub fn record(&self, kind: FrontendKind) -> u32 {
        self.records.get(kind as usize).copied().unwrap_or(0)
    }

    /// Sets the service index of a kind of frontend.
    pub fn put_record(&mut self, kind: FrontendKind, index: u32) {
        if let Some(place) = self.records.get_mut(kind as usize) {
            *place = index;
        }
    }

    /// The service indexes that it has.
    pub fn indexes(&self) -> impl Iterator<Item = u32> {
        self.records.into_iter().filter(|index| *index != 0)
    }
}

impl Limbo {
    /// Adds what waits elsewhere.
    pub fn merge(&mut self, other: Self) {
        let Self { ports, records, regions, unguarded, ids, members } = other;
        self.ports.extend(ports);
        self.records.extend(records);
        self.regions.extend(regions);
        self.unguarded.extend(unguarded);
        self.ids.extend(ids);
        self.members.extend(members);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
            && self.records.is_empty()
            && self.regions.is_empty()
            && self.unguarded.is_empty()
            && self.ids.is_empty()
    }
}

/// Every kind of frontend, in the order of its number.
pub const KINDS: [FrontendKind; 4] = [
    FrontendKind::ClusterIp,
    FrontendKind::NodePort,
    FrontendKind::ExternalIp,
    FrontendKind::LoadBalancer,
];
