// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happens to Services, step by step, as an operator would tell it.

use std::{net::IpAddr, num::NonZeroU16, sync::Arc};

use lb_agent::model::{
    Family, ObjectName,
    endpoint::{Conditions, Endpoint, EndpointPort, EndpointSlice},
    node::Node,
    service::{Choice, Service, ServicePort, TrafficPolicy},
    snapshot::Snapshot,
};
use lb_common::protocol::Protocol;

/// A story: each step changes the cluster that the one before left.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    steps: &'static [fn(&mut Snapshot)],
}

/// The cluster after each step.
pub(crate) fn steps_of(case: &Case) -> Vec<Snapshot> {
    let mut snapshot = Snapshot { node: Node::named("here"), ..Snapshot::default() };
    let mut after = |step: &fn(&mut Snapshot)| {
        step(&mut snapshot);
        snapshot.clone()
    };
    case.steps.iter().map(&mut after).collect()
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "scale-up-and-down",
        steps: &[
            |it| web(it, "http", |_| {}),
            |it| endpoints(it, "web", &["10.0.0.1", "10.0.0.2"], &[]),
            |it| endpoints(it, "web", &["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"], &[]),
            |it| endpoints(it, "web", &["10.0.0.3"], &[]),
            |it| endpoints(it, "web", &[], &[]),
        ],
    },
    Case {
        name: "graceful-termination",
        steps: &[
            |it| web(it, "http", |_| {}),
            |it| endpoints(it, "web", &["10.0.0.1", "10.0.0.2"], &[]),
            |it| endpoints(it, "web", &["10.0.0.1"], &["10.0.0.2"]),
            |it| endpoints(it, "web", &[], &["10.0.0.1", "10.0.0.2"]),
            |it| endpoints(it, "web", &["10.0.0.2"], &[]),
        ],
    },
    Case {
        name: "affinity-on-and-off",
        steps: &[
            |it| web(it, "http", |_| {}),
            |it| endpoints(it, "web", &["10.0.0.1", "10.0.0.2"], &[]),
            |it| web(it, "http", |web| web.affinity_secs = Some(60)),
            |it| endpoints(it, "web", &["10.0.0.2", "10.0.0.3"], &[]),
            |it| web(it, "http", |_| {}),
        ],
    },
    Case {
        name: "policies-and-frontends",
        steps: &[
            |it| web(it, "http", |_| {}),
            |it| endpoints(it, "web", &["10.0.0.1", "10.0.0.2"], &[]),
            |it| web(it, "http", |web| web.external_policy = TrafficPolicy::Local),
            |it| web(it, "http", |web| web.load_balancer_ips = ips(&["198.51.100.1"])),
            |it| web(it, "http", |web| web.internal_policy = TrafficPolicy::Local),
            |it| web(it, "http", |web| web.external_ips.clear()),
        ],
    },
    Case {
        name: "renamed-port-and-new-owner",
        steps: &[
            |it| web(it, "http", |_| {}),
            |it| endpoints(it, "web", &["10.0.0.1"], &[]),
            |it| web(it, "www", |_| {}),
            |it| remove(it, "web"),
            |it| service(it, "heir", &["10.96.0.1"], "http", |_| {}),
        ],
    },
    Case {
        name: "collision-and-take-over",
        steps: &[
            |it| web(it, "http", |web| web.created_secs = 10),
            |it| endpoints(it, "web", &["10.0.0.1"], &[]),
            |it| {
                service(it, "rival", &["10.96.0.2"], "http", |it| {
                    it.external_ips = ips(&["192.0.2.1"]);
                });
            },
            |it| endpoints(it, "rival", &["10.0.0.9"], &[]),
            |it| remove(it, "rival"),
        ],
    },
    Case {
        name: "many-services",
        steps: &[
            |it| {
                for index in 1..=6 {
                    let name = format!("s{index}");
                    let node_port = NonZeroU16::new(30080).filter(|_| index == 6);
                    service(it, &name, &[&format!("10.96.1.{index}")], "http", |service| {
                        service.ports[0].node_port = node_port;
                    });
                    endpoints(it, &name, &["10.0.0.1", "10.0.0.2"], &[]);
                }
            },
            |it| {
                for index in 1..=6 {
                    endpoints(it, &format!("s{index}"), &["10.0.0.3"], &[]);
                }
            },
            |it| {
                for index in 1..=5 {
                    remove(it, &format!("s{index}"));
                }
            },
        ],
    },
];

/// Service `web` on both families with every kind of frontend.
fn web(snapshot: &mut Snapshot, port: &str, change: impl FnOnce(&mut Service)) {
    snapshot.node_addresses = ips(&["192.0.2.10"]).into_iter().collect();
    service(snapshot, "web", &["10.96.0.1", "fd00:96::1"], port, |web| {
        web.external_ips = ips(&["192.0.2.1"]);
        web.ports[0].node_port = NonZeroU16::new(30080);
        change(web);
    });
}

fn service(
    snapshot: &mut Snapshot,
    name: &str,
    cluster_ips: &[&str],
    port: &str,
    change: impl FnOnce(&mut Service),
) {
    let name = ObjectName::new("default", name);
    let mut service = Service {
        name: name.clone(),
        created_secs: 1,
        cluster_ips: ips(cluster_ips),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: None,
        choice: Choice::Random,
        health_check_node_port: None,
        ports: vec![ServicePort {
            name: port.into(),
            protocol: Protocol::TCP,
            port: NonZeroU16::new(80).unwrap(),
            node_port: None,
        }],
    };
    change(&mut service);
    snapshot.services.insert(name, Arc::new(service));
}

fn remove(snapshot: &mut Snapshot, name: &str) {
    snapshot.services.remove(&ObjectName::new("default", name));
}

/// The endpoints of a Service: those that are ready, and those that shut down. Those whose
/// address ends in 1 are on this node. Any of the ports' names leads to them.
fn endpoints(snapshot: &mut Snapshot, service: &str, ready: &[&str], draining: &[&str]) {
    let service = ObjectName::new("default", service);
    let ready = ready.iter().map(|address| (address, Conditions::default()));
    let conditions = Conditions { ready: false, serving: true, terminating: true };
    let draining = draining.iter().map(|address| (address, conditions));
    let all: Vec<_> = ready.chain(draining).map(|(address, it)| endpoint(address, it)).collect();
    let slices = Family::ALL.map(|family| {
        let name = ObjectName::new("default", format!("{}-{family}", service.name));
        let own = all.iter().filter(|endpoint| Family::of(endpoint.address) == family);
        EndpointSlice {
            name,
            service: service.clone(),
            family,
            ports: ["http", "www"]
                .map(|name| EndpointPort {
                    name: name.into(),
                    protocol: Protocol::TCP,
                    port: NonZeroU16::new(8080).unwrap(),
                })
                .into(),
            endpoints: own.cloned().collect(),
            triggered: None,
        }
    });
    snapshot.slices.insert(service, slices.into_iter().collect());
}

fn endpoint(address: &str, conditions: Conditions) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        conditions,
        node: Some(if address.ends_with('1') { "here" } else { "there" }.into()),
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
