// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A service port of one family, compiled: what its frontends are and whom they lead to.

use std::{fmt, net::IpAddr, num::NonZeroU16, sync::Arc};

use lb_common::{
    addr::Addr,
    be::Be16,
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    maps::node_port_index,
    protocol::Protocol,
    range::{Admission, CidrKey},
    service::{FrontendKind, ServiceFlags, SetWord},
};

use super::{
    eligible::{Candidate, Endpoints, Role},
    maglev,
    op::Op,
};
use crate::model::{
    Family, ObjectName,
    service::{Choice, Forwarding, TrafficPolicy},
};

/// A service port of one family: the unit that has an id, sets and records of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Port {
    /// Whose it is and what it is called.
    pub owner: Arc<Owner>,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The frontends that it wants, in order.
    pub claims: Box<[(Frontend, FrontendKind)]>,
    /// The endpoints that it has.
    pub endpoints: Endpoints,
    /// Which set clients of the ClusterIP get.
    pub internal: TrafficPolicy,
    /// Which set clients outside the cluster get at the other frontends.
    pub external: TrafficPolicy,
    /// The affinity timeout in seconds; 0 without affinity.
    pub affinity_secs: u32,
    /// How an endpoint of a set is chosen.
    pub choice: Choice,
    /// Who may reach its load balancer addresses; `None` for everybody (LB-06, LB-08).
    pub admitted: Option<Arc<[(CidrKey, Admission)]>>,
}

/// Who claims a frontend. In the order in which claims are honoured, but for the kind of
/// frontend: the elder first, then by name (COL-02).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Owner {
    /// When the Service was made, in seconds since 1970.
    pub created_secs: i64,
    /// The Service.
    pub service: ObjectName,
    /// The service port.
    pub name: PortName,
}

/// The name of a service port and family: the key under which everything about it is found,
/// across restarts too. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortName {
    /// As in NAMES: `namespace/name:port/TCP`, or `namespace/name/TCP` for the unnamed port.
    pub text: Arc<str>,
    /// The family.
    pub family: Family,
}

/// What clients dial. The same value for the same packet, so that two claims meet.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Frontend {
    /// An IPv4 address with port and protocol.
    V4(FrontendKey4),
    /// An IPv6 address with port and protocol.
    V6(FrontendKey6),
    /// A port of every eligible node address of a family.
    NodePort {
        /// The index into NODEPORTS.
        index: u32,
        /// The family.
        ipv6: bool,
    },
}

impl Port {
    /// The sets that a kind of frontend leads to: for clients inside and outside the cluster
    /// (TRP-10 to TRP-13). Inside, externalTrafficPolicy Local is short-circuited.
    pub fn sets(&self, kind: FrontendKind) -> (Role, Role) {
        match kind {
            FrontendKind::ClusterIp => (set(self.internal), set(self.internal)),
            FrontendKind::NodePort | FrontendKind::ExternalIp | FrontendKind::LoadBalancer => {
                (Role::CLUSTER, set(self.external))
            }
        }
    }

    /// The endpoints of one set, in order.
    pub fn members(&self, set: Role) -> impl Iterator<Item = &Candidate> + Clone {
        self.endpoints.candidates.iter().filter(move |candidate| candidate.role.intersects(set))
    }

    /// How many slots a set of so many endpoints has.
    pub fn slots(&self, endpoints: usize) -> usize {
        let table = match self.choice {
            Choice::Maglev { length, .. } if endpoints > 0 => maglev::length(endpoints, length),
            Choice::Random | Choice::Maglev { .. } => None,
        };
        table.map_or(endpoints, |length| length as usize)
    }

    /// What a client of an empty set gets: silence if the policy is Local and there is an
    /// endpoint elsewhere, else a refusal (NOEP-01 to NOEP-04).
    pub fn empty(&self, set: Role) -> SetWord {
        if set == Role::LOCAL && self.endpoints.somewhere { SetWord::DROP } else { SetWord::REFUSE }
    }

    /// The flags of the record for a kind of frontend.
    pub fn flags(&self, kind: FrontendKind) -> ServiceFlags {
        let mut flags = ServiceFlags::from(kind);
        flags.set(ServiceFlags::AFFINITY, self.affinity_secs != 0);
        let guarded = kind == FrontendKind::LoadBalancer && self.admitted.is_some();
        flags.set(ServiceFlags::SOURCE_RANGES, guarded);
        flags.set(ServiceFlags::IPV6, self.owner.name.family == Family::V6);
        flags.set(ServiceFlags::LOCAL, self.sets(kind).1 == Role::LOCAL);
        flags.set(ServiceFlags::DIRECT, self.is_direct(kind));
        flags
    }

