// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From what a case says of its objects to what the API server is asked to hold.
//!
//! A Service that says nothing has a ClusterIP of each family and one port, 80 to 8080, TCP
//! and UDP, with a node port of its own where its type has some. Its slices name it, and no
//! controller knows them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use lab::{objects::NAMESPACE, wire::Family};
use serde_json::{Map, Value, json};

use crate::{
    address::Book,
    bed::Servers,
    topic::{Endpoint, Ingress, Listed, Net, Objects},
};

/// The objects of a case as the API server should hold them.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The Service, status and all.
    pub(crate) service: Service,
    /// Its slices, by name.
    pub(crate) slices: BTreeMap<String, EndpointSlice>,
}

impl Net {
    /// Both.
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The same for sockets.
    pub(crate) const fn family(self) -> Family {
        match self {
            Self::V4 => Family::V4,
            Self::V6 => Family::V6,
        }
    }

    /// The same in an object.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl Listed {
    /// All that it says.
    pub(crate) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Full(endpoint) => (**endpoint).clone(),
            Self::Ready(pod) => Endpoint {
                pod: pod.clone(),
                ready: Some(true),
                serving: None,
                terminating: None,
                zones: Vec::new(),
                nodes: Vec::new(),
                node: None,
                slice: 0,
                port: None,
                families: None,
                more: Vec::new(),
            },
        }
    }
}

impl Objects {
    /// This with what a change says in its place.
    pub(crate) fn changed(&self, change: &Self) -> Self {
        fn merged(
            old: Option<&Map<String, Value>>,
            new: Option<&Map<String, Value>>,
        ) -> Map<String, Value> {
            let mut fields = old.cloned().unwrap_or_default();
            fields.extend(new.cloned().unwrap_or_default());
            fields
        }
        Self {
            service: Some(merged(self.service.as_ref(), change.service.as_ref())),
            labels: Some(merged(self.labels.as_ref(), change.labels.as_ref())),
            families: change.families.clone().or_else(|| self.families.clone()),
            ingress: change.ingress.clone().or_else(|| self.ingress.clone()),
            external_ips: change.external_ips.clone().or_else(|| self.external_ips.clone()),
            endpoints: change.endpoints.clone().or_else(|| self.endpoints.clone()),
            slice_ports: change.slice_ports.clone().or_else(|| self.slice_ports.clone()),
            slice_labels: Some(merged(self.slice_labels.as_ref(), change.slice_labels.as_ref())),
            listener: self.listener,
            on_node: self.on_node.clone(),
        }
    }

    /// Families of the Service.
    pub(crate) fn nets(&self) -> Vec<Net> {
        self.families.clone().unwrap_or_else(|| Net::BOTH.to_vec())
    }

    /// The objects of the case of that name.
    ///
    /// # Errors
    /// When a field is none of Kubernetes', or a name is nobody's.
    pub(crate) fn wanted(&self, case: &str, book: &Book, servers: &Servers) -> Result<Wanted> {
        let spec = self.spec(case, book)?;
        let ports = spec.get("ports").and_then(Value::as_array).cloned().unwrap_or_default();
        let service = json!({
            "metadata": {
                "name": case,
                "namespace": NAMESPACE,
                "labels": without_nulls(self.labels.clone().unwrap_or_default().into()),
            },
            "spec": spec,
            "status": { "loadBalancer": { "ingress": self.balancers(case, book)? } },
        });
        let service = serde_json::from_value(service).context("a field of `service`")?;
        let slice_ports = self.slice_ports.clone().unwrap_or_else(|| targets(&ports));
        let slices = self.slices(case, servers, &slice_ports)?;
        Ok(Wanted { service, slices })
    }

