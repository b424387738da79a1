// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random tables, with every inconsistency that memory can hold, as ops.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_agent::plan::op::Op;
use lb_common::{
    addr::Addr,
    affinity::{Member, MemberKey},
    backend::{BackendFlags, Life, State},
    be::Be16,
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    maps::node_port_index,
    protocol::Protocol,
    range::{Admission, CidrKey, CidrRule, RangeKey},
    service::{Algorithm, Empty, FrontendKind, Service, ServiceFlags, SetWord},
    slot::Slot,
};

/// xorshift64 (Marsaglia 2003): any decent bits will do.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// The next bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below a bound.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(((self.bits() >> 32) * u64::from(bound)) >> 32).unwrap()
    }

    /// The same, small.
    pub(super) fn byte(&mut self, bound: u8) -> u8 {
        u8::try_from(self.below(bound.into())).unwrap()
    }

    /// True once in so many times.
    pub(super) fn once_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    /// One of a list.
    pub(super) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(u32::try_from(list.len()).unwrap()) as usize]
    }
}

/// An address that frontends, node addresses and flows have in common.
pub(super) fn address(random: &mut Random) -> Addr {
    let low = random.byte(24);
    let address: IpAddr = match random.below(5) {
        0 | 1 => Ipv4Addr::new(10, 96, 0, low).into(),
        2 => Ipv4Addr::new(127, 0, low & 1, 1).into(),
        3 => Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, low.into()).into(),
        _ => Ipv6Addr::from(u128::from(low)).into(),
    };
    address.into()
}

/// A port that they have in common.
pub(super) fn port(random: &mut Random) -> Be16 {
    Be16::from_host(80 + u16::from(random.byte(6)))
}

/// A protocol; some have no Services.
pub(super) fn protocol(random: &mut Random) -> Protocol {
    random.of(&[
        Protocol::TCP,
        Protocol::TCP,
        Protocol::UDP,
        Protocol::SCTP,
        Protocol::from_number(1),
    ])
}

/// Random contents of all maps.
pub(super) fn ops(random: &mut Random) -> Vec<Op> {
    let mut ops: Vec<Op> = (1..BACKENDS).map(|index| backend(random, index)).collect();
    let slots = (0..SLOTS).map(|_| slot(random)).collect();
    ops.push(Op::Slots { base: 0, slots });
    ops.extend((1..SERVICES).map(|index| service(random, index)));
    ops.extend((0..MEMBERS).map(|_| member(random)));
    ops.extend((0..ADDRESSES).map(|_| node_address(random)));
    ops.extend((0..RANGES).map(|_| source_range(random)));
    ops.extend((0..CIDRS).map(|_| service_cidr(random)));
    ops.extend((0..FRONTENDS).map(|_| frontend(random)));
    ops.extend((0..CLUSTER_IPS).map(|_| cluster_ip(random)));
    ops.extend((0..NODE_PORTS).map(|_| node_port(random)));
    // Each map's ops together, as a plan has them.
    ops.sort_by_key(|op| match op {
        Op::Frontend4 { .. } => 1,
        Op::Frontend6 { .. } => 2,
        _ => 0,
    });
    ops
}

fn backend(random: &mut Random, index: u32) -> Op {
    let states = [State::Active, State::Active, State::Terminating, State::Dead, State::Free];
    let life = Life {
        generation: random.below(3),
        state: random.of(&states) as u8,
        protocol: protocol(random),
        port: port(random),
    };
    Op::Backend { index, life, address: address(random), flags: BackendFlags::empty() }
}

fn slot(random: &mut Random) -> Slot {
    Slot {
        address4: address(random).to_v4().unwrap_or_default(),
        port: port(random),
        _pad: 0,
        backend: random.below(BACKENDS + 2),
        generation: random.below(3),
    }
}

fn set(random: &mut Random) -> SetWord {
    let base = random.below(SLOTS);
    match random.below(6) {
        0 => SetWord::empty(Empty::Refuse),
        1 => SetWord::empty(Empty::Drop),
        _ => {
            let algorithm = random.of(&[Algorithm::Random, Algorithm::Maglev]);
            SetWord::new(base, 1 + random.below(40), algorithm).unwrap()
        }
    }
}

