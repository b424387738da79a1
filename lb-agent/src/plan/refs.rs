// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The invariant of the maps: whatever an element names is there and is what it should be.
//! It holds after every op of every plan.

use lb_common::{
    addr::Addr,
    affinity::MemberKey,
    backend::{Backend, Life, State},
    key::FrontendValue,
    maps,
    range::Guard,
    service::{Service, ServiceFlags, SetWord},
    slot::Slot,
};

use super::{op::Op, tables::Tables};

/// A reference that leads nowhere, or to the wrong place.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Broken {
    /// A frontend's value has the tag of another key.
    #[error("{map} has an element whose tag is not its key's; it names service {service}")]
    Tag {
        /// FRONTENDS4 or FRONTENDS6.
        map: &'static str,
        /// The service index.
        service: u32,
    },
    /// A frontend or node port names a service index that is free or of the other family.
    #[error("a frontend names service {service}, which is free or of the other family")]
    Service {
        /// The service index.
        service: u32,
    },
    /// A service id has no name.
    #[error("service id {id} has no element in NAMES")]
    Name {
        /// The service id.
        id: u32,
    },
    /// A set has a slot that names a backend which is gone, or differs from it.
    #[error("slot {slot} of service {service} names backend {backend}, which is not that any more")]
    Slot {
        /// The service index.
        service: u32,
        /// The slot's index.
        slot: u32,
        /// The backend that the slot names.
        backend: u32,
    },
    /// A Service with affinity has a backend in a set that no pin may name.
    #[error("backend {backend} is in a set of service id {id}, but MEMBERS does not say so")]
    NotMember {
        /// The service id.
        id: u32,
        /// The backend.
        backend: u32,
    },
    /// SOURCE_RANGES names a service id that is gone.
    #[error("SOURCE_RANGES has {address} for service id {id}, which is gone")]
    Range {
        /// The service id.
        id: u32,
        /// The network's address.
        address: Addr,
    },
    /// MEMBERS names a backend or a service id that is gone.
    #[error("MEMBERS names backend {backend} for service id {id}, and one of them is gone")]
    Member {
        /// The service id.
        id: u32,
        /// The backend.
        backend: u32,
    },
}

impl Tables {
    /// Every broken reference, in no particular order. Empty in sound maps.
    pub fn check_refs(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        let four = self.frontends4.iter().map(|(key, value)| (maps::FRONTENDS4, key.tag(), value));
        let six = self.frontends6.iter().map(|(key, value)| (maps::FRONTENDS6, key.tag(), value));
        broken.extend(
            four.chain(six)
                .filter(|(_, tag, value)| value.tag != *tag)
                .map(|(map, _, value)| Broken::Tag { map, service: value.service }),
        );
        let mut named: Vec<_> = self.named_services().collect();
        named.sort_unstable();
        named.dedup();
        for (service, ipv6) in named {
            let record = self.services.at(service);
            if !self.is_live(service, ipv6) {
                broken.push(Broken::Service { service });
                continue;
            }
            if !self.names.contains_key(&record.id) {
                broken.push(Broken::Name { id: record.id });
            }
            self.check_record(service, &record, &mut broken);
        }
        broken.extend(self.members.keys().filter_map(|key| {
            let MemberKey { service_id: id, backend } = *key;
            (!self.may_be_member(*key)).then_some(Broken::Member { id, backend })
        }));
        broken.extend(self.source_ranges.keys().filter_map(|key| {
            let Guard { service_id: id, address } = key.guard;
            (!self.names.contains_key(&id)).then_some(Broken::Range { id, address })
        }));
        broken
    }