    /// The Service's spec.
    fn spec(&self, case: &str, book: &Book) -> Result<Map<String, Value>> {
        let own = self.service.clone().unwrap_or_default();
        let nets = self.nets();
        let ips = self.each_family(|family| book.address(case, "cluster-ip", family))?;
        let mut spec = Map::new();
        spec.insert("type".to_owned(), json!("ClusterIP"));
        spec.insert("ipFamilies".to_owned(), nets.iter().map(|net| net.name()).collect());
        let policy = if nets.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        spec.insert("ipFamilyPolicy".to_owned(), json!(policy));
        spec.insert("clusterIP".to_owned(), json!(ips.first()));
        spec.insert("clusterIPs".to_owned(), json!(ips));
        if let Some(names) = &self.external_ips {
            let mut ips = Vec::new();
            for name in names {
                ips.extend(self.each_family(|family| book.address(case, name, family))?);
            }
            spec.insert("externalIPs".to_owned(), json!(ips));
        }
        let kind = own.get("type").and_then(Value::as_str).unwrap_or("ClusterIP");
        let has_node_ports = ["NodePort", "LoadBalancer"].contains(&kind);
        let node_port = has_node_ports.then(|| book.node_port(case)).transpose()?;
        let ports = [("tcp", "TCP"), ("udp", "UDP")].map(|(name, protocol)| {
            let port = json!({
                "name": name, "protocol": protocol, "port": 80, "targetPort": 8080,
                "nodePort": node_port,
            });
            without_nulls(port)
        });
        spec.insert("ports".to_owned(), json!(ports));
        let local = own.get("externalTrafficPolicy").is_some_and(|policy| policy == "Local");
        if kind == "LoadBalancer" && local {
            spec.insert("healthCheckNodePort".to_owned(), json!(book.health_port(case)?));
        }
        spec.extend(own);
        Ok(spec)
    }

    /// The load balancer's addresses.
    fn balancers(&self, case: &str, book: &Book) -> Result<Vec<Value>> {
        let mut ingress = Vec::new();
        for entry in self.ingress.iter().flatten() {
            let (at, mode) = match entry {
                Ingress::Plain(at) => (Some(at), None),
                Ingress::Full { at, mode } => (at.as_ref(), mode.as_ref()),
            };
            let Some(at) = at else {
                ingress.push(json!({ "hostname": "balancer.example" }));
                continue;
            };
            for ip in self.each_family(|family| book.address(case, at, family))? {
                ingress.push(without_nulls(json!({ "ip": ip, "ipMode": mode })));
            }
        }
        Ok(ingress)
    }

    /// Its slices: one a family, a `slice` number and a port of their own.
    fn slices(
        &self,
        case: &str,
        servers: &Servers,
        ports: &[Value],
    ) -> Result<BTreeMap<String, EndpointSlice>> {
        let endpoints: Vec<_> = self.endpoints.iter().flatten().map(Listed::endpoint).collect();
        let places: BTreeSet<_> =
            endpoints.iter().map(|endpoint| (endpoint.slice, endpoint.port)).collect();
        let mut slices = BTreeMap::new();
        for (net, (slice, port)) in
            self.nets().into_iter().flat_map(|net| places.iter().map(move |part| (net, *part)))
        {
            let name =
                format!("{case}-{}-{slice}-{}", net.name().to_lowercase(), port.unwrap_or(0));
            let listed = endpoints.iter().filter(|endpoint| {
                (endpoint.slice, endpoint.port) == (slice, port)
                    && endpoint.families.as_ref().is_none_or(|nets| nets.contains(&net))
            });
            let listed: Vec<_> =
                listed.map(|endpoint| servers.listed(endpoint, net)).collect::<Result<_>>()?;
            let ports = ports.iter().map(|own| match (port, own.clone()) {
                (Some(port), Value::Object(mut own)) => {
                    own.insert("port".to_owned(), json!(port));
                    Value::Object(own)
                }
                (_, own) => own,
            });
            let mut labels = json!({
                "kubernetes.io/service-name": case,
                "endpointslice.kubernetes.io/managed-by": "parity",
            });
            if let (Value::Object(labels), Some(own)) = (&mut labels, &self.slice_labels) {
                labels.extend(own.clone());
            }
            let slice = json!({
                "metadata": {
                    "name": name, "namespace": NAMESPACE, "labels": without_nulls(labels),
                },
                "addressType": net.name(),
                "endpoints": listed,
                "ports": ports.collect::<Vec<_>>(),
            });
            let slice = serde_json::from_value(slice).context("a field of a slice")?;
            slices.insert(name, slice);
        }
        Ok(slices)
    }

    /// An address of each of the Service's families, as text.
    fn each_family<T: ToString>(
        &self,
        address: impl Fn(Family) -> Result<T>,
    ) -> Result<Vec<String>> {
        self.nets().iter().map(|net| Ok(address(net.family())?.to_string())).collect()
    }
}

/// A Service's ports as its slices list them.
fn targets(ports: &[Value]) -> Vec<Value> {
    let target = |port: &Value| {
        without_nulls(json!({
            "name": port.get("name").cloned().unwrap_or_else(|| json!("")),
            "protocol": port.get("protocol"),
            "port": port.get("targetPort").or_else(|| port.get("port")),
        }))
    };
    ports.iter().map(target).collect()
}

/// An object without the fields that are null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}
