// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every map that the agent owns, as data: what a dump found, or what a plan will leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foldhash::HashMap;
use lb_common::{
    addr::Addr,
    affinity::{Member, MemberKey},
    backend::Backend,
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    maps::NodePort,
    range::{Admission, CidrKey, CidrRule, RangeKey},
    service::Service,
    slot::Slot,
};

use super::{op::Op, port::Frontend};

/// The agent-owned maps. AFFINITY, SOCKETS and BACKEND_LOAD are written by the programs and
/// are not here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// FRONTENDS4.
    pub frontends4: HashMap<FrontendKey4, FrontendValue>,
    /// FRONTENDS6.
    pub frontends6: HashMap<FrontendKey6, FrontendValue>,
    /// NODEPORTS: the elements that are not zero.
    pub node_ports: BTreeMap<u32, NodePort>,
    /// NODE_ADDRS.
    pub node_addresses: BTreeSet<Addr>,
    /// SERVICES.
    pub services: Array<Service>,
    /// SLOTS.
    pub slots: Array<Slot>,
    /// BACKENDS.
    pub backends: Array<Backend>,
    /// MEMBERS.
    pub members: HashMap<MemberKey, Member>,
    /// SOURCE_RANGES.
    pub source_ranges: BTreeMap<RangeKey, Admission>,
    /// SERVICE_CIDRS.
    pub service_cidrs: BTreeMap<CidrKey, CidrRule>,
    /// NAMES, by service id.
    pub names: HashMap<u32, Arc<str>>,
}

/// A BPF array: every element exists and is zero until it is written. Only what is before
/// the last written element takes memory.
#[derive(Clone, Debug, Default)]
pub struct Array<T> {
    elements: Vec<T>,
}

impl Tables {
    /// Executes one op, as the kernel's maps would.
    pub fn apply(&mut self, op: &Op) {
        match *op {
            Op::Backend { index, life, address, flags } => {
                self.backends.put(index, Backend::new(life, address, flags));
            }
            Op::Life { index, life } => {
                self.backends.put(index, Backend { life, ..self.backends.at(index) });
            }
            Op::BackendFlags { index, flags } => {
                self.backends
                    .put(index, Backend { flags: flags.bits(), ..self.backends.at(index) });
            }
            Op::Slots { base, ref slots } => {
                for (index, slot) in (base..).zip(slots) {
                    self.slots.put(index, *slot);
                }
            }
            Op::Name { id, ref text } => put(&mut self.names, id, text.clone()),
            Op::Member { key, member } => put(&mut self.members, key, member),
            Op::SourceRange { key, admission } => {
                put_sorted(&mut self.source_ranges, key, admission);
            }
            Op::ServiceCidr { key, rule } => put_sorted(&mut self.service_cidrs, key, rule),
            Op::Service { index, ref record } => self.services.put(index, **record),
            Op::Rules { index, flags, affinity_secs } => {
                let record = self.services.at(index);
                self.services.put(index, Service { flags: flags.bits(), affinity_secs, ..record });
            }
            Op::Inside { index, set } => {
                self.services.put(index, Service { inside: set, ..self.services.at(index) });
            }
            Op::Outside { index, set } => {
                self.services.put(index, Service { outside: set, ..self.services.at(index) });
            }
            Op::Frontend4 { key, value } => put(&mut self.frontends4, key, value),
            Op::Frontend6 { key, value } => put(&mut self.frontends6, key, value),
            Op::NodePort { index, ipv6, service } => self.put_node_port(index, ipv6, service),
            Op::NodeAddress { address, present: true } => {
                self.node_addresses.insert(address);
            }
            Op::NodeAddress { address, present: false } => {
                self.node_addresses.remove(&address);
            }
            Op::Grace => {}
        }
    }

    /// The source ranges of a service id.
    pub fn ranges_of(&self, id: u32) -> impl Iterator<Item = (RangeKey, Admission)> {
        let first = RangeKey::range(id, Addr::ZERO, 0);
        let last = RangeKey::client(id, Addr { octets: [u8::MAX; 16] });
        self.source_ranges.range(first..=last).map(|(key, admission)| (*key, *admission))
    }

    /// The service index of a node port; 0 for none.
    pub fn node_port(&self, index: u32, ipv6: bool) -> u32 {
        let element = self.node_ports.get(&index).copied().unwrap_or_default();
        if ipv6 { element.service6 } else { element.service4 }
    }

