// SPDX-License-Identifier: Apache-2.0 OR MIT
//! v1 Service.

use std::{collections::HashSet, net::IpAddr, num::NonZeroU16};

use ipnet::IpNet;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{
    Complaints,
    address::{addresses, family, is_own, is_special, parse_address, parse_cidr},
    has_label, nameless, object_name,
};
use crate::model::{
    Family, Protocol,
    change::Object,
    issue::{ObjectKind, Problem},
    service::{Choice, Forwarding, Service, ServicePort, TrafficPolicy},
};

/// Reads a Service. Its value is `None` if it is not proxied: opted out (SVC-02), without a
/// ClusterIP (SVC-04), of type ExternalName (SVC-05).
pub fn service(object: &core::Service) -> Object<Service> {
    let name = object_name(&object.metadata);
    let mut complaints = Complaints::new(ObjectKind::Service, &name);
    let value = if let Some(problem) = nameless(&name) {
        complaints.add("metadata", problem);
        None
    } else if is_proxied(object) {
        proxied(object, &mut complaints)
    } else {
        None
    };
    Object { name, value, issues: complaints.finish() }
}

/// The port's number, or what is wrong with it.
pub(super) fn port_number(value: i32) -> Result<NonZeroU16, Problem> {
    u16::try_from(value).ok().and_then(NonZeroU16::new).ok_or(Problem::Port { value: value.into() })
}

/// The protocol; TCP where none is named, as the API defaults it.
pub(super) fn protocol(value: Option<&str>) -> Result<Protocol, Problem> {
    match value.unwrap_or("TCP") {
        "TCP" => Ok(Protocol::TCP),
        "UDP" => Ok(Protocol::UDP),
        "SCTP" => Ok(Protocol::SCTP),
        other => Err(Problem::Protocol { value: other.to_owned() }),
    }
}

fn is_proxied(object: &core::Service) -> bool {
    let Some(spec) = &object.spec else { return false };
    !has_label(&object.metadata, PROXY_NAME_LABEL)
        && spec.type_.as_deref() != Some("ExternalName")
        && !matches!(spec.cluster_ip.as_deref(), None | Some("" | "None"))
}

fn proxied(object: &core::Service, complaints: &mut Complaints) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    let cluster_ips = cluster_ips(spec, complaints);
    if cluster_ips.is_empty() {
        return None;
    }
    let external_policy = external_policy(spec);
    Some(Service {
        name: object_name(&object.metadata),
        created_secs: object.metadata.creation_timestamp.as_ref().map_or(0, |at| at.0.as_second()),
        cluster_ips,
        external_ips: external_ips(spec, complaints),
        load_balancer_ips: load_balancer_ips(object, complaints),
        source_ranges: source_ranges(spec, complaints),
        internal_policy: policy(spec.internal_traffic_policy.as_deref()),
        external_policy,
        affinity_secs: affinity_secs(spec, complaints),
        choice: choice(&object.metadata, complaints),
        health_check_node_port: health_check_node_port(spec, external_policy, complaints),
        ports: ports(spec, complaints),
    })
}

/// FAM-02: the entry of `clusterIPs` where `ipFamilies` names the family, or `clusterIP` if
/// there are no `ipFamilies`.
fn cluster_ips(spec: &core::ServiceSpec, complaints: &mut Complaints) -> Vec<IpAddr> {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if families.is_empty() {
        let only = spec.cluster_ip.iter().map(|text| ("spec.clusterIP".to_owned(), text.as_str()));
        return addresses(only, is_own, complaints);
    }
    let mut found: Vec<IpAddr> = Vec::new();
    let texts = spec.cluster_ips.iter().flatten();
    for (at, (text, named)) in texts.zip(families).enumerate() {
        let field = format!("spec.clusterIPs[{at}]");
        match parse_address(text) {
            None => complaints.add(field, Problem::Address { value: text.clone() }),
            Some(address) if is_own(address) => {
                complaints.add(field, Problem::Special { value: text.clone() });
            }
            Some(address) if family(named) != Some(Family::of(address)) => {
                complaints.add(field, Problem::Family { value: text.clone() });
            }
            Some(address) if found.iter().all(|it| Family::of(*it) != Family::of(address)) => {
                found.push(address);
            }
            Some(_) => {}
        }
    }
    found
}

fn external_ips(spec: &core::ServiceSpec, complaints: &mut Complaints) -> Vec<IpAddr> {
    let texts = spec.external_ips.iter().flatten().enumerate();
    let texts = texts.map(|(at, text)| (format!("spec.externalIPs[{at}]"), text.as_str()));
    addresses(texts, is_special, complaints)
}

