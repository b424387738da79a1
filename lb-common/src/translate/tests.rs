// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `translate` over hand-made maps: every verdict and every reason.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    vec::Vec,
};

use super::*;
use crate::{
    backend::{BackendFlags, Life, State},
    be::Be16,
    protocol::Protocol,
    range::Guard,
    service::{Algorithm, FrontendKind},
};

extern crate std;

/// Maps in memory, with what was counted and pinned.
#[derive(Default)]
struct Fixture {
    frontends: BTreeMap<FrontendKey4, FrontendValue>,
    frontends6: BTreeMap<FrontendKey6, FrontendValue>,
    node_ports: BTreeMap<(u32, u16, bool), u32>,
    node_addresses: Vec<Addr>,
    services: BTreeMap<u32, ServiceView>,
    slots: BTreeMap<u32, Slot>,
    backends: BTreeMap<u32, Backend>,
    members: BTreeMap<MemberKey, Member>,
    ranges: BTreeMap<RangeKey, Admission>,
    cidrs: BTreeMap<CidrKey, CidrRule>,
    pins: RefCell<Vec<(AffinityKey, AffinityPin)>>,
    pins_full: bool,
    counted: RefCell<Vec<Counter>>,
}

/// A client whose every answer is given.
#[derive(Clone, Copy)]
struct Caller {
    on_host: bool,
    entropy: u32,
    now_ns: u64,
    identity: u64,
    /// A packet that begins no flow.
    stray: bool,
    /// Its addresses of any family.
    addresses: &'static [[u8; 4]],
}

impl Maps for Fixture {
    fn frontend4(&self, key: &FrontendKey4) -> Option<FrontendValue> {
        self.frontends.get(key).copied()
    }
    fn frontend6(&self, key: &FrontendKey6) -> Option<FrontendValue> {
        self.frontends6.get(key).copied()
    }
    fn node_port(&self, row: u32, port: u16, ipv6: bool) -> u32 {
        self.node_ports.get(&(row, port, ipv6)).copied().unwrap_or(0)
    }
    fn is_node_address(&self, address: &Addr) -> bool {
        self.node_addresses.contains(address)
    }
    fn service(&self, index: u32, _: Scope) -> Option<ServiceView> {
        self.services.get(&index).copied()
    }
    fn slot(&self, index: u32) -> Option<Slot> {
        self.slots.get(&index).copied()
    }
    fn backend(&self, index: u32) -> Option<Backend> {
        self.backends.get(&index).copied()
    }
    fn pin(&self, key: &AffinityKey) -> Option<AffinityPin> {
        self.pins.borrow().iter().rev().find(|(other, _)| other == key).map(|(_, pin)| *pin)
    }
    fn set_pin(&self, key: &AffinityKey, pin: AffinityPin) -> bool {
        if !self.pins_full {
            self.pins.borrow_mut().push((*key, pin));
        }
        !self.pins_full
    }
    fn member(&self, key: &MemberKey) -> Option<Member> {
        self.members.get(key).copied()
    }
    fn admission(&self, client: &RangeKey) -> Option<Admission> {
        let holding = self.ranges.iter().filter(|(range, _)| range.contains(&client.guard));
        holding.max_by_key(|(range, _)| range.prefix_len).map(|(_, why)| *why)
    }
    fn cidr_rule(&self, address: &CidrKey) -> Option<CidrRule> {
        let holding = self.cidrs.iter().filter(|(cidr, _)| cidr.contains(address.address));
        holding.max_by_key(|(cidr, _)| cidr.prefix_len).map(|(_, rule)| *rule)
    }
    fn count(&self, counter: Counter) {
        self.counted.borrow_mut().push(counter);
    }
}

