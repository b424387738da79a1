// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was ignored, of which object, and why. Nothing else is affected by it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::ObjectName;

/// One value that could not be used.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Issue {
    /// The object's kind.
    pub kind: ObjectKind,
    /// The object.
    pub object: ObjectName,
    /// The field's path, as in `spec.ports[1].port`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// The kinds of objects that are read.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ObjectKind {
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Node.
    Node,
    /// networking.k8s.io/v1 ServiceCIDR.
    ServiceCidr,
    /// v1 Pod.
    Pod,
}

/// Why a value was ignored. The message names the rule and what to do.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Problem {
    /// Not an IP address (COL-05, COL-07).
    #[error("{value:?} is not an IP address; ignored (COL-05)")]
    Address {
        /// The text that was found.
        value: String,
    },
    /// An address of another family than the one that the object names for it (COL-07).
    #[error("{value} is not of the family that the object names for it; ignored (COL-07)")]
    Family {
        /// The address.
        value: String,
    },
    /// A slice whose addressType is unknown (FAM-05).
    #[error("address type {value:?} is not IPv4, IPv6 or FQDN; the slice is ignored (FAM-05)")]
    AddressType {
        /// The text that was found.
        value: String,
    },
    /// An address that means something else on every host, so that no Service may take it.
    #[error("{value} is unspecified, loopback or link-local; ignored (COL-08)")]
    Special {
        /// The text that was found.
        value: String,
    },
    /// Not a CIDR (LB-07).
    #[error("{value:?} is not a CIDR; ignored, the other ranges still apply (LB-07)")]
    Cidr {
        /// The text that was found.
        value: String,
    },
    /// Not a place for ClusterIPs (CIP-05).
    #[error("{value:?} is not a CIDR of some addresses; ignored (CIP-05)")]
    ServiceCidr {
        /// The text that was found.
        value: String,
    },
    /// A port outside 1 to 65535.
    #[error("port {value} is outside 1 to 65535; this port is not served")]
    Port {
        /// The number that was found.
        value: i64,
    },
    /// An affinity timeout that the API does not allow (COL-06).
    #[error("timeout {value} s is outside 1 to 86400; the default of 10800 s is used (COL-06)")]
    Timeout {
        /// The number that was found.
        value: i64,
    },
    /// An annotation of ours with a value that it cannot have.
    #[error("{value:?} is none of {allowed}; ignored")]
    Annotation {
        /// The text that was found.
        value: String,
        /// The values that it can have.
        allowed: String,
    },
    /// Direct forwarding of a Service whose endpoints each node chooses for itself.
    #[error(
        "direct forwarding needs the annotation sluice.dev/algorithm: maglev, by which all nodes choose alike; ignored (SVC-12)"
    )]
    DirectAlone,
    /// A protocol that Services do not have.
    #[error("protocol {value:?} is not TCP, UDP or SCTP; this port is not served")]
    Protocol {
        /// The text that was found.
        value: String,
    },
    /// A second port with the same name and protocol, or the same number and protocol.
    #[error("repeats another port of the object; only the first is served (COL-01)")]
    DuplicatePort,
    /// More ports or endpoints than the API allows.
    #[error("has {count} entries, more than {limit}; the rest is ignored (EPS-11)")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many are used.
        limit: usize,
    },
    /// More issues of one object than are told one by one.
    #[error("{count} more of its values are ignored; mend the first ones")]
    More {
        /// How many.
        count: usize,
    },
    /// An object without a name or namespace.
    #[error("has no {field}; the object is ignored")]
    Nameless {
        /// The missing field.
        field: &'static str,
    },
    /// Another Service holds the frontend (COL-02).
    #[error(
        "{frontend} is already served for {winner}, which is older; this frontend waits until that one is gone (COL-02)"
    )]
    Taken {
        /// The address, port and protocol.
        frontend: String,
        /// The Service that has it.
        winner: ObjectName,
    },
    /// A health-check node port that cannot be listened on (HCN-08).
    #[error(
        "cannot listen on {address}: {reason}; trying again, other Services are not affected (HCN-08)"
    )]
    HealthCheckPort {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        reason: String,
    },
    /// NodePorts that the kernel may give to a program as its own (NP-08).
    #[error(
        "ports {0}-{1} are given to programs that ask for any, NodePorts {ports} among them: such a program cannot be reached on its port; run: sysctl -w net.ipv4.ip_local_reserved_ports={reserve}",
        range.0, range.1
    )]
    LocalPorts {
        /// First and last port that is given.
        range: (u16, u16),
        /// The NodePorts, as `32768,40000-40002`.
        ports: String,
        /// What is to be reserved, with what is reserved already.
        reserve: String,
    },
    /// A map has no room for it.
    #[error("map {map} is full: {lost} until there is room; {remedy}")]
    Full {
        /// The map's name.
        map: &'static str,
        /// What is missing because of it.
        lost: Lost,
        /// What to do.
        remedy: Remedy,
    },
    /// FLOWS is filling.
    #[error(
        "more than three quarters of the room for {flows} flows of clients outside is taken; raise --max-flows, or see who opens them: lb-agent show flows --totals"
    )]
    FlowsTight {
        /// How many flows there is room for.
        flows: u64,
    },
    /// FLOWS is full.
    #[error(
        "no room for more than {flows} flows of clients outside: new ones were dropped in the last seconds, those that are open go on; raise --max-flows, or see who opens them: lb-agent show flows --totals"
    )]
    FlowsFull {
        /// How many flows there is room for.
        flows: u64,
    },
    /// FLOWS is of another size than what was asked for.
    #[error(
        "room for {has} flows of clients outside, not for the {wanted} that --max-flows asks for: a table that is there keeps its size and its flows; to change it, restart the node, or run lb-agent unload before the next start, which ends open flows of clients outside"
    )]
    FlowsKept {
        /// How many flows there is room for.
        has: u64,
        /// How many there would be room for in a new table.
        wanted: u64,
    },
    /// No device has a name that `--devices` has.
    #[error("there is no {device}, which --devices names: served as soon as there is")]
    NoDevice {
        /// The name.
        device: String,
    },
    /// The node's own address is not this node's.
    #[error(
        "no device here has {address}, which is this node's own: NodePorts do not answer on it, and clients outside reach no pod of another node over its family; give a device the address, or the Node another one"
    )]
    Away {
        /// The address.
        address: IpAddr,
    },
    /// A device could not be served.
    #[error("clients outside are not served as they should be: {reason}; tried again every 30 s")]
    Unserved {
        /// The program, the device, and what the kernel said.
        reason: String,
    },
    /// The device that leads to a marked pod is not known.
    #[error(
        "no device leads to {address} alone: {reason}; its packets to Services are not translated until there is one"
    )]
    Unlocated {
        /// The pod's address.
        address: String,
        /// What is in the way.
        reason: Unlocated,
    },
    /// The maps did not take it, or something that it needs.
    #[error("could not be written: {reason}; tried again until it can")]
    Unwritten {
        /// What the kernel said.
        reason: String,
    },
}

