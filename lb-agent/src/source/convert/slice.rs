// SPDX-License-Identifier: Apache-2.0 OR MIT
//! discovery.k8s.io/v1 EndpointSlice.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use k8s_openapi::{api::discovery::v1 as discovery, jiff::Timestamp};

use super::{
    Complaints,
    address::{family, is_special, parse_address},
    has_label, label, nameless, object_name,
    service::{port_number, protocol},
};
use crate::model::{
    Family, ObjectName,
    change::Object,
    endpoint::{Conditions, Endpoint, EndpointPort, EndpointSlice},
    issue::{ObjectKind, Problem},
};

/// Reads a slice. Its value is `None` if it is no Service's (EPS-02), is withdrawn by the
/// headless label (EPS-01), or holds host names (FAM-05).
pub fn slice(object: &discovery::EndpointSlice) -> Object<EndpointSlice> {
    let name = object_name(&object.metadata);
    let mut complaints = Complaints::new(ObjectKind::EndpointSlice, &name);
    let value = read(object, &name, &mut complaints);
    Object { name, value, issues: complaints.finish() }
}

fn read(
    object: &discovery::EndpointSlice,
    name: &ObjectName,
    complaints: &mut Complaints,
) -> Option<EndpointSlice> {
    if let Some(problem) = nameless(name) {
        complaints.add("metadata", problem);
        return None;
    }
    let service = label(&object.metadata, SERVICE_NAME_LABEL)?;
    if has_label(&object.metadata, HEADLESS_LABEL) || object.address_type == "FQDN" {
        return None;
    }
    let Some(family) = family(&object.address_type) else {
        let value = object.address_type.clone();
        complaints.add("addressType", Problem::AddressType { value });
        return None;
    };
    Some(EndpointSlice {
        name: name.clone(),
        service: ObjectName::new(name.namespace.clone(), service),
        family,
        ports: ports(object, complaints),
        endpoints: endpoints(object, family, complaints),
        triggered: triggered(object),
    })
}

/// When the pod or Service changed that the slice was last written for (MET-05). Nonsense is
/// as good as nothing: it is for a metric alone.
fn triggered(object: &discovery::EndpointSlice) -> Option<SystemTime> {
    let text = object.metadata.annotations.as_ref()?.get(TRIGGER_ANNOTATION)?;
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}

/// EPS-06: entries without a name or number are skipped, without a word; number 0 and other
/// nonsense with one.
fn ports(object: &discovery::EndpointSlice, complaints: &mut Complaints) -> Vec<EndpointPort> {
    let all = object.ports.as_deref().unwrap_or_default();
    if all.len() > MAX_PORTS {
        complaints.add("ports", Problem::TooMany { count: all.len(), limit: MAX_PORTS });
    }
    let mut seen = HashSet::new();
    let mut ports = Vec::new();
    for (at, entry) in all.iter().take(MAX_PORTS).enumerate() {
        let (Some(name), Some(number)) = (entry.name.as_deref(), entry.port) else { continue };
        let protocol = match protocol(entry.protocol.as_deref()) {
            Ok(protocol) => protocol,
            Err(problem) => {
                complaints.add(format!("ports[{at}].protocol"), problem);
                continue;
            }
        };
        match port_number(number) {
            Ok(port) if seen.insert((name, protocol, port)) => {
                ports.push(EndpointPort { name: name.into(), protocol, port });
            }
            Ok(_) => complaints.add(format!("ports[{at}]"), Problem::DuplicatePort),
            Err(problem) => complaints.add(format!("ports[{at}].port"), problem),
        }
    }
    ports
}

fn endpoints(
    object: &discovery::EndpointSlice,
    of: Family,
    complaints: &mut Complaints,
) -> Vec<Endpoint> {
    let all = object.endpoints.as_deref().unwrap_or_default();
    if all.len() > MAX_ENDPOINTS {
        complaints.add("endpoints", Problem::TooMany { count: all.len(), limit: MAX_ENDPOINTS });
    }
    let mut endpoints = Vec::with_capacity(all.len().min(MAX_ENDPOINTS));
    for (at, entry) in all.iter().take(MAX_ENDPOINTS).enumerate() {
        // EPS-07: only the first address counts; none at all is skipped.
        let Some(text) = entry.addresses.first() else { continue };
        let value = || text.clone();
        let problem = match parse_address(text) {
            Some(address) if is_special(address) => Problem::Special { value: value() },
            Some(address) if Family::of(address) == of => {
                endpoints.push(endpoint(entry, address));
                continue;
            }
            Some(_) => Problem::Family { value: value() },
            None => Problem::Address { value: value() },
        };
        complaints.add(format!("endpoints[{at}].addresses[0]"), problem);
    }
    endpoints
}

fn endpoint(entry: &discovery::Endpoint, address: std::net::IpAddr) -> Endpoint {
    let hints = entry.hints.as_ref();
    let zones = hints.and_then(|it| it.for_zones.as_deref()).unwrap_or_default();
    let nodes = hints.and_then(|it| it.for_nodes.as_deref()).unwrap_or_default();
    Endpoint {
        address,
        conditions: conditions(entry),
        node: entry.node_name.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
        for_zones: zones.iter().map(|zone| zone.name.as_str().into()).collect(),
        for_nodes: nodes.iter().map(|node| node.name.as_str().into()).collect(),
    }
}

/// EP-01: what the slice does not say has its default, each on its own.
fn conditions(entry: &discovery::Endpoint) -> Conditions {
    let default = Conditions::default();
    entry.conditions.as_ref().map_or(default, |it| Conditions {
        ready: it.ready.unwrap_or(default.ready),
        serving: it.serving.unwrap_or(default.serving),
        terminating: it.terminating.unwrap_or(default.terminating),
    })
}

/// Names the slice's Service, in the slice's own namespace (EPS-02).
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// When what the slice was last written for happened, in RFC 3339 (MET-05).
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A slice with this label, whatever its value, is not for proxies (EPS-01).
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// The API's limit of endpoints in a slice (EPS-11).
const MAX_ENDPOINTS: usize = 1000;

/// The API's limit of ports in a slice (EPS-11).
const MAX_PORTS: usize = 20_000;