impl Client for Caller {
    fn scope(&self) -> Scope {
        Scope::Inside
    }
    fn on_host(&self) -> bool {
        self.on_host
    }
    fn identity(&self) -> Addr {
        AffinityKey::namespace(self.identity)
    }
    fn comes_from(&self, _: bool, test: impl Fn(Addr) -> bool) -> bool {
        if self.on_host {
            return test(Guard::NODE);
        }
        let mut addresses = self.addresses.iter().map(|&bytes| Addr::from_v4(Be32 { bytes }));
        !self.addresses.is_empty() && addresses.all(test)
    }
    fn entropy(&self, _: &ServiceView) -> u32 {
        self.entropy
    }
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
    fn opens(&self) -> bool {
        !self.stray
    }
}

const POD: Caller = Caller {
    on_host: false,
    entropy: 0,
    now_ns: 1,
    identity: 1,
    stray: false,
    addresses: &[[10, 244, 0, 9]],
};
const HOST: Caller = Caller { on_host: true, ..POD };

fn key(address: [u8; 4], port: u16) -> FrontendKey4 {
    FrontendKey4::new(Be32 { bytes: address }, Be16::from_host(port), Protocol::TCP)
}

fn dial(address: [u8; 4], port: u16) -> Destination {
    Destination::V4(key(address, port))
}

/// Service 1 at 10.96.0.1:80 (and NodePort 30080) with backends 1 and 2.
fn fixture() -> Fixture {
    let mut maps = Fixture::default();
    let set = SetWord::new(8, 2, Algorithm::Random).unwrap();
    for (index, last) in [(1_u32, 5_u8), (2, 6)] {
        let port = Be16::from_host(8080);
        let address4 = Be32 { bytes: [10, 244, 0, last] };
        let life =
            Life { generation: 1, state: State::Active as u8, protocol: Protocol::TCP, port };
        let backend = Backend::new(life, Addr::from_v4(address4), BackendFlags::empty());
        maps.backends.insert(index, backend);
        maps.slots
            .insert(7 + index, Slot { address4, port, backend: index, generation: 1, _pad: 0 });
        maps.members
            .insert(MemberKey { service_id: 11, backend: index }, Member { inside: 1, outside: 1 });
    }
    maps.services.insert(
        1,
        ServiceView { set, flags: FrontendKind::ClusterIp.into(), affinity_secs: 0, id: 11 },
    );
    let frontend = key([10, 96, 0, 1], 80);
    maps.frontends.insert(frontend, FrontendValue { service: 1, tag: frontend.tag() });
    maps.node_ports.insert((0, 30080, false), 1);
    maps.node_addresses.push(Addr::from_v4(Be32 { bytes: [192, 168, 1, 10] }));
    maps
}

fn with_affinity(mut maps: Fixture) -> Fixture {
    let service = maps.services.get_mut(&1).unwrap();
    service.flags |= ServiceFlags::AFFINITY;
    service.affinity_secs = 10;
    maps
}

fn backend_of(verdict: Verdict) -> (u32, Counter) {
    match verdict {
        Verdict::Translate(target, reason) => (target.backend, reason),
        other => panic!("not translated: {other:?}"),
    }
}

#[test]
fn cip_01_a_frontend_becomes_the_slot_that_chance_picks() {
    let maps = fixture();
    let first = translate(&maps, &POD, &dial([10, 96, 0, 1], 80));
    let last = translate(&maps, &Caller { entropy: u32::MAX, ..POD }, &dial([10, 96, 0, 1], 80));
    assert_eq!(backend_of(first), (1, Counter::Translated));
    assert_eq!(backend_of(last), (2, Counter::Translated));
    let Verdict::Translate(target, _) = first else { unreachable!() };
    assert_eq!(target.address.to_ip(), IpAddr::from([10, 244, 0, 5]));
    assert_eq!(target.port.to_host(), 8080);
}

#[test]
fn soc_10_an_address_or_port_that_is_nobodys_passes() {
    let maps = fixture();
    for destination in [dial([10, 96, 0, 2], 80), dial([10, 96, 0, 1], 81)] {
        assert_eq!(translate(&maps, &POD, &destination), Verdict::Pass(Counter::PassNoFrontend));
    }
}

