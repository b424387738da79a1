// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two nodes with an agent each, and a Service that the outside client can dial in every way.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aya::Ebpf;
use k8s_openapi::api::core::v1 as core;
use lab::{
    Lab, LabBuilder,
    agent::{Agent, AgentSpec},
    driver::Driver,
    manifests::Exposed,
    node::Node,
    pod::Pod,
    served::{Served, plain, vip},
    wait,
    wire::{AskSpec, Echo, Family, SocketError},
};
use serde_json::{Value, json};

/// A lab whose two nodes both run an agent. The client outside reaches external addresses
/// through the node that [`Bed::through`] named last.
pub(crate) struct Bed {
    /// The agent of `node-2`; that of `node-1` is in `served`.
    pub(crate) second: Agent,
    /// That of `node-3`, in a bed of three nodes.
    pub(crate) third: Option<Agent>,
    pub(crate) served: Served,
    /// Sockets of the client outside.
    pub(crate) client: Driver,
    /// What the other ends of the nodes' devices need for XDP.
    pub(crate) far_ends: Option<Ebpf>,
}

/// How a Service can be dialled from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A NodePort at the node's own address.
    NodePort,
    /// `spec.externalIPs`.
    ExternalIp,
    /// A load balancer's VIP.
    Vip,
    /// A ClusterIP, to which somebody has made a route.
    ClusterIp,
}

impl Way {
    /// Those that `externalTrafficPolicy` is about.
    pub(crate) const EXTERNAL: [Self; 3] = [Self::NodePort, Self::ExternalIp, Self::Vip];
    pub(crate) const ALL: [Self; 4] =
        [Self::NodePort, Self::ExternalIp, Self::Vip, Self::ClusterIp];

    /// What the client dials.
    pub(crate) fn at(self, node: &Node, family: Family) -> SocketAddr {
        let address = |v4: &str, v6: &str| -> IpAddr {
            if family == Family::V4 { v4 } else { v6 }.parse().unwrap()
        };
        match self {
            Self::NodePort => node.at(family, NODE_PORT),
            Self::ExternalIp => SocketAddr::new(address(EXTERNAL[0], EXTERNAL[1]), 80),
            Self::Vip => SocketAddr::new(address(VIP[0], VIP[1]), 80),
            Self::ClusterIp => vip(family, SERVICE),
        }
    }
}

impl Bed {
    /// Two nodes, two pods on each.
    pub(crate) fn start() -> Self {
        Self::with(|spec| spec)
    }

    /// With more arguments for both agents.
    pub(crate) fn with(change: impl Fn(AgentSpec) -> AgentSpec) -> Self {
        Self::on(Lab::builder(), &change)
    }

    /// Three nodes, two pods on each.
    pub(crate) fn of_three() -> Self {
        Self::on(Lab::builder().nodes(3), &|spec| spec)
    }

    fn on(lab: LabBuilder, change: &impl Fn(AgentSpec) -> AgentSpec) -> Self {
        let served = Served::with(lab, change).unwrap();
        let mut others = served.lab.nodes()[1..].iter().map(|node| {
            let spec = change(served.spec());
            Agent::start(node, &spec).unwrap()
        });
        let (second, third) = (others.next().unwrap(), others.next());
        drop(others);
        let client = served.lab.client().driver().unwrap();
        let bed = Self { second, third, served, client, far_ends: None };
        bed.through(bed.node(1));
        bed
    }

