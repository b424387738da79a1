// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel programs' decision over tables in memory: for `explain` and for tests.

use std::cell::RefCell;

use foldhash::HashMap;
use lb_common::{
    addr::Addr,
    affinity::{AffinityKey, AffinityPin, Member, MemberKey},
    backend::Backend,
    counter::Counter,
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    maps::node_port_index,
    protocol::Protocol,
    range::{Admission, CidrKey, CidrRule, RangeKey},
    service::{Algorithm, SetWord},
    slot::Slot,
    translate::{Destination, Maps, Scope, ServiceView},
};

use super::tables::Tables;

/// Reads only: a decision over these maps finds no pin, and keeps none.
impl Maps for Tables {
    fn frontend4(&self, key: &FrontendKey4) -> Option<FrontendValue> {
        self.frontends4.get(key).copied()
    }

    fn frontend6(&self, key: &FrontendKey6) -> Option<FrontendValue> {
        self.frontends6.get(key).copied()
    }

    fn node_port(&self, row: u32, port: u16, ipv6: bool) -> u32 {
        self.node_port(node_port_index(row, port), ipv6)
    }

    fn is_node_address(&self, address: &Addr) -> bool {
        self.node_addresses.contains(address)
    }

    fn service(&self, index: u32, scope: Scope) -> Option<ServiceView> {
        let record = self.services.at(index);
        let set = match scope {
            Scope::Inside => record.inside,
            Scope::Outside => record.outside,
        };
        let (flags, affinity_secs, id) = (record.flags(), record.affinity_secs, record.id);
        Some(ServiceView { set, flags, affinity_secs, id })
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        Some(self.slots.at(index))
    }

    fn backend(&self, index: u32) -> Option<Backend> {
        Some(self.backends.at(index))
    }

    fn pin(&self, _: &AffinityKey) -> Option<AffinityPin> {
        None
    }

    fn set_pin(&self, _: &AffinityKey, _: AffinityPin) -> bool {
        true
    }

    fn member(&self, key: &MemberKey) -> Option<Member> {
        self.members.get(key).copied()
    }

    fn admission(&self, client: &RangeKey) -> Option<Admission> {
        self.admitted_by(client).map(|(_, admission)| admission)
    }

    fn cidr_rule(&self, address: &CidrKey) -> Option<CidrRule> {
        self.cidr_of(address.address).map(|(_, rule)| rule)
    }

    fn count(&self, _: Counter) {}
}

impl Tables {
    /// A set's slots, one of each backend: a Maglev table has many. In order of backends.
    pub fn members_of(&self, set: SetWord) -> Vec<Slot> {
        let mut slots = self.slots.range(set.base, set.count()).unwrap_or_default().to_vec();
        slots.sort_unstable_by_key(|slot| slot.backend);
        if set.algorithm() == Algorithm::Maglev {
            slots.dedup_by_key(|slot| slot.backend);
        }
        slots
    }

    /// The longest source range that holds a client, as the kernel finds it.
    pub fn admitted_by(&self, client: &RangeKey) -> Option<(RangeKey, Admission)> {
        let own = self.ranges_of(client.guard.service_id);
        own.filter(|(range, _)| range.contains(&client.guard)).max_by_key(|(key, _)| key.prefix_len)
    }

    /// The service index that the frontends or NODEPORTS have for a destination, whoever dials it.
    pub fn service_at(&self, destination: &Destination) -> Option<u32> {
        let node_port = |protocol: Protocol, port: u16, ipv6| {
            let index = self.node_port(node_port_index(protocol.node_port_row()?, port), ipv6);
            (index != 0).then_some(index)
        };
        match destination {
            Destination::V4(key) => self
                .frontend4(key)
                .map(|value| value.service)
                .or_else(|| node_port(key.protocol, key.port.to_host(), false)),
            Destination::V6(key) => self
                .frontend6(key)
                .map(|value| value.service)
                .or_else(|| node_port(key.protocol, key.port.to_host(), true)),
        }
    }

    /// The longest prefix of SERVICE_CIDRS that holds an address.
    pub fn cidr_of(&self, address: Addr) -> Option<(CidrKey, CidrRule)> {
        let holding = self.service_cidrs.iter().filter(|(key, _)| key.contains(address));
        holding.max_by_key(|(key, _)| key.prefix_len).map(|(key, rule)| (*key, *rule))
    }
}

/// Tables together with AFFINITY and what was counted: what the programs write.
#[derive(Debug)]
pub struct Playground<'a> {
    tables: &'a Tables,
    /// AFFINITY; may be filled beforehand.
    pub pins: RefCell<HashMap<AffinityKey, AffinityPin>>,
    /// What was counted beside the verdicts, in order.
    pub counted: RefCell<Vec<Counter>>,
}

impl<'a> Playground<'a> {
    /// Without pins.
    pub fn new(tables: &'a Tables) -> Self {
        Self { tables, pins: RefCell::default(), counted: RefCell::default() }
    }
}

impl Maps for Playground<'_> {
    fn frontend4(&self, key: &FrontendKey4) -> Option<FrontendValue> {
        self.tables.frontend4(key)
    }

    fn frontend6(&self, key: &FrontendKey6) -> Option<FrontendValue> {
        self.tables.frontend6(key)
    }

    fn node_port(&self, row: u32, port: u16, ipv6: bool) -> u32 {
        Maps::node_port(self.tables, row, port, ipv6)
    }

    fn is_node_address(&self, address: &Addr) -> bool {
        self.tables.is_node_address(address)
    }

    fn service(&self, index: u32, scope: Scope) -> Option<ServiceView> {
        self.tables.service(index, scope)
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        self.tables.slot(index)
    }

    fn backend(&self, index: u32) -> Option<Backend> {
        self.tables.backend(index)
    }

    fn pin(&self, key: &AffinityKey) -> Option<AffinityPin> {
        self.pins.borrow().get(key).copied()
    }

    fn set_pin(&self, key: &AffinityKey, pin: AffinityPin) -> bool {
        self.pins.borrow_mut().insert(*key, pin);
        true
    }

    fn member(&self, key: &MemberKey) -> Option<Member> {
        self.tables.member(key)
    }

    fn admission(&self, client: &RangeKey) -> Option<Admission> {
        self.tables.admission(client)
    }

    fn cidr_rule(&self, address: &CidrKey) -> Option<CidrRule> {
        self.tables.cidr_rule(address)
    }

    fn count(&self, counter: Counter) {
        self.counted.borrow_mut().push(counter);
    }
}
