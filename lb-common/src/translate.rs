// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The whole forward decision, without I/O: from a dialled destination to a verdict.
//!
//! `lb-ebpf` compiles it over the BPF maps; `lb-agent` over tables in memory, for
//! `explain` and for the tests that compare the two.

use crate::{
    addr::Addr,
    affinity::{AffinityKey, AffinityPin, Member, MemberKey},
    backend::Backend,
    be::{Be16, Be32},
    counter::Counter,
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    pick::{client_bits, pick},
    range::{Admission, CidrKey, CidrRule, RangeKey},
    service::{Algorithm, Empty, ServiceFlags, SetWord},
    slot::Slot,
    verdict::{Target, Verdict},
};

mod guard;

/// What a client dialled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination {
    /// An IPv4 address, also one that an IPv6 socket dialled as `::ffff:a.b.c.d`.
    V4(FrontendKey4),
    /// An IPv6 address.
    V6(FrontendKey6),
}

/// Which of a service record's two sets applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// The client is a pod or process of the cluster (TRP-13: the short-circuit).
    Inside,
    /// The client is outside the cluster.
    Outside,
}

/// The part of a service record that a decision needs, each field read once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServiceView {
    /// The set for the asked scope.
    pub set: SetWord,
    /// The record's flags.
    pub flags: ServiceFlags,
    /// Affinity timeout in seconds.
    pub affinity_secs: u32,
    /// The service port's number.
    pub id: u32,
}

impl ServiceView {
    /// The 32 bits by which a client whose address and port are known picks a slot of a Maglev
    /// set: with ClientIP affinity those that it has with all its ports (AFF-01).
    #[inline(always)]
    pub const fn bits_of(&self, source: Addr, source_port: Be16) -> u32 {
        if self.flags.contains(ServiceFlags::AFFINITY) {
            client_bits(source, Be16::ZERO)
        } else {
            client_bits(source, source_port)
        }
    }
}

/// Read access to the maps, and the one write that a decision makes.
pub trait Maps {
    /// FRONTENDS4.
    fn frontend4(&self, key: &FrontendKey4) -> Option<FrontendValue>;
    /// FRONTENDS6.
    fn frontend6(&self, key: &FrontendKey6) -> Option<FrontendValue>;
    /// NODEPORTS: the service index for a port (host order) in a protocol's row; 0 for none.
    fn node_port(&self, row: u32, port: u16, ipv6: bool) -> u32;
    /// NODE_ADDRS: is this one of the node's NodePort addresses?
    fn is_node_address(&self, address: &Addr) -> bool;
    /// SERVICES.
    fn service(&self, index: u32, scope: Scope) -> Option<ServiceView>;
    /// SLOTS.
    fn slot(&self, index: u32) -> Option<Slot>;
    /// BACKENDS.
    fn backend(&self, index: u32) -> Option<Backend>;
    /// AFFINITY.
    fn pin(&self, key: &AffinityKey) -> Option<AffinityPin>;
    /// Stores a pin; `false` if the map took none.
    fn set_pin(&self, key: &AffinityKey, pin: AffinityPin) -> bool;
    /// MEMBERS.
    fn member(&self, key: &MemberKey) -> Option<Member>;
    /// SOURCE_RANGES: the longest range that holds a client.
    fn admission(&self, client: &RangeKey) -> Option<Admission>;
    /// SERVICE_CIDRS: the longest prefix that holds an address.
    fn cidr_rule(&self, address: &CidrKey) -> Option<CidrRule>;
    /// Counts something that happens beside the verdict.
    fn count(&self, counter: Counter);
}