/// Ingress addresses with ipMode VIP or none: those with ipMode Proxy are reached through
/// the balancer itself (LB-01, LB-02), those with a host name alone by nobody here (LB-03).
fn load_balancer_ips(object: &core::Service, complaints: &mut Complaints) -> Vec<IpAddr> {
    let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.and_then(|it| it.ingress.as_deref()).unwrap_or_default();
    let texts = entries.iter().enumerate().filter_map(|(at, entry)| {
        let captured = matches!(entry.ip_mode.as_deref(), None | Some("VIP"));
        let text = entry.ip.as_deref().filter(|_| captured)?;
        Some((format!("status.loadBalancer.ingress[{at}].ip"), text))
    });
    addresses(texts, is_own, complaints)
}

/// LB-07: trimmed, masked; a zero-length prefix lifts the restriction of its family.
fn source_ranges(spec: &core::ServiceSpec, complaints: &mut Complaints) -> Vec<IpNet> {
    let mut ranges = Vec::new();
    for (at, text) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        match parse_cidr(text.trim()) {
            Some(range) if ranges.contains(&range) => {}
            Some(range) => ranges.push(range),
            None if text.trim().is_empty() => {}
            None => complaints.add(
                format!("spec.loadBalancerSourceRanges[{at}]"),
                Problem::Cidr { value: text.clone() },
            ),
        }
    }
    for family in Family::ALL {
        let of_family = |range: &IpNet| Family::of(range.addr()) == family;
        if ranges.iter().any(|range| of_family(range) && range.prefix_len() == 0) {
            ranges.retain(|range| !of_family(range));
        }
    }
    ranges
}

/// TRP-07: anything but `Local` is Cluster.
fn policy(value: Option<&str>) -> TrafficPolicy {
    match value {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    }
}

/// TRP-08: counts only where the type or externalIPs let clients in from outside.
fn external_policy(spec: &core::ServiceSpec) -> TrafficPolicy {
    let accessible = match spec.type_.as_deref() {
        Some("LoadBalancer" | "NodePort") => true,
        None | Some("" | "ClusterIP") => {
            spec.external_ips.as_ref().is_some_and(|it| !it.is_empty())
        }
        Some(_) => false,
    };
    if accessible {
        policy(spec.external_traffic_policy.as_deref())
    } else {
        TrafficPolicy::Cluster
    }
}

/// AFF-01; a timeout that is missing is the API's default (COL-06), and so is one that the
/// API would refuse.
fn affinity_secs(spec: &core::ServiceSpec, complaints: &mut Complaints) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let timeout = config.and_then(|it| it.client_ip.as_ref()).and_then(|it| it.timeout_seconds);
    let Some(timeout) = timeout else { return Some(DEFAULT_AFFINITY_SECS) };
    if let Ok(secs @ 1..=MAX_AFFINITY_SECS) = u32::try_from(timeout) {
        return Some(secs);
    }
    let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    complaints.add(field, Problem::Timeout { value: timeout.into() });
    Some(DEFAULT_AFFINITY_SECS)
}

/// SVC-11: by chance, unless the annotation asks for Maglev.
fn choice(meta: &ObjectMeta, complaints: &mut Complaints) -> Choice {
    let length = table_length(meta, complaints);
    let forwarding = forwarding(meta, complaints);
    match annotation(meta, ALGORITHM_ANNOTATION) {
        Some("maglev") => Choice::Maglev { length, forwarding: forwarding.unwrap_or_default() },
        other => {
            if let Some(text) = other.filter(|text| *text != "random") {
                let allowed = "random, maglev".to_owned();
                let problem = Problem::Annotation { value: text.to_owned(), allowed };
                complaints.add(annotation_path(ALGORITHM_ANNOTATION), problem);
            }
            if forwarding == Some(Forwarding::Direct) {
                complaints.add(annotation_path(FORWARDING_ANNOTATION), Problem::DirectAlone);
            }
            Choice::Random
        }
    }
}

/// SVC-12: unchanged, if the annotation asks for it.
fn forwarding(meta: &ObjectMeta, complaints: &mut Complaints) -> Option<Forwarding> {
    let text = annotation(meta, FORWARDING_ANNOTATION)?;
    match text {
        "direct" => Some(Forwarding::Direct),
        "snat" => Some(Forwarding::Snat),
        _ => {
            let allowed = "snat, direct".to_owned();
            let problem = Problem::Annotation { value: text.to_owned(), allowed };
            complaints.add(annotation_path(FORWARDING_ANNOTATION), problem);
            None
        }
    }
}

