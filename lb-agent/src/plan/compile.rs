// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One Service and its slices, compiled to service ports. Pure, and total: it cannot fail.

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use lb_common::{
    name,
    range::{Admission, CidrKey},
    service::FrontendKind,
};

use super::{
    admission::admitted,
    eligible::{Join, Role},
    port::{Frontend, Owner, Port, PortName},
};
use crate::{
    fnv::fnv1a,
    model::{
        Family, ObjectName,
        node::Node,
        rules::Rules,
        service::{Service, ServicePort, TrafficPolicy},
        slices::Slices,
    },
};

/// What the ports of a Service have in common in one family.
struct Shared<'a> {
    service: &'a Service,
    family: Family,
    join: Join<'a>,
    node: &'a Node,
    admitted: Option<Arc<[(CidrKey, Admission)]>>,
    rules: Rules,
}

/// The service ports of a Service, IPv4 first, in the Service's order. A family without
/// ClusterIP has none (FAM-02); ports are independent of each other (SVC-09).
pub fn compile_service(service: &Service, slices: &Slices, node: &Node, rules: Rules) -> Vec<Port> {
    let families = Family::ALL.into_iter().filter(|&family| service.cluster_ip(family).is_some());
    families
        .flat_map(|family| {
            let join = Join::new(slices.iter(), family);
            let admitted = admitted(service, family, node);
            let shared = Shared { service, family, join, node, admitted, rules };
            service.ports.iter().enumerate().map(move |(at, port)| compile_port(&shared, at, port))
        })
        .collect()
}

fn compile_port(shared: &Shared<'_>, at: usize, port: &ServicePort) -> Port {
    let Shared { service, family, join, node, admitted, .. } = shared;
    let claims = claims(shared, at, port);
    let needed = needed(service, &claims);
    Port {
        owner: Arc::new(Owner {
            created_secs: service.created_secs,
            service: service.name.clone(),
            name: PortName { text: text(&service.name, port), family: *family },
        }),
        protocol: port.protocol,
        endpoints: join.endpoints(&port.name, port.protocol, needed, node),
        claims,
        internal: service.internal_policy,
        external: service.external_policy,
        affinity_secs: service.affinity_secs.unwrap_or(0),
        choice: service.choice,
        admitted: admitted.clone(),
    }
}

/// The frontends of one port and family. An address under two headings is claimed once: the
/// load balancer's heading goes before externalIPs, since source ranges guard it (LB-06). The
/// first port has what says that the ClusterIP is one.
fn claims(shared: &Shared<'_>, at: usize, port: &ServicePort) -> Box<[(Frontend, FrontendKind)]> {
    let &Shared { service, family, rules, .. } = shared;
    let external_ips = if rules.external_ips { &*service.external_ips } else { &[] };
    let headings = [
        (FrontendKind::ClusterIp, &*service.cluster_ips),
        (FrontendKind::LoadBalancer, &service.load_balancer_ips),
        (FrontendKind::ExternalIp, external_ips),
    ];
    let addresses = headings.into_iter().flat_map(|(kind, addresses)| {
        let own = addresses.iter().filter(move |&&address| Family::of(address) == family);
        own.filter_map(move |&address| {
            Some((Frontend::new(address, port.port, port.protocol)?, kind))
        })
    });
    let node_port = port.node_port.and_then(|number| {
        Some((Frontend::node_port(family, number, port.protocol)?, FrontendKind::NodePort))
    });
    let any_port = service.cluster_ip(family).filter(|_| rules.guard_cluster_ips && at == 0);
    let any_port = any_port.and_then(Frontend::any_port).map(|it| (it, FrontendKind::ClusterIp));
    let mut claims: Vec<_> = addresses.chain(node_port).chain(any_port).collect();
    claims.sort_by_key(|(frontend, _)| *frontend);
    claims.dedup_by_key(|(frontend, _)| *frontend);
    claims.into()
}

/// The sets that the frontends lead to (TRP-01, TRP-03).
fn needed(service: &Service, claims: &[(Frontend, FrontendKind)]) -> Role {
    let has_external = claims.iter().any(|(_, kind)| *kind != FrontendKind::ClusterIp);
    let mut needed = match service.internal_policy {
        TrafficPolicy::Cluster => Role::CLUSTER,
        TrafficPolicy::Local => Role::LOCAL,
    };
    needed.set(Role::CLUSTER, needed.contains(Role::CLUSTER) || has_external);
    if has_external && service.external_policy == TrafficPolicy::Local {
        needed |= Role::LOCAL;
    }
    needed
}

/// The name in NAMES; unique among all service ports of a family, and never longer than NAMES
/// can hold.
fn text(service: &ObjectName, port: &ServicePort) -> Arc<str> {
    let mut text = format!("{}/{}", plain(&service.namespace), plain(&service.name));
    if !port.name.is_empty() {
        text.push(':');
        text.push_str(&plain(&port.name));
    }
    // Writing to a String cannot fail.
    let _ = write!(text, "/{}", port.protocol);
    if text.len() > name::CAPACITY {
        let hash = fnv1a(text.bytes());
        text.truncate(text.floor_char_boundary(name::CAPACITY - HASH_LEN));
        let _ = write!(text, "~{hash:016x}");
    }
    text.into()
}

/// A name without the separators. The API server lets none through; a file may hold any.
fn plain(name: &str) -> Cow<'_, str> {
    if name.contains(['/', ':', '%']) {
        name.replace('%', "%25").replace('/', "%2F").replace(':', "%3A").into()
    } else {
        name.into()
    }
}

/// `~` and 16 hexadecimal digits.
const HASH_LEN: usize = 17;

#[cfg(test)]
mod tests;