#[test]
fn a_recycled_element_is_never_believed() {
    let mut maps = fixture();
    let frontend = key([10, 96, 0, 1], 80);
    maps.frontends.insert(frontend, FrontendValue { service: 1, tag: !frontend.tag() });
    assert_eq!(
        translate(&maps, &POD, &Destination::V4(frontend)),
        Verdict::Pass(Counter::PassRecycled)
    );
}

#[test]
fn np_07_a_node_port_is_taken_on_this_nodes_addresses_only() {
    let maps = fixture();
    assert_eq!(backend_of(translate(&maps, &POD, &dial([192, 168, 1, 10], 30080))).0, 1);
    let elsewhere = translate(&maps, &POD, &dial([192, 168, 1, 11], 30080));
    assert_eq!(elsewhere, Verdict::Pass(Counter::PassNodePortElsewhere));
}

#[test]
fn np_05_loopback_is_the_nodes_own_and_only_for_its_own_processes() {
    let mut maps = fixture();
    let destination = dial([127, 3, 2, 1], 30080);
    assert_eq!(
        translate(&maps, &HOST, &destination),
        Verdict::Pass(Counter::PassNodePortElsewhere)
    );
    maps.node_addresses.push(Addr::from_v4(LOOPBACK));
    assert_eq!(backend_of(translate(&maps, &HOST, &destination)).0, 1);
    assert_eq!(translate(&maps, &POD, &destination), Verdict::Pass(Counter::PassNodePortElsewhere));
}

#[test]
fn np_09_a_frontend_on_a_node_address_goes_before_the_node_port() {
    let mut maps = fixture();
    let frontend = key([192, 168, 1, 10], 30080);
    maps.frontends.insert(frontend, FrontendValue { service: 2, tag: frontend.tag() });
    let service = ServiceView { set: SetWord::REFUSE, ..maps.services[&1] };
    maps.services.insert(2, service);
    assert_eq!(
        translate(&maps, &POD, &Destination::V4(frontend)),
        Verdict::Refuse(Counter::RefusedNoEndpoints)
    );
}

#[test]
fn noep_01_and_02_an_empty_set_refuses_or_is_silent() {
    let mut maps = fixture();
    for (set, verdict) in [
        (SetWord::REFUSE, Verdict::Refuse(Counter::RefusedNoEndpoints)),
        (SetWord::DROP, Verdict::Drop(Counter::DroppedNoLocalEndpoints)),
    ] {
        maps.services.get_mut(&1).unwrap().set = set;
        assert_eq!(translate(&maps, &POD, &dial([10, 96, 0, 1], 80)), verdict);
    }
}

#[test]
fn a_dangling_reference_refuses_and_never_guesses() {
    let mut maps = fixture();
    maps.slots.clear();
    let destination = dial([10, 96, 0, 1], 80);
    assert_eq!(translate(&maps, &POD, &destination), Verdict::Refuse(Counter::RefusedInconsistent));
    maps.services.clear();
    assert_eq!(translate(&maps, &POD, &destination), Verdict::Refuse(Counter::RefusedInconsistent));
}

#[test]
fn fam_01_an_ipv6_frontend_takes_its_address_from_the_backend() {
    let mut maps = fixture();
    let address = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5);
    maps.backends.get_mut(&1).unwrap().address = address.into();
    maps.services.get_mut(&1).unwrap().flags |= ServiceFlags::IPV6;
    let frontend =
        FrontendKey6::new(Ipv6Addr::LOCALHOST.into(), Be16::from_host(80), Protocol::TCP);
    maps.frontends6.insert(frontend, FrontendValue { service: 1, tag: frontend.tag() });
    let Verdict::Translate(target, _) = translate(&maps, &POD, &Destination::V6(frontend)) else {
        panic!("not translated")
    };
    assert_eq!(target.address.to_ip(), IpAddr::V6(address));
}

