// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kubernetes objects for what is in the lab, as its API server would hold them.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::{
        core::v1::{self as core, ServicePort, ServiceSpec},
        discovery::v1::{
            Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForZone,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString,
    },
};

use crate::{address, node::Node, place::Place, pod::Pod, wire::Family};

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name; needed when there are several.
    pub name: &'static str,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// The port that clients dial.
    pub port: u16,
    /// The port that pods listen on.
    pub target: u16,
}

/// An endpoint of a slice, both families, as the kubelet and the EndpointSlice
/// controller would describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Name of the pod.
    pub name: String,
    /// Its address of each family.
    pub addresses: [IpAddr; 2],
    /// Name of its node.
    pub node: String,
    /// Zone of its node.
    pub zone: String,
    /// May get new connections.
    pub ready: bool,
    /// Still answers.
    pub serving: bool,
    /// Its pod is going away.
    pub terminating: bool,
    /// `hints.forZones`.
    pub for_zones: Vec<String>,
}

impl Port {
    /// TCP and UDP under one number, as the lab's servers answer both.
    pub const fn both(port: u16, target: u16) -> [Self; 2] {
        [
            Self { name: "tcp", protocol: "TCP", port, target },
            Self { name: "udp", protocol: "UDP", port, target },
        ]
    }
}

impl Backing {
    /// A pod that is ready.
    pub fn ready(pod: &Pod, node: &Node) -> Self {
        Self::at(&pod.place, node)
    }

    /// Any place as a ready endpoint on `node`: a host-network pod is its node.
    pub fn at(place: &Place, node: &Node) -> Self {
        Self {
            name: place.name.clone(),
            addresses: Family::BOTH.map(|family| place.address(family)),
            node: node.name.clone(),
            zone: node.zone.to_owned(),
            ready: true,
            serving: true,
            terminating: false,
            for_zones: Vec::new(),
        }
    }

    /// Keeps what it has and gets nothing new: its pod is terminating.
    pub fn drain(&mut self) {
        self.ready = false;
        self.terminating = true;
    }
}

/// A ClusterIP Service in namespace `default`; the caller changes what else
/// it wants before it is written.
pub fn service(name: &str, cluster_ips: &[IpAddr], ports: &[Port]) -> core::Service {
    let families =
        cluster_ips.iter().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned());
    let families: Vec<_> = families.collect();
    let spec = ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        cluster_ip: cluster_ips.first().map(ToString::to_string),
        cluster_ips: Some(cluster_ips.iter().map(ToString::to_string).collect()),
        ip_family_policy: Some(
            if families.len() > 1 { "RequireDualStack" } else { "SingleStack" }.to_owned(),
        ),
        ip_families: Some(families),
        ports: Some(ports.iter().map(service_port).collect()),
        ..ServiceSpec::default()
    };
    core::Service { metadata: named(name), spec: Some(spec), ..core::Service::default() }
}

/// The slices of a Service, one a family that it has.
pub fn slices(service: &core::Service, backings: &[Backing]) -> Vec<EndpointSlice> {
    let spec = service.spec.clone().unwrap_or_default();
    let families = spec.ip_families.clone().unwrap_or_default();
    families.iter().map(|family| slice(service, &spec, family, backings)).collect()
}

/// The Node object of a lab's node, ready, with addresses, zone and pod ranges.
pub fn node(node: &Node) -> core::Node {
    let (v4, v6) = address::pod_ranges(node.index);
    let labels = [
        ("kubernetes.io/hostname", node.name.as_str()),
        ("topology.kubernetes.io/zone", node.zone),
        ("topology.kubernetes.io/region", "lab"),
    ];
    let mut metadata = named(&node.name);
    metadata.namespace = None;
    metadata.labels = Some(map(&labels));
    core::Node {
        metadata,
        spec: Some(core::NodeSpec {
            pod_cidr: Some(v4.clone()),
            pod_cidrs: Some(vec![v4, v6]),
            ..core::NodeSpec::default()
        }),
        status: Some(node_status(node)),
    }
}

/// Ready, with addresses and room for pods. The number of CPUs is what the
/// EndpointSlice controller weighs topology hints by.
fn node_status(node: &Node) -> core::NodeStatus {
    let address =
        |type_: &str, address: String| core::NodeAddress { type_: type_.to_owned(), address };
    let room: BTreeMap<_, _> = [("cpu", "4"), ("memory", "8Gi"), ("pods", "200")]
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
        .into();
    core::NodeStatus {
        addresses: Some(vec![
            address("InternalIP", node.place.v4.to_string()),
            address("InternalIP", node.place.v6.to_string()),
            address("Hostname", node.name.clone()),
        ]),
        conditions: Some(vec![core::NodeCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            ..core::NodeCondition::default()
        }]),
        allocatable: Some(room.clone()),
        capacity: Some(room),
        ..core::NodeStatus::default()
    }
}

/// One slice, named and labelled as the controller does.
fn slice(
    service: &core::Service,
    spec: &ServiceSpec,
    family: &str,
    backings: &[Backing],
) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut metadata = named(&format!("{name}-{}", family.to_lowercase()));
    metadata.namespace.clone_from(&service.metadata.namespace);
    metadata.labels = Some(map(&[
        ("kubernetes.io/service-name", name.as_str()),
        ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
    ]));
    let ports = spec.ports.iter().flatten().map(|port| EndpointPort {
        name: port.name.clone(),
        protocol: port.protocol.clone(),
        port: port.target_port.as_ref().and_then(|target| match target {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(_) => None,
        }),
        app_protocol: None,
    });
    EndpointSlice {
        metadata,
        address_type: family.to_owned(),
        endpoints: Some(backings.iter().map(|backing| endpoint(backing, family)).collect()),
        ports: Some(ports.collect()),
    }
}

/// One endpoint.
fn endpoint(backing: &Backing, family: &str) -> Endpoint {
    let address = backing.addresses.iter().find(|ip| ip.is_ipv4() == (family == "IPv4"));
    let zones = backing.for_zones.iter().map(|name| ForZone { name: name.clone() });
    Endpoint {
        addresses: address.iter().map(ToString::to_string).collect(),
        conditions: Some(EndpointConditions {
            ready: Some(backing.ready),
            serving: Some(backing.serving),
            terminating: Some(backing.terminating),
        }),
        hints: (!backing.for_zones.is_empty()).then(|| EndpointHints {
            for_zones: Some(zones.collect()),
            ..EndpointHints::default()
        }),
        node_name: Some(backing.node.clone()),
        target_ref: Some(core::ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(backing.name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            ..core::ObjectReference::default()
        }),
        zone: Some(backing.zone.clone()),
        ..Endpoint::default()
    }
}

/// One port.
fn service_port(port: &Port) -> ServicePort {
    ServicePort {
        name: Some(port.name.to_owned()),
        protocol: Some(port.protocol.to_owned()),
        port: port.port.into(),
        target_port: Some(IntOrString::Int(port.target.into())),
        ..ServicePort::default()
    }
}

/// Metadata of an object of the lab's namespace.
fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Labels.
fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The namespace of the lab's objects.
pub const NAMESPACE: &str = "default";