    /// Whether packets that come by a kind of frontend go on unchanged to other nodes' endpoints
    /// (SVC-12): every node has to serve the address.
    fn is_direct(&self, kind: FrontendKind) -> bool {
        let is_shared = matches!(kind, FrontendKind::ExternalIp | FrontendKind::LoadBalancer);
        let is_asked = matches!(self.choice, Choice::Maglev { forwarding: Forwarding::Direct, .. });
        is_shared && is_asked && self.external == TrafficPolicy::Cluster
    }
}

impl Frontend {
    /// An address with port and protocol; `None` for an IPv4-mapped IPv6 address, which is
    /// dialled as an IPv4 one and can be no Service's.
    pub fn new(address: IpAddr, port: NonZeroU16, protocol: Protocol) -> Option<Self> {
        let port = Be16::from_host(port.get());
        match address {
            IpAddr::V4(address) => {
                let address = Addr::from(address).to_v4()?;
                Some(Self::V4(FrontendKey4::new(address, port, protocol)))
            }
            IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
                Some(Self::V6(FrontendKey6::new(address.into(), port, protocol)))
            }
            IpAddr::V6(_) => None,
        }
    }

    /// What says that an address is a ClusterIP, whatever the port (CIP-04).
    pub fn any_port(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => {
                Some(Self::V4(FrontendKey4::any_port(Addr::from(address).to_v4()?)))
            }
            IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
                Some(Self::V6(FrontendKey6::any_port(address.into())))
            }
            IpAddr::V6(_) => None,
        }
    }

    /// The address, if it is one of [`any_port`](Self::any_port).
    pub fn any_port_of(&self) -> Option<Addr> {
        match self {
            Self::V4(key) => key.is_any_port().then(|| Addr::from_v4(key.address)),
            Self::V6(key) => key.is_any_port().then_some(key.address),
            Self::NodePort { .. } => None,
        }
    }

    /// A node port; `None` for a protocol that has no row in NODEPORTS.
    pub fn node_port(family: Family, port: NonZeroU16, protocol: Protocol) -> Option<Self> {
        let index = node_port_index(protocol.node_port_row()?, port.get());
        Some(Self::NodePort { index, ipv6: family == Family::V6 })
    }
}

impl Frontend {
    /// Whether it is IPv6.
    pub const fn is_ipv6(&self) -> bool {
        matches!(self, Self::V6(_) | Self::NodePort { ipv6: true, .. })
    }

    /// The value of its element that names a service index.
    pub const fn value(&self, service: u32) -> FrontendValue {
        let tag = match self {
            Self::V4(key) => key.tag(),
            Self::V6(key) => key.tag(),
            Self::NodePort { .. } => 0,
        };
        FrontendValue { service, tag }
    }

    /// The op that gives its element a value, or removes it.
    pub const fn op(&self, value: Option<FrontendValue>) -> Op {
        match *self {
            Self::V4(key) => Op::Frontend4 { key, value },
            Self::V6(key) => Op::Frontend6 { key, value },
            Self::NodePort { index, ipv6 } => {
                let service = match value {
                    Some(value) => value.service,
                    None => 0,
                };
                Op::NodePort { index, ipv6, service }
            }
        }
    }
}

impl PortName {
    /// Whether it names a UDP port: the protocol is the last part of the text.
    pub fn is_udp(&self) -> bool {
        self.text.ends_with("/UDP")
    }

    /// The Service, and the name and protocol of its port; `None` for what is no such text.
    pub fn parts(&self) -> Option<(ObjectName, (&str, Protocol))> {
        let (object, protocol) = self.text.rsplit_once('/')?;
        let protocol = match protocol {
            "TCP" => Protocol::TCP,
            "UDP" => Protocol::UDP,
            "SCTP" => Protocol::SCTP,
            _ => return None,
        };
        let (namespace, object) = object.split_once('/')?;
        let (service, port) = object.split_once(':').unwrap_or((object, ""));
        Some((ObjectName::new(namespace, service), (port, protocol)))
    }
}

impl Frontend {
    /// Whether it stands for all ports of an address that are not served.
    pub fn is_any_port(&self) -> bool {
        match self {
            Self::V4(key) => key.is_any_port(),
            Self::V6(key) => key.is_any_port(),
            Self::NodePort { .. } => false,
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(key) => {
                let address = Addr::from_v4(key.address);
                write!(f, "{address}:{}/{}", key.port.to_host(), key.protocol)
            }
            Self::V6(key) => write!(f, "[{}]:{}/{}", key.address, key.port.to_host(), key.protocol),
            Self::NodePort { index, ipv6 } => {
                let rows = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
                let protocol = rows.get((index >> 16) as usize).copied().unwrap_or_default();
                let family = if *ipv6 { Family::V6 } else { Family::V4 };
                write!(f, "{family} NodePort {}/{protocol}", index & 0xffff)
            }
        }
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.family)
    }
}

const fn set(policy: TrafficPolicy) -> Role {
    match policy {
        TrafficPolicy::Cluster => Role::CLUSTER,
        TrafficPolicy::Local => Role::LOCAL,
    }
}
