// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The maps, as the decision sees them.

use core::mem::offset_of;

use aya_ebpf::{bindings::BPF_ANY, btf_maps::lpm_trie::Key};
use lb_common::{
    addr::Addr,
    affinity::{AffinityKey, AffinityPin, Member, MemberKey},
    backend::{Backend, Life},
    be::{Be16, Be32},
    counter::Counter,
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    maps::{NodePort, node_port_index},
    range::{Admission, CidrKey, CidrRule, RangeKey},
    service::{Service, ServiceFlags, SetWord},
    slot::Slot,
    translate::{Maps, Scope, ServiceView},
};

use super::{
    AFFINITY, BACKENDS, FRONTENDS4, FRONTENDS6, KernelMaps, MEMBERS, NODE_ADDRS, NODEPORTS,
    SERVICE_CIDRS, SERVICES, SLOTS, SOURCE_RANGES, count,
};
use crate::kernel::Live;

impl Maps for KernelMaps {
    #[inline(always)]
    fn frontend4(&self, key: &FrontendKey4) -> Option<FrontendValue> {
        // One store of the key: the kernel's hash reads it by words, and waits for a word
        // that was stored in pieces.
        let word: u64 = bytemuck::must_cast(*key);
        let value =
            Live::new(FRONTENDS4.get_ptr_mut(bytemuck::must_cast_ref::<_, FrontendKey4>(&word)))?;
        Some(value.load::<FrontendValue, 0>())
    }

    #[inline(always)]
    fn frontend6(&self, key: &FrontendKey6) -> Option<FrontendValue> {
        let value = Live::new(FRONTENDS6.get_ptr_mut(key))?;
        Some(value.load::<FrontendValue, 0>())
    }

    #[inline(always)]
    fn node_port(&self, row: u32, port: u16, ipv6: bool) -> u32 {
        let Some(entry) = Live::new(NODEPORTS.get_ptr_mut(node_port_index(row, port))) else {
            return 0;
        };
        if ipv6 {
            entry.load::<u32, { offset_of!(NodePort, service6) }>()
        } else {
            entry.load::<u32, { offset_of!(NodePort, service4) }>()
        }
    }

    #[inline(always)]
    fn is_node_address(&self, address: &Addr) -> bool {
        NODE_ADDRS.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn service(&self, index: u32, scope: Scope) -> Option<ServiceView> {
        let service = Live::new(SERVICES.get_ptr_mut(index))?;
        let set = match scope {
            Scope::Inside => service.load::<SetWord, { offset_of!(Service, inside) }>(),
            Scope::Outside => service.load::<SetWord, { offset_of!(Service, outside) }>(),
        };
        Some(ServiceView {
            set,
            flags: service.load::<ServiceFlags, { offset_of!(Service, flags) }>(),
            affinity_secs: service.load::<u32, { offset_of!(Service, affinity_secs) }>(),
            id: service.load::<u32, { offset_of!(Service, id) }>(),
        })
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<Slot> {
        let slot = Live::new(SLOTS.get_ptr_mut(index))?;
        Some(Slot {
            address4: slot.load::<Be32, { offset_of!(Slot, address4) }>(),
            port: slot.load::<Be16, { offset_of!(Slot, port) }>(),
            _pad: 0,
            backend: slot.load::<u32, { offset_of!(Slot, backend) }>(),
            generation: slot.load::<u32, { offset_of!(Slot, generation) }>(),
        })
    }

    #[inline(always)]
    fn backend(&self, index: u32) -> Option<Backend> {
        let backend = Live::new(BACKENDS.get_ptr_mut(index))?;
        Some(Backend {
            life: backend.load::<Life, { offset_of!(Backend, life) }>(),
            address: backend.load::<Addr, { offset_of!(Backend, address) }>(),
            flags: backend.load::<u32, { offset_of!(Backend, flags) }>(),
            _pad: 0,
        })
    }

    #[inline(always)]
    fn pin(&self, key: &AffinityKey) -> Option<AffinityPin> {
        let pin = Live::new(AFFINITY.get_ptr_mut(key))?;
        Some(AffinityPin {
            backend: pin.load::<u32, { offset_of!(AffinityPin, backend) }>(),
            generation: pin.load::<u32, { offset_of!(AffinityPin, generation) }>(),
            last_seen_ns: pin.load::<u64, { offset_of!(AffinityPin, last_seen_ns) }>(),
        })
    }

    #[inline(always)]
    fn set_pin(&self, key: &AffinityKey, pin: AffinityPin) -> bool {
        AFFINITY.insert(key, pin, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn member(&self, key: &MemberKey) -> Option<Member> {
        let member = Live::new(MEMBERS.get_ptr_mut(key))?;
        Some(Member {
            inside: member.load::<u32, { offset_of!(Member, inside) }>(),
            outside: member.load::<u32, { offset_of!(Member, outside) }>(),
        })
    }

    #[inline(always)]
    fn admission(&self, client: &RangeKey) -> Option<Admission> {
        let admission = SOURCE_RANGES.get(&Key::new(client.prefix_len, client.guard))?;
        let admission = Live::new(Some(core::ptr::from_ref(admission).cast_mut()))?;
        Some(admission.load::<Admission, 0>())
    }

    #[inline(always)]
    fn cidr_rule(&self, address: &CidrKey) -> Option<CidrRule> {
        let rule = SERVICE_CIDRS.get(&Key::new(address.prefix_len, address.address))?;
        let rule = Live::new(Some(core::ptr::from_ref(rule).cast_mut()))?;
        Some(rule.load::<CidrRule, 0>())
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        count(counter);
    }
}