#[test]
fn aff_01_a_client_stays_and_aff_02_each_connection_restarts_the_window() {
    let maps = with_affinity(fixture());
    let destination = dial([10, 96, 0, 1], 80);
    let at = |now_ns, entropy| translate(&maps, &Caller { entropy, now_ns, ..POD }, &destination);
    assert_eq!(backend_of(at(0, 0)), (1, Counter::Translated));
    assert_eq!(backend_of(at(9_000_000_000, u32::MAX)), (1, Counter::TranslatedAffinity));
    assert_eq!(backend_of(at(18_000_000_000, u32::MAX)), (1, Counter::TranslatedAffinity));
    assert_eq!(backend_of(at(28_000_000_000, u32::MAX)), (2, Counter::Translated));
}

#[test]
fn aff_05_a_pin_to_a_backend_outside_the_set_or_dead_is_replaced() {
    let destination = dial([10, 96, 0, 1], 80);
    let breakers: [fn(&mut Fixture); 4] = [
        |maps| maps.members.retain(|key, _| key.backend != 1),
        |maps| {
            maps.members
                .insert(MemberKey { service_id: 11, backend: 1 }, Member { inside: 2, outside: 2 });
        },
        |maps| maps.backends.get_mut(&1).unwrap().life.state = State::Dead as u8,
        |maps| maps.backends.get_mut(&1).unwrap().life.generation += 1,
    ];
    for break_pin in breakers {
        let mut maps = with_affinity(fixture());
        assert_eq!(backend_of(translate(&maps, &POD, &destination)).0, 1);
        break_pin(&mut maps);
        let caller = Caller { entropy: u32::MAX, ..POD };
        assert_eq!(backend_of(translate(&maps, &caller, &destination)), (2, Counter::Translated));
        assert_eq!(
            backend_of(translate(&maps, &POD, &destination)),
            (2, Counter::TranslatedAffinity)
        );
    }
}

#[test]
fn aff_03_two_clients_have_two_pins_and_a_lost_pin_is_counted() {
    let mut maps = with_affinity(fixture());
    let destination = dial([10, 96, 0, 1], 80);
    assert_eq!(backend_of(translate(&maps, &POD, &destination)).0, 1);
    let other = Caller { identity: 2, entropy: u32::MAX, ..POD };
    assert_eq!(backend_of(translate(&maps, &other, &destination)), (2, Counter::Translated));
    maps.pins_full = true;
    assert_eq!(backend_of(translate(&maps, &Caller { identity: 3, ..POD }, &destination)).0, 1);
    assert_eq!(*maps.counted.borrow(), [Counter::AffinityLost]);
}

/// The fixture with Service 1 guarded: 10.244.0.0/24 and what is given.
fn guarded(more: &[(Addr, u32, Admission)]) -> Fixture {
    let mut maps = fixture();
    let service = maps.services.get_mut(&1).unwrap();
    service.flags = ServiceFlags::from(FrontendKind::LoadBalancer) | ServiceFlags::SOURCE_RANGES;
    let listed = (Addr::from_v4(Be32 { bytes: [10, 244, 0, 0] }), 96 + 24, Admission::LISTED);
    for &(address, bits, why) in [listed].iter().chain(more) {
        maps.ranges.insert(RangeKey::range(11, address, bits), why);
    }
    maps
}

#[test]
fn lb_06_a_client_outside_of_every_range_gets_no_answer() {
    let maps = guarded(&[]);
    let vip = dial([10, 96, 0, 1], 80);
    let blocked = Verdict::Drop(Counter::DroppedSourceRange);
    assert!(matches!(translate(&maps, &POD, &vip), Verdict::Translate(..)));
    for addresses in [&[[10, 244, 1, 9]][..], &[[10, 244, 0, 9], [192, 0, 2, 9]], &[]] {
        assert_eq!(translate(&maps, &Caller { addresses, ..POD }, &vip), blocked, "{addresses:?}");
    }
}

#[test]
fn lb_11_a_blocked_client_is_not_told_that_there_is_no_endpoint() {
    let mut maps = guarded(&[]);
    maps.services.get_mut(&1).unwrap().set = SetWord::REFUSE;
    let stranger = Caller { addresses: &[[192, 0, 2, 1]], ..POD };
    let vip = dial([10, 96, 0, 1], 80);
    assert_eq!(translate(&maps, &stranger, &vip), Verdict::Drop(Counter::DroppedSourceRange));
    assert_eq!(translate(&maps, &POD, &vip), Verdict::Refuse(Counter::RefusedNoEndpoints));
}