/// SVC-11: one of the lengths that a Maglev table may have.
fn table_length(meta: &ObjectMeta, complaints: &mut Complaints) -> Option<u32> {
    let text = annotation(meta, LENGTH_ANNOTATION)?;
    let length = text.parse().ok().filter(|length| Choice::LENGTHS.contains(length));
    if length.is_none() {
        let allowed = Choice::LENGTHS.map(|length| length.to_string()).join(", ");
        let problem = Problem::Annotation { value: text.to_owned(), allowed };
        complaints.add(annotation_path(LENGTH_ANNOTATION), problem);
    }
    length
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

fn annotation_path(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// HCN-01: type LoadBalancer with external policy Local.
fn health_check_node_port(
    spec: &core::ServiceSpec,
    external_policy: TrafficPolicy,
    complaints: &mut Complaints,
) -> Option<NonZeroU16> {
    let counts =
        spec.type_.as_deref() == Some("LoadBalancer") && external_policy == TrafficPolicy::Local;
    let value = spec.health_check_node_port.filter(|value| counts && *value != 0)?;
    port_number(value).map_err(|problem| complaints.add("spec.healthCheckNodePort", problem)).ok()
}

/// The ports that can be served. Two of one name, number or node port (and protocol) cannot
/// be told apart: the first counts (COL-01).
fn ports(spec: &core::ServiceSpec, complaints: &mut Complaints) -> Vec<ServicePort> {
    let all = spec.ports.as_deref().unwrap_or_default();
    if all.len() > MAX_PORTS {
        complaints.add("spec.ports", Problem::TooMany { count: all.len(), limit: MAX_PORTS });
    }
    let mut names = HashSet::new();
    let mut numbers = HashSet::new();
    let mut node_ports = HashSet::new();
    let mut ports = Vec::with_capacity(all.len().min(MAX_PORTS));
    for (at, entry) in all.iter().take(MAX_PORTS).enumerate() {
        let field = |of: &str| format!("spec.ports[{at}]{of}");
        let protocol = match protocol(entry.protocol.as_deref()) {
            Ok(protocol) => protocol,
            Err(problem) => {
                complaints.add(field(".protocol"), problem);
                continue;
            }
        };
        let port = match port_number(entry.port) {
            Ok(port) => port,
            Err(problem) => {
                complaints.add(field(".port"), problem);
                continue;
            }
        };
        let name = entry.name.as_deref().unwrap_or_default();
        if names.contains(&(name, protocol)) || !numbers.insert((port, protocol)) {
            complaints.add(field(""), Problem::DuplicatePort);
            continue;
        }
        names.insert((name, protocol));
        let mut node_port = node_port(entry, complaints, &field(".nodePort"));
        if node_port.is_some_and(|it| !node_ports.insert((it, protocol))) {
            complaints.add(field(".nodePort"), Problem::DuplicatePort);
            node_port = None;
        }
        ports.push(ServicePort { name: name.into(), protocol, port, node_port });
    }
    ports
}

/// NP-01: 0 is none.
fn node_port(
    entry: &core::ServicePort,
    complaints: &mut Complaints,
    field: &str,
) -> Option<NonZeroU16> {
    let value = entry.node_port.filter(|value| *value != 0)?;
    port_number(value).map_err(|problem| complaints.add(field, problem)).ok()
}

/// A Service with this label, whatever its value, belongs to another proxy (SVC-02).
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// How an endpoint is chosen (SVC-11).
const ALGORITHM_ANNOTATION: &str = "sluice.dev/algorithm";

/// How many slots the Service's Maglev tables have (SVC-11).
const LENGTH_ANNOTATION: &str = "sluice.dev/maglev-table-size";

/// How packets get to other nodes' endpoints (SVC-12).
const FORWARDING_ANNOTATION: &str = "sluice.dev/forwarding";

/// The API's default of `timeoutSeconds` (AFF-01).
const DEFAULT_AFFINITY_SECS: u32 = 10_800;

/// The most that the API lets `timeoutSeconds` be (AFF-01).
const MAX_AFFINITY_SECS: u32 = 86_400;

/// Ports of one Service that are served. The API names no limit but the object's size; this
/// keeps one object from filling the maps alone.
const MAX_PORTS: usize = 10_000;