/// What is known of the client. Methods, because each costs a kernel call that most
/// flows do not need.
pub trait Client {
    /// Inside or outside the cluster.
    fn scope(&self) -> Scope;
    /// Whether the socket is in the node's own network namespace.
    fn on_host(&self) -> bool;
    /// Who the client is, for affinity (SOC-07).
    fn identity(&self) -> Addr;
    /// Whether every address of a family that the flow may come from passes the test, and
    /// there is one: the address that the socket is bound to; else
    /// [`Guard::NODE`](crate::range::Guard::NODE) of a process of the node, and each address
    /// of a pod's namespace.
    fn comes_from(&self, ipv6: bool, test: impl Fn(Addr) -> bool) -> bool;
    /// 32 bits that pick a slot of the Service's set: random ones, or those of the client where
    /// they are known and the set is a Maglev set (see [`ServiceView::bits_of`]).
    fn entropy(&self, service: &ServiceView) -> u32;
    /// Whether this begins a flow. A packet that does not may yet be of one that another node
    /// had: a Maglev set finds its backend again, all others leave it alone.
    #[inline(always)]
    fn opens(&self) -> bool {
        true
    }
    /// CLOCK_MONOTONIC in nanoseconds.
    fn now_ns(&self) -> u64;
}

impl ServiceView {
    /// Whether packets for other nodes' backends go on unchanged: only where those nodes choose
    /// the same backend.
    #[inline(always)]
    const fn is_direct(&self) -> bool {
        self.flags.contains(ServiceFlags::DIRECT)
            && matches!(self.set.algorithm(), Algorithm::Maglev)
    }
}

/// Decides what becomes of a flow.
#[inline(always)]
pub fn translate(maps: &impl Maps, client: &impl Client, destination: &Destination) -> Verdict {
    let index = match find_service(maps, client, destination) {
        Ok(index) => index,
        Err(_) if !client.opens() => return Verdict::Pass(Counter::PassNoFlow),
        Err(reason) => return guard::without_service(maps, destination, reason),
    };
    let Some(service) = maps.service(index, client.scope()) else {
        return Verdict::Refuse(Counter::RefusedInconsistent);
    };
    if !client.opens() && service.set.algorithm() != Algorithm::Maglev {
        return Verdict::Pass(Counter::PassNoFlow);
    }
    if service.flags.intersects(ServiceFlags::SELDOM) {
        // Before the set is looked at: a blocked client learns nothing of it (LB-11).
        if !guard::admits(maps, client, &service) {
            return Verdict::Drop(Counter::DroppedSourceRange);
        }
        if service.flags.contains(ServiceFlags::AFFINITY) {
            return translate_pinned(maps, client, &service);
        }
    }
    match fresh(maps, client, &service) {
        Ok(target) => Verdict::Translate(target, Counter::Translated),
        Err(verdict) => verdict,
    }
}

/// The service index behind a destination. Frontend addresses go before NodePorts (NP-09).
#[inline(always)]
fn find_service(
    maps: &impl Maps,
    client: &impl Client,
    destination: &Destination,
) -> Result<u32, Counter> {
    match destination {
        Destination::V4(key) => {
            let tag = key.tag();
            for _ in 0..MAX_LOOKUPS {
                match maps.frontend4(key) {
                    Some(value) if value.tag == tag => return Ok(value.service),
                    Some(_) => {}
                    None => return find_node_port4(maps, client, key),
                }
            }
        }
        Destination::V6(key) => {
            let tag = key.tag();
            for _ in 0..MAX_LOOKUPS {
                match maps.frontend6(key) {
                    Some(value) if value.tag == tag => return Ok(value.service),
                    Some(_) => {}
                    None => return find_node_port6(maps, key),
                }
            }
        }
    }
    Err(Counter::PassRecycled)
}

/// The service index of an IPv4 NodePort. All of 127/8 is the node itself (NP-05), but
/// only for the node's own processes: a pod's loopback is the pod.
#[inline(always)]
fn find_node_port4(
    maps: &impl Maps,
    client: &impl Client,
    key: &FrontendKey4,
) -> Result<u32, Counter> {
    let Some(row) = key.protocol.node_port_row() else {
        return Err(Counter::PassNoFrontend);
    };
    let index = maps.node_port(row, key.port.to_host(), false);
    if index == 0 {
        return Err(Counter::PassNoFrontend);
    }
    let loopback = key.address.to_host() >> 24 == 127;
    if loopback && !client.on_host() {
        return Err(Counter::PassNodePortElsewhere);
    }
    let address = if loopback { LOOPBACK } else { key.address };
    if maps.is_node_address(&Addr::from_v4(address)) {
        Ok(index)
    } else {
        Err(Counter::PassNodePortElsewhere)
    }
}

