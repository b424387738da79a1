// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CONFIG's word on what can be a frontend at all: it must never say no to one that is.

use std::fs;

use lb_agent::{
    datapath::{
        Datapath as _,
        kernel::{self, Kernel},
        load::Outcome,
    },
    plan::op::Op,
};
use lb_common::{
    addr::Addr,
    config::{Config, NetBit, PortRange},
    counter::Counter,
    key::{FrontendKey6, FrontendValue},
    maps::{self, node_port_index},
    range::{CidrKey, CidrRule},
};

use crate::bed::{Bed, VIP, apply, connect, web};

/// Bits and NodePorts that the programs are told of.
fn told(agent: &Kernel) -> (Vec<NetBit>, PortRange) {
    let config: Config = agent.maps().config.read(0).unwrap();
    let words = (0..).zip(config.nets);
    let bits = words.flat_map(|(word, bits)| {
        let masks = (0..u64::BITS).map(|bit| 1 << bit).filter(move |mask| bits & mask != 0);
        masks.map(move |mask| NetBit { word, mask })
    });
    (bits.collect(), config.node_ports)
}

#[test]
fn the_network_of_every_frontend_is_told_and_stays() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    assert_eq!(told(&agent), (Vec::new(), PortRange::default()));
    apply(&mut agent, &web());
    let v4 = NetBit::of(VIP.0.into());
    assert_eq!(told(&agent).0, [v4]);

    let address: std::net::Ipv6Addr = "fd00:10:96::1".parse().unwrap();
    let udp = lb_common::protocol::Protocol::UDP;
    let key = FrontendKey6::new(address.into(), lb_common::be::Be16::from_host(53), udp);
    let value = FrontendValue { service: 1, tag: key.tag() };
    let index = node_port_index(0, 30_053);
    apply(
        &mut agent,
        &[
            Op::Frontend6 { key, value: Some(value) },
            Op::NodePort { index, ipv6: false, service: 1 },
        ],
    );
    let (bits, ports) = told(&agent);
    assert_eq!(bits.len(), 2);
    assert!(bits.contains(&NetBit::of(Addr::from(address))) && bits.contains(&v4));
    assert_eq!(ports, PortRange { first: 30_053, end: 30_054 });

    // Sockets may still hold backends of what is gone.
    apply(&mut agent, &[Op::Frontend6 { key, value: None }]);
    assert_eq!(told(&agent).0.len(), 2);
}

/// A CONFIG that was lost is filled from the frontends that are there before a program runs
/// over it.
#[test]
fn a_new_config_is_told_of_the_frontends_that_are_there() {
    let bed = Bed::new();
    let (mut agent, pod, _listener) = bed.serving();
    connect(&pod, VIP);
    let (before, tables) = (told(&agent), agent.dump().unwrap());
    drop(agent);
    fs::remove_file(bed.pin("maps/CONFIG")).unwrap();

    let mut agent = bed.open().unwrap();
    let Outcome::Rebuilt(misfits) = agent.outcome() else { panic!("{:?}", agent.outcome()) };
    assert_eq!(misfits.iter().map(|misfit| misfit.map).collect::<Vec<_>>(), [maps::CONFIG]);
    assert!(told(&agent).0.is_empty());
    assert_eq!(agent.dump().unwrap(), tables);
    assert_eq!(told(&agent), before);
    agent.attach().unwrap();
    connect(&pod, VIP);
    assert_eq!(agent.load(1), 2);
}

/// CIP-05: an address of a ServiceCIDR that no Service has is looked up, too, however the
/// prefix is written; one that is too wide to be told network by network means everything.
#[test]
fn every_network_of_a_service_cidr_is_told() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    let cidr = |text: &str, bits| {
        let address: std::net::IpAddr = text.parse().unwrap();
        Op::ServiceCidr {
            key: CidrKey::prefix(address.into(), bits),
            rule: Some(CidrRule::SERVICE_CIDR),
        }
    };
    let is_told = |agent: &Kernel, text: &str| {
        let address: std::net::IpAddr = text.parse().unwrap();
        told(agent).0.contains(&NetBit::of(address.into()))
    };
    apply(&mut agent, &[cidr("10.96.0.0", 96 + 20), cidr("10.97.3.128", 96 + 25)]);
    assert!((0..16).all(|third| is_told(&agent, &format!("10.96.{third}.77"))));
    assert!(is_told(&agent, "10.97.3.200"));
    assert!(told(&agent).0.len() <= 17, "no others");
    apply(&mut agent, &[cidr("fd00:10:96::", 108)]);
    assert!(["fd00:10:96::1", "fd00:10:96::f:1234"].iter().all(|ip| is_told(&agent, ip)));
    apply(&mut agent, &[cidr("fd00:10:97::", 64)]);
    assert_eq!(told(&agent).0.len(), 65_536);
}

/// What is in no network with a frontend passes at once, and is counted as what it is.
#[test]
fn an_address_in_no_such_network_passes() {
    let bed = Bed::new();
    let (agent, pod, _listener) = bed.serving();
    let passed = || {
        let counters = kernel::counters(agent.maps()).unwrap();
        counters.into_iter().find(|(counter, _)| *counter == Counter::PassNoFrontend).unwrap().1
    };
    let before = passed();
    let port = crate::bed::BACKEND.1;
    connect(&pod, (std::net::Ipv4Addr::LOCALHOST, port));
    assert_eq!(passed(), before + 1);
    assert_eq!(agent.load(1), 0);
}