#[test]
fn a_process_of_the_node_is_admitted_by_its_own_entry_only() {
    let vip = dial([10, 96, 0, 1], 80);
    let wide = (Addr::ZERO, 1, Admission::LISTED);
    let blocked = Verdict::Drop(Counter::DroppedSourceRange);
    assert_eq!(translate(&guarded(&[wide]), &HOST, &vip), blocked);
    let node = (Guard::NODE, 128, Admission::NODE);
    assert!(matches!(translate(&guarded(&[wide, node]), &HOST, &vip), Verdict::Translate(..)));
}

#[test]
fn cip_04_cip_05_a_cluster_ip_refuses_other_ports_and_a_free_address_is_silent() {
    let mut maps = fixture();
    let any_port = FrontendKey4::any_port(Be32 { bytes: [10, 96, 0, 1] });
    maps.frontends.insert(any_port, FrontendValue { service: 1, tag: any_port.tag() });
    let untouched = Verdict::Pass(Counter::PassNoFrontend);
    let ask = |maps: &Fixture, address, port| translate(maps, &POD, &dial(address, port));
    assert_eq!(ask(&maps, [10, 96, 0, 1], 81), untouched, "switched off");
    let network = Addr::from_v4(Be32 { bytes: [10, 96, 0, 0] });
    maps.cidrs.insert(CidrKey::prefix(network, 96 + 16), CidrRule::SERVICE_CIDR);
    let refused = Verdict::Refuse(Counter::RefusedUnknownPort);
    assert_eq!(ask(&maps, [10, 96, 0, 1], 81), refused);
    let silent = Verdict::Drop(Counter::DroppedFreeAddress);
    assert_eq!(ask(&maps, [10, 96, 0, 2], 81), silent);
    assert_eq!(ask(&maps, [10, 97, 0, 2], 81), untouched);
    assert!(matches!(ask(&maps, [10, 96, 0, 1], 80), Verdict::Translate(..)));
}

#[test]
fn cip_06_a_cluster_ip_outside_of_every_service_cidr_refuses_and_its_neighbours_do_not() {
    let mut maps = fixture();
    let any_port = FrontendKey4::any_port(Be32 { bytes: [10, 96, 0, 1] });
    maps.frontends.insert(any_port, FrontendValue { service: 1, tag: any_port.tag() });
    let network = Addr::from_v4(Be32 { bytes: [10, 96, 0, 0] });
    maps.cidrs.insert(CidrKey::prefix(network, 96 + 24), CidrRule::CLUSTER_IPS);
    let ask = |last| translate(&maps, &POD, &dial([10, 96, 0, last], 81));
    assert_eq!(ask(1), Verdict::Refuse(Counter::RefusedUnknownPort));
    assert_eq!(ask(2), Verdict::Pass(Counter::PassNoFrontend));
}

/// SVC-11: another node may have had its flow. All other Services leave it to the stack, and
/// nothing is written for it.
#[test]
fn svc_11_a_packet_of_no_flow_finds_its_backend_in_a_maglev_set_only() {
    let mut maps = with_affinity(fixture());
    let vip = dial([10, 96, 0, 1], 80);
    let stray = Caller { stray: true, ..POD };
    let untouched = Verdict::Pass(Counter::PassNoFlow);
    assert_eq!(translate(&maps, &stray, &vip), untouched);
    assert_eq!(translate(&maps, &stray, &dial([10, 96, 0, 2], 80)), untouched);
    maps.services.get_mut(&1).unwrap().set = SetWord::DROP;
    assert_eq!(translate(&maps, &stray, &vip), untouched);
    assert!(maps.pins.borrow().is_empty());
    maps.services.get_mut(&1).unwrap().set = SetWord::new(8, 2, Algorithm::Maglev).unwrap();
    assert!(matches!(translate(&maps, &stray, &vip), Verdict::Translate(..)));
}
