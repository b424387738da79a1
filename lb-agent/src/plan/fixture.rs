// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builders for the tests of this room: objects as an operator would write them.

use std::num::NonZeroU16;

use lb_common::protocol::Protocol;

use crate::model::{
    Family, ObjectName,
    endpoint::{Conditions, Endpoint, EndpointPort, EndpointSlice},
    node::Node,
    service::{Choice, Service, ServicePort, TrafficPolicy},
};

/// An endpoint that is being described.
pub(crate) struct Build(Endpoint);

/// A ready endpoint without node and hints.
pub(crate) fn endpoint(address: &str) -> Build {
    Build(Endpoint {
        address: address.parse().unwrap(),
        conditions: Conditions::default(),
        node: None,
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    })
}

impl Build {
    pub(crate) fn on(mut self, node: &str) -> Self {
        self.0.node = Some(node.into());
        self
    }
    pub(crate) fn for_nodes(mut self, nodes: &[&str]) -> Self {
        self.0.for_nodes = nodes.iter().map(|&node| node.into()).collect();
        self
    }
    pub(crate) fn for_zones(mut self, zones: &[&str]) -> Self {
        self.0.for_zones = zones.iter().map(|&zone| zone.into()).collect();
        self
    }
    /// Not ready, does not answer.
    pub(crate) fn down(mut self) -> Self {
        self.0.conditions = Conditions { ready: false, serving: false, terminating: false };
        self
    }
    /// Answers, but was never declared ready.
    pub(crate) fn serving(mut self) -> Self {
        self.0.conditions = Conditions { ready: false, serving: true, terminating: false };
        self
    }
    /// Shuts down and still answers.
    pub(crate) fn draining(mut self) -> Self {
        self.0.conditions = Conditions { ready: false, serving: true, terminating: true };
        self
    }
    /// Shuts down and answers no more.
    pub(crate) fn stopping(mut self) -> Self {
        self.0.conditions = Conditions { ready: false, serving: false, terminating: true };
        self
    }
    /// Shuts down, but is published as ready (publishNotReadyAddresses).
    pub(crate) fn published(mut self) -> Self {
        self.0.conditions = Conditions { ready: true, serving: false, terminating: true };
        self
    }
    pub(crate) fn done(self) -> Endpoint {
        self.0
    }
}

/// A node with a zone; an empty zone is none.
pub(crate) fn node(name: &str, zone: &str) -> Node {
    Node { zone: Some(zone.into()).filter(|_| !zone.is_empty()), ..Node::named(name) }
}

/// A slice of `default/web`, of the family of its first endpoint (IPv4 if it has none). A
/// port is `name=number` for TCP or `name=number/UDP`.
pub(crate) fn slice(name: &str, ports: &[&str], endpoints: Vec<Build>) -> EndpointSlice {
    EndpointSlice {
        name: ObjectName::new("default", name),
        service: ObjectName::new("default", "web"),
        family: endpoints.first().map_or(Family::V4, |first| Family::of(first.0.address)),
        ports: ports
            .iter()
            .map(|text| {
                let (name, number, protocol) = parse_port(text);
                EndpointPort { name: name.into(), protocol, port: number }
            })
            .collect(),
        endpoints: endpoints.into_iter().map(Build::done).collect(),
        triggered: None,
    }
}

/// Service `default/<name>` with a ClusterIP and ports as in [`slice`].
pub(crate) fn service(name: &str, cluster_ips: &[&str], ports: &[&str]) -> Service {
    Service {
        name: ObjectName::new("default", name),
        created_secs: 1,
        cluster_ips: cluster_ips.iter().map(|address| address.parse().unwrap()).collect(),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: None,
        choice: Choice::Random,
        health_check_node_port: None,
        ports: ports
            .iter()
            .map(|text| {
                let (name, port, protocol) = parse_port(text);
                ServicePort { name: name.into(), protocol, port, node_port: None }
            })
            .collect(),
    }
}

fn parse_port(text: &str) -> (&str, NonZeroU16, Protocol) {
    let (name, rest) = text.split_once('=').unwrap();
    let (number, protocol) = rest.split_once('/').unwrap_or((rest, "TCP"));
    let protocol = match protocol {
        "TCP" => Protocol::TCP,
        "UDP" => Protocol::UDP,
        _ => Protocol::SCTP,
    };
    (name, number.parse().unwrap(), protocol)
}
