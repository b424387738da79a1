// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where things are, found again in a dump: a restart moves nothing.

use std::collections::BTreeMap;

use foldhash::HashMap;
use lb_common::{
    maps::Capacities,
    service::{Service, ServiceFlags, SetWord},
};

use super::{
    alloc::{Indexes, Regions},
    backends::Backends,
    diff::Planner,
    place::{Limbo, Place, Region},
    port::PortName,
    tables::Tables,
};
use crate::model::Family;

impl Planner {
    /// Takes up what a dump holds: a record that a frontend names belongs to the service port
    /// whose name NAMES has for its id. What does not fit that goes after a grace period,
    /// when frontends have been led elsewhere.
    pub fn restore(tables: Tables, capacities: Capacities) -> Self {
        // Which families' frontends name an index: IPv4, IPv6.
        let mut named: BTreeMap<u32, [bool; 2]> = BTreeMap::new();
        let indexes = 1..capacities.services;
        for (index, ipv6) in tables.named_services().filter(|(index, _)| indexes.contains(index)) {
            let [four, six] = named.entry(index).or_default();
            *(if ipv6 { six } else { four }) = true;
        }
        let dirty = tables.services.iter().filter(|(index, record)| {
            indexes.contains(index) && !named.contains_key(index) && *record != cleared(record)
        });
        let dirty: Vec<u32> = dirty.map(|(index, _)| index).collect();
        let used = named.keys().chain(&dirty).copied();
        let mut planner = Self {
            capacities,
            places: HashMap::default(),
            services: Indexes::new(capacities.services, used),
            regions: Regions::new(capacities.slots),
            backends: Backends::restore(&tables, capacities.backends),
            next_id: next_id(&tables),
            limbo: Limbo { records: dirty, ..Limbo::default() },
            leaving: None,
            full: BTreeMap::new(),
            addresses_left: 0,
            cidrs_left: 0,
            has_new_room: false,
            tables,
        };
        let mut owners = HashMap::default();
        for (index, families) in named {
            planner.restore_record(index, families, &mut owners);
        }
        planner
    }

    /// `owners` is which service port has which id: no two have the same.
    fn restore_record(
        &mut self,
        index: u32,
        [four, six]: [bool; 2],
        owners: &mut HashMap<u32, PortName>,
    ) {
        let record = self.tables.services.at(index);
        let name = self.name_of(&record).filter(|name| {
            let is_own = owners.entry(record.id).or_insert_with(|| name.clone()) == name;
            is_own && if name.family == Family::V6 { six } else { four }
        });
        let Some(name) = name else {
            self.limbo.records.push(index);
            return;
        };
        let place = self.places.entry(name).or_default();
        let kind = record.flags().kind();
        if place.record(kind) != 0 || (place.id != 0 && place.id != record.id) {
            self.limbo.records.push(index);
            return;
        }
        place.id = record.id;
        place.put_record(kind, index);
        for set in [record.inside, record.outside] {
            restore_region(&mut self.regions, place, set);
        }
    }

    fn name_of(&self, record: &Service) -> Option<PortName> {
        let text = self.tables.names.get(&record.id)?.clone();
        let ipv6 = record.flags().contains(ServiceFlags::IPV6);
        let family = if ipv6 { Family::V6 } else { Family::V4 };
        let is_free = record.flags().contains(ServiceFlags::FREE);
        (record.id != 0 && !is_free).then_some(PortName { text, family })
    }
}

/// A set that overlaps another one has no region: the service port gets a new one.
fn restore_region(regions: &mut Regions, place: &mut Place, set: SetWord) {
    let region = Region { base: set.base, count: set.count() };
    if !place.regions.contains(&region) && regions.claim(region.base, region.count) {
        place.regions.push(region);
    }
}

/// A record that is free keeps who had it last, so that neither id nor generation comes
/// again. One that was never used is free as it is.
pub(super) fn cleared(record: &Service) -> Service {
    if *record == Service::default() {
        return *record;
    }
    let Service { id, generation, .. } = *record;
    Service { id, generation, flags: ServiceFlags::FREE.bits(), ..Service::default() }
}

/// Ids only grow: a free record remembers its last one until it gets a later one.
fn next_id(tables: &Tables) -> u32 {
    let records = tables.services.iter().map(|(_, record)| record.id);
    let names = tables.names.keys().copied();
    let members = tables.members.keys().map(|key| key.service_id);
    records.chain(names).chain(members).max().unwrap_or(0) + 1
}
