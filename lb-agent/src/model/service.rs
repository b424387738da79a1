// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A Service with everything that decides which sockets go where.

use std::{net::IpAddr, num::NonZeroU16, sync::Arc};

use ipnet::IpNet;
use lb_common::protocol::Protocol;

use super::{Family, ObjectName};

/// A Service that is proxied: headless, ExternalName and opted-out ones never get here
/// (SVC-02, SVC-04, SVC-05).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// When the object was made, in seconds since 1970: the elder wins a frontend that two
    /// Services claim (COL-02). 0 if unknown.
    pub created_secs: i64,
    /// At most one ClusterIP a family; a family without one is not served at all (FAM-02).
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` with ipMode VIP (LB-01, LB-02).
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`, masked to their networks.
    pub source_ranges: Vec<IpNet>,
    /// Which endpoints clients of the ClusterIP may reach.
    pub internal_policy: TrafficPolicy,
    /// Which endpoints clients from outside may reach through the other frontends (TRP-08).
    pub external_policy: TrafficPolicy,
    /// ClientIP stickiness: its timeout in seconds; `None` without affinity.
    pub affinity_secs: Option<u32>,
    /// How one of a set's endpoints is chosen.
    pub choice: Choice,
    /// `spec.healthCheckNodePort`, where HCN-01 says that it counts.
    pub health_check_node_port: Option<NonZeroU16>,
    /// The ports. (name, protocol) and (port, protocol) are unique.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServicePort {
    /// The port's name; empty for the unnamed one.
    pub name: Arc<str>,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port of ClusterIP, externalIPs and load balancer addresses.
    pub port: NonZeroU16,
    /// The port on the node's own addresses.
    pub node_port: Option<NonZeroU16>,
}

/// How one of a set's endpoints is chosen, by annotation.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Choice {
    /// By chance (TRP-09).
    #[default]
    Random,
    /// By the client, alike on every node.
    Maglev {
        /// Slots of the table; `None`: as many as the endpoints need.
        length: Option<u32>,
        /// How packets get to endpoints of other nodes.
        forwarding: Forwarding,
    },
}

/// How packets of clients outside get to endpoints of other nodes, by annotation. Of externalIPs
/// and load balancer addresses: other nodes do not serve this node's NodePorts.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Forwarding {
    /// With an address of this node as their source.
    #[default]
    Snat,
    /// Unchanged, to the endpoint's node.
    Direct,
}

/// internalTrafficPolicy or externalTrafficPolicy.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum TrafficPolicy {
    /// Endpoints of the whole cluster.
    #[default]
    Cluster,
    /// Endpoints of this node.
    Local,
}

impl Choice {
    /// The lengths that Maglev tables may have: primes, so that whatever an endpoint skips, it
    /// comes by every slot.
    pub const LENGTHS: [u32; 5] = [2_039, 8_191, 32_749, 65_521, 131_071];
}

impl Service {
    /// The family's ClusterIP (FAM-02).
    pub fn cluster_ip(&self, family: Family) -> Option<IpAddr> {
        self.cluster_ips.iter().copied().find(|address| Family::of(*address) == family)
    }
}