    /// `node-1`, `node-2` or `node-3`.
    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.served.lab.nodes()[number - 1]
    }

    /// The agent of a node.
    pub(crate) fn agent(&self, number: usize) -> &Agent {
        match number {
            1 => &self.served.agent,
            2 => &self.second,
            _ => self.third.as_ref().unwrap(),
        }
    }

    /// Pods 1-1, 1-2, 2-1 and 2-2.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.served.lab.pods()
    }

    /// Has the client's packets to external addresses go to a node.
    pub(crate) fn through(&self, node: &Node) {
        let client = self.served.lab.client();
        for family in Family::BOTH {
            for way in [Way::ExternalIp, Way::Vip, Way::ClusterIp] {
                let to = way.at(node, family).ip();
                client.ip(&format!("route replace {to} via {}", node.address(family))).unwrap();
            }
        }
    }

    /// Writes `default/web` over these pods and waits until both kernels have it.
    pub(crate) fn expose(
        &self,
        pods: &[Pod],
        change: impl FnOnce(&mut core::ServiceSpec),
    ) -> Exposed {
        let mut service = plain("web", SERVICE);
        let spec = service.spec.as_mut().unwrap();
        spec.type_ = Some("LoadBalancer".to_owned());
        spec.external_traffic_policy = Some("Cluster".to_owned());
        spec.external_ips = Some(EXTERNAL.map(str::to_owned).to_vec());
        spec.ports.iter_mut().flatten().for_each(|port| port.node_port = Some(NODE_PORT.into()));
        change(spec);
        let ingress = VIP.map(|ip| json!({ "ip": ip }));
        service.status =
            serde_json::from_value(json!({ "loadBalancer": { "ingress": ingress } })).unwrap();
        let exposed = self.served.manifests.expose(&self.served.lab, service, pods).unwrap();
        self.settle(&exposed);
        exposed
    }

    /// Writes a changed Service and waits until both kernels have it.
    pub(crate) fn rewrite(&self, exposed: &Exposed) {
        exposed.write().unwrap();
        self.settle(exposed);
    }

    /// Waits until all kernels have what the files say for clients outside.
    fn settle(&self, exposed: &Exposed) {
        for number in 1..=self.served.lab.nodes().len() {
            let wanted = outside(exposed, &self.node(number).name);
            let algorithm = annotation(exposed, ALGORITHM, "random");
            let forwarding = annotation(exposed, FORWARDING, "snat");
            let ranges: BTreeSet<_> = ranges(exposed).into_iter().collect();
            wait::for_value(LIMIT, &format!("node-{number} to have {wanted}"), || {
                let rows = self.agent(number).services()?;
                let external: Vec<_> = rows.iter().filter(|row| row.kind != "ClusterIP").collect();
                let shown: BTreeSet<_> =
                    external.iter().flat_map(|row| row.source_ranges.clone()).collect();
                anyhow::ensure!(
                    external.len() == EXTERNAL_FRONTENDS * ports(exposed)
                        && external.iter().all(|row| row.outside == wanted)
                        && external.iter().all(|row| row.algorithm == algorithm)
                        && external.iter().all(|row| {
                            row.forwarding
                                == if row.kind == "NodePort" { "snat" } else { &forwarding }
                        })
                        && shown == ranges,
                    "{rows:?}"
                );
                Ok(())
            })
            .unwrap();
        }
    }

    /// One request from outside, over TCP or UDP.
    pub(crate) fn ask(&self, protocol: &str, to: SocketAddr) -> Result<Echo, SocketError> {
        let ask = if protocol == "TCP" { AskSpec::tcp(to) } else { AskSpec::udp(to) };
        self.client.ask(ask).map(|answer| answer.echo)
    }

    /// One request that nobody may answer.
    pub(crate) fn is_silent(&self, protocol: &str, to: SocketAddr) {
        let mut ask = if protocol == "TCP" { AskSpec::tcp(to) } else { AskSpec::udp(to) };
        ask.socket.timeout_ms = 500;
        let error = self.client.ask(ask).unwrap_err();
        assert_eq!(error.name, "ETIMEDOUT", "{protocol} {to}");
    }
}

/// What `show services` has for clients outside: a number of backends, `refuse` or `silent`.
fn outside(exposed: &Exposed, node: &str) -> Value {
    let spec = exposed.service.spec.as_ref().unwrap();
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let ready = exposed.backings.iter().filter(|it| it.ready);
    let count = ready.filter(|it| !local || it.node == node).count();
    match (count, exposed.backings.is_empty()) {
        (0, true) => Value::from("refuse"),
        (0, false) => Value::from("silent"),
        (count, _) => Value::from(count),
    }
}

/// What one of its annotations asks for.
fn annotation(exposed: &Exposed, name: &str, default: &str) -> String {
    let annotations = exposed.service.metadata.annotations.as_ref();
    annotations.and_then(|it| it.get(name)).map_or_else(|| default.to_owned(), Clone::clone)
}

fn ranges(exposed: &Exposed) -> Vec<String> {
    let spec = exposed.service.spec.as_ref().unwrap();
    spec.load_balancer_source_ranges.clone().unwrap_or_default()
}

/// How many ports it has.
fn ports(exposed: &Exposed) -> usize {
    exposed.service.spec.as_ref().unwrap().ports.iter().flatten().count()
}

pub(crate) const PROTOCOLS: [&str; 2] = ["TCP", "UDP"];
pub(crate) const NODE_PORT: u16 = 30_080;
/// Last byte of the ClusterIPs.
const SERVICE: u8 = 10;
/// The annotation that says how backends are picked.
pub(crate) const ALGORITHM: &str = "sluice.dev/algorithm";
/// The annotation that says how packets get to other nodes' backends.
pub(crate) const FORWARDING: &str = "sluice.dev/forwarding";
const EXTERNAL: [&str; 2] = ["198.51.100.10", "2001:db8:51::10"];
const VIP: [&str; 2] = ["203.0.113.10", "2001:db8:113::10"];
/// Rows of `show services` for each port: an externalIP, a VIP and the NodePort, of each family.
const EXTERNAL_FRONTENDS: usize = 6;
const LIMIT: Duration = Duration::from_secs(10);