    /// Whether the op can be executed on these tables without breaking the invariant. What
    /// takes something away that a failed op may still need is not: it waits for another plan.
    pub fn admits(&self, op: &Op) -> bool {
        match op {
            Op::Backend { .. }
            | Op::BackendFlags { .. }
            | Op::NodeAddress { .. }
            | Op::ServiceCidr { .. }
            | Op::Name { text: Some(_), .. }
            | Op::Frontend4 { value: None, .. }
            | Op::Frontend6 { value: None, .. }
            | Op::NodePort { service: 0, .. } => true,
            Op::Life { life, .. } => is_usable(*life),
            Op::Slots { slots, .. } => slots.iter().all(|slot| self.matches(slot)),
            Op::SourceRange { key, admission: Some(_) } => {
                self.names.contains_key(&key.guard.service_id)
            }
            Op::Member { key, member: Some(member) } => {
                let known = self.members.get(key).copied().unwrap_or_default();
                let lost = known.inside & !member.inside | known.outside & !member.outside;
                lost == 0 && self.may_be_member(*key)
            }
            Op::Service { index, record } => self.is_sound(*index, record),
            Op::Rules { index, flags, affinity_secs } => {
                let (flags, affinity_secs) = (flags.bits(), *affinity_secs);
                let record = Service { flags, affinity_secs, ..self.services.at(*index) };
                self.is_sound(*index, &record)
            }
            Op::Inside { index, set } => {
                self.is_sound(*index, &Service { inside: *set, ..self.services.at(*index) })
            }
            Op::Outside { index, set } => {
                self.is_sound(*index, &Service { outside: *set, ..self.services.at(*index) })
            }
            Op::Frontend4 { value: Some(FrontendValue { service, .. }), .. } => {
                self.is_live(*service, false)
            }
            Op::Frontend6 { value: Some(FrontendValue { service, .. }), .. } => {
                self.is_live(*service, true)
            }
            Op::NodePort { ipv6, service, .. } => self.is_live(*service, *ipv6),
            Op::Member { member: None, .. }
            | Op::SourceRange { admission: None, .. }
            | Op::Name { text: None, .. }
            | Op::Grace => false,
        }
    }

    /// Whether a frontend of that family may name the service index.
    fn is_live(&self, service: u32, ipv6: bool) -> bool {
        let record = self.services.at(service);
        let is_free = record.id == 0 || record.flags().contains(ServiceFlags::FREE);
        service != 0 && !is_free && record.flags().contains(ServiceFlags::IPV6) == ipv6
    }

    fn is_sound(&self, index: u32, record: &Service) -> bool {
        let mut broken = Vec::new();
        self.check_record(index, record, &mut broken);
        broken.is_empty() && self.names.contains_key(&record.id)
    }

    fn check_record(&self, service: u32, record: &Service, broken: &mut Vec<Broken>) {
        let kind = 1 << record.flags().kind() as u32;
        for (set, outside) in [(record.inside, false), (record.outside, true)] {
            for (index, slot) in self.slots_of(set) {
                if !self.matches(&slot) {
                    broken.push(Broken::Slot { service, slot: index, backend: slot.backend });
                }
                let key = MemberKey { service_id: record.id, backend: slot.backend };
                let member = self.members.get(&key).copied().unwrap_or_default();
                let kinds = if outside { member.outside } else { member.inside };
                if record.flags().contains(ServiceFlags::AFFINITY) && kinds & kind == 0 {
                    broken.push(Broken::NotMember { id: record.id, backend: slot.backend });
                }
            }
        }
    }

    fn slots_of(&self, set: SetWord) -> impl Iterator<Item = (u32, Slot)> {
        (0..set.count()).map(move |offset| {
            let index = set.base.wrapping_add(offset);
            (index, self.slots.at(index))
        })
    }

    /// Whether a slot says what its backend says, and that one may be used.
    fn matches(&self, slot: &Slot) -> bool {
        let backend = self.backends.at(slot.backend);
        *slot == slot_of(slot.backend, &backend) && is_usable(backend.life) && slot.backend != 0
    }

    fn may_be_member(&self, key: MemberKey) -> bool {
        is_usable(self.backends.at(key.backend).life) && self.names.contains_key(&key.service_id)
    }
}

/// The slot that names a backend.
pub fn slot_of(index: u32, backend: &Backend) -> Slot {
    Slot {
        address4: backend.address.to_v4().unwrap_or_default(),
        port: backend.life.port,
        _pad: 0,
        backend: index,
        generation: backend.life.generation,
    }
}

/// Whether anything may be sent there.
pub const fn is_usable(life: Life) -> bool {
    matches!(life.state(), State::Active | State::Terminating)
}

#[cfg(test)]
mod tests;