    /// The value of a frontend's element.
    pub fn frontend(&self, frontend: &Frontend) -> Option<FrontendValue> {
        match frontend {
            Frontend::V4(key) => self.frontends4.get(key).copied(),
            Frontend::V6(key) => self.frontends6.get(key).copied(),
            Frontend::NodePort { index, ipv6 } => match self.node_port(*index, *ipv6) {
                0 => None,
                service => Some(frontend.value(service)),
            },
        }
    }

    /// Every frontend, in no particular order.
    pub fn frontends(&self) -> impl Iterator<Item = Frontend> {
        let four = self.frontends4.keys().map(|key| Frontend::V4(*key));
        let six = self.frontends6.keys().map(|key| Frontend::V6(*key));
        let ports = self.node_ports.iter().flat_map(|(&index, port)| {
            let halves = [(port.service4, false), (port.service6, true)];
            let used = halves.into_iter().filter(|(service, _)| *service != 0);
            used.map(move |(_, ipv6)| Frontend::NodePort { index, ipv6 })
        });
        four.chain(six).chain(ports)
    }

    /// Every service index that a frontend or node port names, with that frontend's family.
    pub fn named_services(&self) -> impl Iterator<Item = (u32, bool)> {
        let four = self.frontends4.values().map(|value| (value.service, false));
        let six = self.frontends6.values().map(|value| (value.service, true));
        let ports = self.node_ports.values();
        let ports = ports.flat_map(|port| [(port.service4, false), (port.service6, true)]);
        four.chain(six).chain(ports.filter(|(service, _)| *service != 0))
    }

    fn put_node_port(&mut self, index: u32, ipv6: bool, service: u32) {
        let element = self.node_ports.entry(index).or_default();
        if ipv6 {
            element.service6 = service;
        } else {
            element.service4 = service;
        }
        if *element == NodePort::default() {
            self.node_ports.remove(&index);
        }
    }
}

impl<T: Copy + Default + PartialEq> Array<T> {
    /// An element; zero if it was never written.
    pub fn at(&self, index: u32) -> T {
        self.elements.get(index as usize).copied().unwrap_or_default()
    }

    /// Writes an element.
    pub fn put(&mut self, index: u32, element: T) {
        let index = index as usize;
        if index >= self.elements.len() {
            if element == T::default() {
                return;
            }
            self.elements.resize(index + 1, T::default());
        }
        if let Some(place) = self.elements.get_mut(index) {
            *place = element;
        }
    }

    /// The elements of a range, as far as they were ever written; `None` if some never was.
    pub fn range(&self, base: u32, count: u32) -> Option<&[T]> {
        let base = base as usize;
        self.elements.get(base..base.checked_add(count as usize)?)
    }

    /// The elements that are not zero, with their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (u32, T)> {
        (0..).zip(self.elements.iter().copied()).filter(|(_, element)| *element != T::default())
    }

    fn written(&self) -> &[T] {
        let end = self.elements.iter().rposition(|element| *element != T::default());
        self.elements.get(..end.map_or(0, |last| last + 1)).unwrap_or_default()
    }
}

impl<T: Copy + Default + PartialEq> PartialEq for Array<T> {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl<T: Copy + Default + PartialEq> Eq for Array<T> {}

impl<T: Copy + Default + PartialEq> From<&[T]> for Array<T> {
    /// From a map's whole memory.
    fn from(elements: &[T]) -> Self {
        let end = elements.iter().rposition(|element| *element != T::default());
        let written = elements.get(..end.map_or(0, |last| last + 1)).unwrap_or_default();
        Self { elements: written.to_vec() }
    }
}

fn put<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

fn put_sorted<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_equal_to_its_memory() {
        let mut array = Array::default();
        array.put(3, 7_u32);
        array.put(5, 9);
        array.put(5, 0);
        array.put(1 << 30, 0);
        assert_eq!(array, Array::from([0, 0, 0, 7, 0, 0, 0, 0].as_slice()));
        assert_eq!((array.at(3), array.at(4), array.at(99)), (7, 0, 0));
        assert_eq!(array.iter().collect::<Vec<_>>(), [(3, 7)]);
    }

    #[test]
    fn a_node_port_has_two_halves_and_is_gone_with_the_last() {
        let mut tables = Tables::default();
        tables.apply(&Op::NodePort { index: 5, ipv6: false, service: 1 });
        tables.apply(&Op::NodePort { index: 5, ipv6: true, service: 2 });
        assert_eq!((tables.node_port(5, false), tables.node_port(5, true)), (1, 2));
        tables.apply(&Op::NodePort { index: 5, ipv6: false, service: 0 });
        assert_eq!(tables.node_port(5, true), 2);
        tables.apply(&Op::NodePort { index: 5, ipv6: true, service: 0 });
        assert_eq!(tables, Tables::default());
    }
}