/// The service index of an IPv6 NodePort. `::1` is never one (NP-05): it is not in NODE_ADDRS.
#[inline(always)]
fn find_node_port6(maps: &impl Maps, key: &FrontendKey6) -> Result<u32, Counter> {
    let Some(row) = key.protocol.node_port_row() else {
        return Err(Counter::PassNoFrontend);
    };
    let index = maps.node_port(row, key.port.to_host(), true);
    if index == 0 {
        return Err(Counter::PassNoFrontend);
    }
    if maps.is_node_address(&key.address) { Ok(index) } else { Err(Counter::PassNodePortElsewhere) }
}

/// A backend from the set, or the verdict that an empty set asks for.
#[inline(always)]
fn fresh(maps: &impl Maps, client: &impl Client, service: &ServiceView) -> Result<Target, Verdict> {
    if service.set.count() == 0 {
        return Err(match service.set.on_empty() {
            Empty::Refuse => Verdict::Refuse(Counter::RefusedNoEndpoints),
            Empty::Drop => Verdict::Drop(Counter::DroppedNoLocalEndpoints),
        });
    }
    let slot = pick(service.set, client.entropy(service)).and_then(|index| maps.slot(index));
    let target = slot.and_then(|slot| {
        let address = if service.flags.contains(ServiceFlags::IPV6) {
            maps.backend(slot.backend)?.address
        } else {
            Addr::from_v4(slot.address4)
        };
        Some(Target {
            address,
            port: slot.port,
            backend: slot.backend,
            generation: slot.generation,
            service_id: service.id,
            direct: service.is_direct(),
        })
    });
    target.ok_or(Verdict::Refuse(Counter::RefusedInconsistent))
}

/// The client's pin if it still holds, else a fresh pick that becomes the pin (AFF-05).
#[inline(always)]
fn translate_pinned(maps: &impl Maps, client: &impl Client, service: &ServiceView) -> Verdict {
    let key = AffinityKey::new(client.identity(), service.id);
    let now_ns = client.now_ns();
    let (target, reason) = match pinned(maps, client, service, &key, now_ns) {
        Some(target) => (target, Counter::TranslatedAffinity),
        None => match fresh(maps, client, service) {
            Ok(target) => (target, Counter::Translated),
            Err(verdict) => return verdict,
        },
    };
    let pin = AffinityPin {
        backend: target.backend,
        generation: target.generation,
        last_seen_ns: now_ns,
    };
    if !maps.set_pin(&key, pin) {
        maps.count(Counter::AffinityLost);
    }
    Verdict::Translate(target, reason)
}

/// The backend that the client is pinned to, if the pin is young enough and the backend
/// is still in the set for this kind of frontend and client.
#[inline(always)]
fn pinned(
    maps: &impl Maps,
    client: &impl Client,
    service: &ServiceView,
    key: &AffinityKey,
    now_ns: u64,
) -> Option<Target> {
    let pin = maps.pin(key)?;
    if !pin.holds(now_ns, service.affinity_secs) {
        return None;
    }
    let member = maps.member(&MemberKey { service_id: service.id, backend: pin.backend })?;
    let kinds = match client.scope() {
        Scope::Inside => member.inside,
        Scope::Outside => member.outside,
    };
    if kinds & 1 << service.flags.kind() as u32 == 0 {
        return None;
    }
    let backend = maps.backend(pin.backend)?;
    if !backend.life.keeps(pin.generation) {
        return None;
    }
    Some(Target {
        address: backend.address,
        port: backend.life.port,
        backend: pin.backend,
        generation: pin.generation,
        service_id: service.id,
        direct: service.is_direct(),
    })
}

/// Tries before a frontend whose element keeps being recycled is given up.
const MAX_LOOKUPS: u32 = 3;

/// 127.0.0.1, which stands for all of 127/8 in NODE_ADDRS.
const LOOPBACK: Be32 = Be32::from_host(0x7f00_0001);

#[cfg(test)]
mod tests;
