// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random clusters for the property tests: small pools, so that everything collides.

use std::{net::IpAddr, num::NonZeroU16, sync::Arc};

use ipnet::IpNet;
use lb_common::protocol::Protocol;
use proptest::{collection::vec, prelude::*, sample::subsequence};

use crate::model::{
    Family, ObjectName,
    endpoint::{Conditions, Endpoint, EndpointPort, EndpointSlice},
    node::Node,
    rules::Rules,
    service::{Choice, Forwarding, Service, ServicePort, TrafficPolicy},
    snapshot::Snapshot,
};

/// A cluster of up to six Services that share addresses, node ports and endpoints.
pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let services = vec(prop::option::weighted(0.7, (service(), vec(slice(), 0..3))), NAMES.len());
    let node_addresses = subsequence(vec!["192.0.2.10", "192.0.2.11", "2001:db8::10"], 0..=3);
    let guards =
        (any::<bool>(), subsequence(vec!["10.96.0.0/30", "10.96.0.0/24", "fd00:96::/112"], 0..=3));
    (services, node_addresses, prop::option::of(Just("a")), guards).prop_map(
        |(services, addresses, zone, (guard_cluster_ips, cidrs))| {
            let mut snapshot = Snapshot {
                node: Node {
                    zone: zone.map(Arc::from),
                    addresses: ips(&addresses),
                    ..Node::named("here")
                },
                node_addresses: ips(&addresses).into_iter().collect(),
                rules: Rules { guard_cluster_ips, ..Rules::default() },
                service_cidrs: [(ObjectName::new("", "c"), nets(&cidrs))].into(),
                ..Snapshot::default()
            };
            for (name, parts) in NAMES.into_iter().zip(services) {
                let Some((service, slices)) = parts else { continue };
                let name = ObjectName::new("default", name);
                let service = Service { name: name.clone(), ..service };
                snapshot.services.insert(name.clone(), Arc::new(service));
                let slices = slices.into_iter().enumerate().map(|(index, slice)| {
                    let own = ObjectName::new("default", format!("{}-{index}", name.name));
                    EndpointSlice { name: own, service: name.clone(), ..slice }
                });
                snapshot.slices.insert(name.clone(), slices.collect());
            }
            snapshot
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let addresses = (
        prop_oneof![
            Just(vec!["10.96.0.1"]),
            Just(vec!["10.96.0.2", "fd00:96::2"]),
            Just(vec!["fd00:96::3", "10.96.0.3"]),
            Just(vec!["10.96.0.4"]),
        ],
        subsequence(vec!["198.51.100.1", "198.51.100.2", "10.96.0.1", "2001:db8::1"], 0..3),
        subsequence(vec!["198.51.100.1", "198.51.100.3", "2001:db8::2"], 0..3),
    );
    let policies = (
        policy(),
        policy(),
        prop::option::weighted(0.3, prop_oneof![Just(60), Just(90)]),
        ranges(),
        prop_oneof![
            9 => Just(Choice::Random),
            1 => Just(Choice::Maglev { length: None, forwarding: Forwarding::Snat }),
            1 => Just(Choice::Maglev { length: None, forwarding: Forwarding::Direct }),
        ],
    );
    let ports = (prop::sample::select(LAYOUTS), any::<bool>());
    (0_i64..3, addresses, policies, ports).prop_map(
        |(created_secs, (cluster, external, balancer), policies, (layout, has_node_ports))| {
            Service {
                name: ObjectName::new("", ""),
                created_secs,
                cluster_ips: ips(&cluster),
                external_ips: ips(&external),
                load_balancer_ips: ips(&balancer),
                source_ranges: policies.3.clone(),
                internal_policy: policies.0,
                external_policy: policies.1,
                affinity_secs: policies.2,
                choice: policies.4,
                health_check_node_port: None,
                ports: layout
                    .iter()
                    .map(|&(name, protocol, port)| ServicePort {
                        name: name.into(),
                        protocol,
                        port: NonZeroU16::new(port).unwrap(),
                        node_port: NonZeroU16::new(30000 + port).filter(|_| has_node_ports),
                    })
                    .collect(),
            }
        },
    )
}

/// Ranges of which some hold others, and the node's own addresses.
fn ranges() -> impl Strategy<Value = Vec<IpNet>> {
    let all = ["192.0.2.0/24", "192.0.2.10/32", "10.0.0.0/8", "10.0.0.0/30", "2001:db8::/64"];
    prop_oneof![Just(Vec::new()), subsequence(all.to_vec(), 0..4).prop_map(|texts| nets(&texts))]
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let endpoints = vec((0_u8..6, conditions(), 0_u8..3, any::<bool>()), 0..5);
    (any::<bool>(), prop::sample::select(LAYOUTS), endpoints).prop_map(|(v6, layout, endpoints)| {
        EndpointSlice {
            name: ObjectName::new("", ""),
            service: ObjectName::new("", ""),
            family: if v6 { Family::V6 } else { Family::V4 },
            ports: layout
                .iter()
                .map(|&(name, protocol, port)| EndpointPort {
                    name: name.into(),
                    protocol,
                    port: NonZeroU16::new(8000 + port).unwrap(),
                })
                .collect(),
            endpoints: endpoints
                .into_iter()
                .map(|(last, conditions, node, has_hint)| Endpoint {
                    address: if v6 {
                        format!("fd00::{last}").parse().unwrap()
                    } else {
                        IpAddr::from([10, 0, 0, last])
                    },
                    conditions,
                    node: [None, Some("here"), Some("there")][usize::from(node)].map(Arc::from),
                    for_zones: if has_hint { vec!["a".into()] } else { Vec::new() },
                    for_nodes: Vec::new(),
                })
                .collect(),
            triggered: None,
        }
    })
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let conditions = |ready, serving, terminating| Conditions { ready, serving, terminating };
    prop_oneof![
        4 => Just(conditions(true, true, false)),
        1 => Just(conditions(false, true, true)),
        1 => Just(conditions(false, false, true)),
        1 => Just(conditions(false, false, false)),
        1 => Just(conditions(false, true, false)),
    ]
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Name, protocol and number of a port.
type Layout = &'static [(&'static str, Protocol, u16)];

const LAYOUTS: &[Layout] = &[
    &[("http", Protocol::TCP, 80)],
    &[("www", Protocol::TCP, 80)],
    &[("", Protocol::TCP, 80)],
    &[("http", Protocol::TCP, 81), ("dns", Protocol::UDP, 53)],
    &[("dns", Protocol::UDP, 53), ("dns-tcp", Protocol::TCP, 53), ("http", Protocol::TCP, 80)],
];