fn service(random: &mut Random, index: u32) -> Op {
    let kinds = [
        FrontendKind::ClusterIp,
        FrontendKind::NodePort,
        FrontendKind::ExternalIp,
        FrontendKind::LoadBalancer,
    ];
    let mut flags = ServiceFlags::from(random.of(&kinds));
    flags.set(ServiceFlags::AFFINITY, random.once_in(2));
    flags.set(ServiceFlags::IPV6, random.once_in(3));
    flags.set(ServiceFlags::SOURCE_RANGES, random.once_in(4));
    flags.set(ServiceFlags::DIRECT, random.once_in(4));
    let record = Service {
        inside: set(random),
        outside: set(random),
        flags: flags.bits(),
        affinity_secs: 1 + random.below(60),
        id: random.below(SERVICES),
        generation: 1,
        ..Service::default()
    };
    Op::Service { index, record: Box::new(record) }
}

fn member(random: &mut Random) -> Op {
    let key = MemberKey { service_id: random.below(SERVICES), backend: random.below(BACKENDS) };
    let member = Member { inside: random.below(16), outside: random.below(16) };
    Op::Member { key, member: Some(member) }
}

fn node_address(random: &mut Random) -> Op {
    Op::NodeAddress { address: address(random), present: true }
}

fn frontend(random: &mut Random) -> Op {
    let (address, port, protocol) = (address(random), port(random), protocol(random));
    // A recycled element has another key's tag.
    let wrong = u32::from(random.once_in(12));
    let service = 1 + random.below(SERVICES - 1);
    if let Some(address) = address.to_v4() {
        let key = FrontendKey4::new(address, port, protocol);
        let value = FrontendValue { service, tag: key.tag() ^ wrong };
        Op::Frontend4 { key, value: Some(value) }
    } else {
        let key = FrontendKey6::new(address, port, protocol);
        let value = FrontendValue { service, tag: key.tag() ^ wrong };
        Op::Frontend6 { key, value: Some(value) }
    }
}

/// Some of the addresses that clients have.
fn source_range(random: &mut Random) -> Op {
    let address = Ipv4Addr::from(random.below(12)).into();
    let key = RangeKey::range(random.below(SERVICES), address, 96 + 26 + random.below(7));
    let reason = random.of(&[Admission::LISTED, Admission::VIP]);
    Op::SourceRange { key: masked(key), admission: Some(reason) }
}

/// As a range is stored: the bits after the prefix are 0.
fn masked(mut key: RangeKey) -> RangeKey {
    let address = u128::from_be_bytes(key.guard.address.octets);
    let mask = u128::MAX << (128 - key.bits());
    key.guard.address.octets = (address & mask).to_be_bytes();
    key
}

fn service_cidr(random: &mut Random) -> Op {
    let RangeKey { guard, .. } = masked(RangeKey::range(0, address(random), 124));
    let rule = random.of(&[CidrRule::SERVICE_CIDR, CidrRule::CLUSTER_IPS]);
    Op::ServiceCidr { key: CidrKey::prefix(guard.address, 124), rule: Some(rule) }
}

/// The key that says that an address is a ClusterIP.
fn cluster_ip(random: &mut Random) -> Op {
    let service = 1 + random.below(SERVICES - 1);
    let wrong = u32::from(random.once_in(12));
    let address = address(random);
    if let Some(address) = address.to_v4() {
        let key = FrontendKey4::any_port(address);
        let value = FrontendValue { service, tag: key.tag() ^ wrong };
        Op::Frontend4 { key, value: Some(value) }
    } else {
        let key = FrontendKey6::any_port(address);
        let value = FrontendValue { service, tag: key.tag() ^ wrong };
        Op::Frontend6 { key, value: Some(value) }
    }
}

fn node_port(random: &mut Random) -> Op {
    let index = node_port_index(random.below(3), port(random).to_host());
    Op::NodePort { index, ipv6: random.once_in(2), service: random.below(SERVICES) }
}

const BACKENDS: u32 = 200;
const SLOTS: u32 = 1000;
const SERVICES: u32 = 120;
const MEMBERS: u32 = 4000;
const ADDRESSES: u32 = 20;
const FRONTENDS: u32 = 300;
const RANGES: u32 = 300;
const CIDRS: u32 = 4;
const CLUSTER_IPS: u32 = 30;
const NODE_PORTS: u32 = 12;