/// Why no device leads to a pod.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Unlocated {
    /// The node has no route to it, or the address is the node's own.
    #[error("this node has no route to it")]
    Route,
    /// Another host is in between.
    #[error("this node's route to it has a gateway")]
    Gateway,
    /// It is behind a bridge that has not heard of it yet.
    #[error("it has not been heard of behind its bridge")]
    Neighbour,
    /// The device is not the pod's own.
    #[error("{device}, to which the route leads, is no veth, netkit or tun device")]
    Shared {
        /// Its name.
        device: String,
    },
}

/// What is missing because a map is full. Nothing that was served before is given up.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Lost {
    /// A new service port.
    #[error("not served")]
    Port,
    /// Some frontends of a service port.
    #[error("some of its frontends are not served")]
    Frontends,
    /// A change of a service port that is served.
    #[error("served as before its latest change")]
    Change,
    /// ClientIP affinity.
    #[error("served without affinity")]
    Affinity,
    /// The Maglev table of a set.
    #[error("served with endpoints chosen at random, not by Maglev")]
    Maglev,
    /// Clients of some source ranges, who are kept out.
    #[error("clients in some of its source ranges get no answer")]
    Ranges,
    /// Addresses of ServiceCIDRs that no Service has.
    #[error("free addresses of some are not told from others (CIP-05)")]
    Cidrs,
    /// NodePorts on some of the node's addresses.
    #[error("NodePorts do not answer on some of them")]
    Addresses,
}

/// What to do about a full map.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Remedy {
    /// Nothing: it is tried again by itself.
    #[error("it is tried again when something is given back")]
    Wait,
    /// The operator's own limit was reached.
    #[error("raise --max-entries {limit}, or remove Services")]
    Limit {
        /// The limit's name.
        limit: &'static str,
    },
    /// The kernel did not make a larger map.
    #[error(
        "a larger map could not be made: raise the agent's memory limit (its log has the kernel's answer)"
    )]
    Memory,
    /// The map has a fixed size.
    #[error("give fewer --nodeport-addresses")]
    Addresses,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}: {}", self.kind, self.object, self.field, self.problem)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Pod => "Pod",
        })
    }
}
