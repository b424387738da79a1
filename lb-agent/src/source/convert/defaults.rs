// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the API server would have filled into an object that a person wrote.
//!
//! Objects of a cluster have these fields; `--manifests` calls this first, so that both
//! sources see the same object.

use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// `namespace: default`; `clusterIPs` and `clusterIP` from each other; `ipFamilies` from the
/// addresses. A Service without a ClusterIP gets none: nobody here allocates.
pub fn default_service(object: &mut core::Service) {
    default_namespace(&mut object.metadata);
    let Some(spec) = &mut object.spec else { return };
    let texts = spec.cluster_ips.get_or_insert_default();
    match &spec.cluster_ip {
        None => spec.cluster_ip = texts.first().cloned(),
        Some(only) if texts.is_empty() => texts.push(only.clone()),
        Some(_) => {}
    }
    if spec.ip_families.as_ref().is_none_or(Vec::is_empty) {
        let family = |text: &String| if text.contains(':') { "IPv6" } else { "IPv4" };
        spec.ip_families = Some(texts.iter().map(|text| family(text).to_owned()).collect());
    }
}

/// `namespace: default`; an unnamed port's name and protocol (EPS-06).
pub fn default_slice(object: &mut discovery::EndpointSlice) {
    default_namespace(&mut object.metadata);
    for port in object.ports.iter_mut().flatten() {
        port.name.get_or_insert_default();
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
}

fn default_namespace(meta: &mut ObjectMeta) {
    if meta.namespace.as_deref().unwrap_or_default().is_empty() {
        meta.namespace = Some("default".to_owned());
    }
}
