// SPDX-License-Identifier: Apache-2.0 OR MIT
//! networking.k8s.io/v1 ServiceCIDR.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as networking;

use super::{Complaints, address::parse_cidr, object_name};
use crate::model::{
    change::Object,
    issue::{ObjectKind, Problem},
};

/// Reads the networks of a ServiceCIDR, whatever its conditions say: kube-proxy takes them
/// all (CIP-05). One that holds all addresses is no place for ClusterIPs.
pub fn service_cidr(object: &networking::ServiceCIDR) -> Object<Vec<IpNet>> {
    let name = object_name(&object.metadata);
    let mut complaints = Complaints::new(ObjectKind::ServiceCidr, &name);
    let texts = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).enumerate();
    let mut cidrs = Vec::new();
    for (at, text) in texts {
        match parse_cidr(text.trim()).filter(|cidr| cidr.prefix_len() != 0) {
            Some(cidr) => cidrs.push(cidr),
            None => complaints
                .add(format!("spec.cidrs[{at}]"), Problem::ServiceCidr { value: text.clone() }),
        }
    }
    Object { name, value: Some(cidrs), issues: complaints.finish() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cip_05_the_networks_of_a_service_cidr_are_masked_and_what_is_none_is_told() {
        let cidrs = ["10.96.0.1/16", "fd00:96::/112", "0.0.0.0/0", "10.96.0.0"];
        let object = json!({ "metadata": { "name": "kubernetes" }, "spec": { "cidrs": cidrs } });
        let object = service_cidr(&serde_json::from_value(object).unwrap());
        let found: Vec<_> = object.value.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.96.0.0/16", "fd00:96::/112"]);
        let told: Vec<_> = object.issues.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2);
        assert!(told[0].starts_with("ServiceCIDR kubernetes: spec.cidrs[2]"), "{told:?}");
    }
}
