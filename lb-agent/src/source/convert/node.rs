// SPDX-License-Identifier: Apache-2.0 OR MIT
//! v1 Node: this one.

use k8s_openapi::api::core::v1 as core;

use super::{
    Complaints,
    address::{addresses, is_own},
    label, object_name,
};
use crate::model::{change::NodeObject, issue::ObjectKind, node::Node};

/// Reads the Node object of this node.
pub fn node(object: &core::Node) -> NodeObject {
    let name = object_name(&object.metadata);
    let mut complaints = Complaints::new(ObjectKind::Node, &name);
    let listed = object.status.as_ref().and_then(|status| status.addresses.as_deref());
    let listed = listed.unwrap_or_default();
    // NP-03: InternalIPs come before ExternalIPs.
    let texts = ["InternalIP", "ExternalIP"].into_iter().flat_map(|kind| {
        let of_kind = listed.iter().enumerate().filter(move |(_, entry)| entry.type_ == kind);
        of_kind.map(|(at, entry)| (format!("status.addresses[{at}]"), entry.address.as_str()))
    });
    let node = Node {
        name: name.name.clone(),
        zone: label(&object.metadata, ZONE_LABEL).map(Into::into),
        addresses: addresses(texts, is_own, &mut complaints),
        eligible: is_eligible(object),
    };
    NodeObject { node, issues: complaints.finish() }
}

/// HLZ-05; other taints and unschedulable do not matter.
fn is_eligible(object: &core::Node) -> bool {
    let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    object.metadata.deletion_timestamp.is_none()
        && taints.iter().all(|taint| taint.key != DELETION_TAINT)
}

/// The zone that topology hints name (TOP-07).
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The cluster autoscaler is about to delete a node with this taint (HLZ-05).
const DELETION_TAINT: &str = "ToBeDeletedByClusterAutoscaler";
