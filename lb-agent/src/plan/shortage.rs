// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Maps that are full: how full, who waits for room, what is kept free, and what to do.

use lb_common::maps::{self, Capacities};

use super::{desired::Desired, diff::Planner, port::PortName};
use crate::model::{
    ObjectName,
    issue::{Issue, Lost, ObjectKind, Problem, Remedy},
};

/// What became of the last try to enlarge the maps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ceiling {
    /// They are as large as they need to be, or will be.
    #[default]
    None,
    /// They are as large as the operator allows.
    Limit,
    /// The kernel did not make larger ones.
    Refused,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// The map's name.
    pub map: &'static str,
    /// Elements in use.
    pub used: usize,
    /// Elements in all.
    pub capacity: u32,
    /// Service ports, or addresses of the node, that found no room in it.
    pub waiting: usize,
}

/// What found no room.
#[derive(Clone, Debug)]
pub(super) struct Shortage {
    /// Whose it is.
    service: ObjectName,
    /// The map that has none.
    map: &'static str,
    /// What is missing because of it.
    lost: Lost,
}

impl Planner {
    /// How full the maps are.
    pub fn usage(&self) -> [Usage; 10] {
        let (tables, capacities) = (&self.tables, &self.capacities);
        [
            (maps::FRONTENDS4, tables.frontends4.len(), capacities.frontends),
            (maps::FRONTENDS6, tables.frontends6.len(), capacities.frontends),
            (maps::SERVICES, self.services.used(), capacities.services),
            (maps::NAMES, tables.names.len(), capacities.services),
            (maps::SLOTS, self.regions.used() as usize, capacities.slots),
            (maps::BACKENDS, self.backends.used(), capacities.backends),
            (maps::MEMBERS, tables.members.len(), capacities.members),
            (maps::SOURCE_RANGES, tables.source_ranges.len(), capacities.source_ranges),
            (maps::SERVICE_CIDRS, tables.service_cidrs.len(), maps::SERVICE_CIDRS_LEN),
            (maps::NODE_ADDRS, tables.node_addresses.len(), maps::NODE_ADDRS_LEN),
        ]
        .map(|(map, used, capacity)| {
            let ports = self.full.values().filter(|shortage| shortage.map == map).count();
            let others = match map {
                maps::NODE_ADDRS => self.addresses_left,
                maps::SERVICE_CIDRS => self.cidrs_left,
                _ => 0,
            };
            Usage { map, used, capacity, waiting: ports + others }
        })
    }

    /// Whether something found no room.
    pub fn is_full(&self) -> bool {
        self.addresses_left > 0 || self.cidrs_left > 0 || !self.full.is_empty()
    }

    /// What found no room. `node` is this node's name, for its addresses; `ceiling` says why
    /// the maps are no larger.
    pub fn issues(&self, node: &ObjectName, ceiling: Ceiling) -> impl Iterator<Item = Issue> {
        let ports = self.full.iter().map(move |(name, shortage)| Issue {
            kind: ObjectKind::Service,
            object: shortage.service.clone(),
            field: format!("service port {name}"),
            problem: shortage.problem(ceiling),
        });
        let addresses = (self.addresses_left > 0).then(|| Issue {
            kind: ObjectKind::Node,
            object: node.clone(),
            field: "node addresses".to_owned(),
            problem: Problem::Full {
                map: maps::NODE_ADDRS,
                lost: Lost::Addresses,
                remedy: Remedy::Addresses,
            },
        });
        let cidrs = (self.cidrs_left > 0).then(|| Issue {
            kind: ObjectKind::Node,
            object: node.clone(),
            field: "ServiceCIDRs".to_owned(),
            problem: Problem::Full {
                map: maps::SERVICE_CIDRS,
                lost: Lost::Cidrs,
                remedy: Remedy::Wait,
            },
        });
        ports.chain(addresses).chain(cidrs)
    }

    /// Notes that a service port found no room.
    pub(super) fn refuse(
        &mut self,
        name: &PortName,
        map: &'static str,
        lost: Lost,
        desired: &Desired,
    ) {
        if let Some(port) = desired.port(name) {
            let service = port.owner.service.clone();
            self.full.insert(name.clone(), Shortage { service, map, lost });
        }
    }

    /// Whether a new service port leaves enough for those that are served to change: a set
    /// that changes stands beside the old one for a moment, and so do its backends.
    pub(super) fn spare(&self) -> Result<(), &'static str> {
        let Capacities { slots, backends, .. } = self.capacities;
        if self.regions.free() < slots / SPARE {
            Err(maps::SLOTS)
        } else if self.backends.free() < backends / SPARE {
            Err(maps::BACKENDS)
        } else {
            Ok(())
        }
    }
}

impl Shortage {
    fn problem(&self, ceiling: Ceiling) -> Problem {
        let Self { map, lost, .. } = *self;
        let remedy = match ceiling {
            Ceiling::None => Remedy::Wait,
            Ceiling::Limit => Remedy::Limit { limit: limit_of(map) },
            Ceiling::Refused => Remedy::Memory,
        };
        Problem::Full { map, lost, remedy }
    }
}

/// The limit that a map's size is under, as `--max-entries` calls it.
fn limit_of(map: &str) -> &'static str {
    match map {
        maps::FRONTENDS4 | maps::FRONTENDS6 => "frontends",
        maps::SLOTS => "slots",
        maps::BACKENDS => "backends",
        maps::MEMBERS => "members",
        maps::SOURCE_RANGES => "source-ranges",
        _ => "services",
    }
}

/// New service ports leave one part in so many free.
const SPARE: u32 = 16;
