// SPDX-License-Identifier: Apache-2.0 OR MIT
//! v1 Pod: those of this node whose sockets are left alone.
//!
//! Of the largest object of all, only a few fields are read: the rest is never in memory.

use std::{borrow::Cow, collections::BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;

use super::{Complaints, address::addresses, address::is_special, label, nameless, object_name};
use crate::model::{
    ObjectName,
    change::Object,
    issue::ObjectKind,
    pod::{Mark, Pod as Marked},
};

/// A v1 Pod, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Pod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

/// What is read of a Pod's spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    /// It has the node's network, and no interface of its own.
    #[serde(default)]
    host_network: bool,
    runtime_class_name: Option<String>,
}

/// What is read of a Pod's status.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct Status {
    /// `Succeeded` and `Failed` are the end.
    phase: Option<String>,
    #[serde(default, rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

/// One address.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct PodIp {
    #[serde(default)]
    ip: String,
}

impl Pod {
    /// Its namespace and name.
    pub fn name(&self) -> ObjectName {
        object_name(&self.metadata)
    }
}

impl kube::Resource for Pod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Reads a Pod; without a value if it is not of this node, not marked, has the node's network,
/// or has ended: its address may be another pod's then.
pub fn pod(object: &Pod, node: &str, runtime_classes: &BTreeSet<String>) -> Object<Marked> {
    let Pod { spec, status, .. } = object;
    let name = object.name();
    let mut complaints = Complaints::new(ObjectKind::Pod, &name);
    let runs_here = spec.node_name.as_deref() == Some(node)
        && !spec.host_network
        && !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let mark = mark(object, runtime_classes).filter(|_| runs_here && nameless(&name).is_none());
    let value = mark.map(|mark| {
        let texts = status.pod_ips.iter().enumerate();
        let texts = texts.map(|(at, it)| (format!("status.podIPs[{at}].ip"), it.ip.as_str()));
        Marked { addresses: addresses(texts, is_special, &mut complaints), mark }
    });
    Object { name, value, issues: complaints.finish() }
}

fn mark(object: &Pod, runtime_classes: &BTreeSet<String>) -> Option<Mark> {
    if label(&object.metadata, SOCKETS_LABEL) == Some("false") {
        return Some(Mark::Label);
    }
    let class = object.spec.runtime_class_name.as_deref()?;
    runtime_classes.contains(class).then(|| Mark::RuntimeClass(class.into()))
}

/// The label that, with the value "false", leaves a pod's sockets alone.
pub const SOCKETS_LABEL: &str = "sluice.dev/socket-lb";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: &Value, labels: &Value, phase: &str) -> Option<Marked> {
        let ips = json!([{"ip": "10.244.1.7"}, {"ip": "fd00::7"}, {"ip": "127.0.0.1"}]);
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": "default", "name": "p", "labels": labels},
            "spec": spec,
            "status": {"phase": phase, "podIP": "10.244.1.7", "podIPs": ips},
        });
        let classes = ["kata".to_owned()].into();
        let object = pod(&serde_json::from_value(object).unwrap(), "n1", &classes);
        assert_eq!(object.issues.len(), usize::from(object.value.is_some()), "{object:?}");
        object.value
    }

    #[test]
    fn a_pod_of_this_node_is_marked_by_its_label_or_its_runtime_class() {
        let off = json!({"sluice.dev/socket-lb": "false"});
        let here = json!({"nodeName": "n1"});
        let found = read(&here, &off, "Running").unwrap();
        let addresses: Vec<_> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            (found.mark, addresses),
            (Mark::Label, ["10.244.1.7", "fd00::7"].map(str::to_owned).to_vec())
        );
        let kata = json!({"nodeName": "n1", "runtimeClassName": "kata"});
        let found = read(&kata, &json!({}), "Pending").unwrap();
        assert_eq!(found.mark.to_string(), "runtime class kata");
    }

    #[test]
    fn all_others_are_no_concern() {
        let off = json!({"sluice.dev/socket-lb": "false"});
        for (spec, labels, phase) in [
            (json!({"nodeName": "n1"}), json!({}), "Running"),
            (json!({"nodeName": "n1"}), json!({"sluice.dev/socket-lb": "true"}), "Running"),
            (json!({"nodeName": "n1", "runtimeClassName": "runc"}), json!({}), "Running"),
            (json!({"nodeName": "n2"}), off.clone(), "Running"),
            (json!({}), off.clone(), "Pending"),
            (json!({"nodeName": "n1", "hostNetwork": true}), off.clone(), "Running"),
            (json!({"nodeName": "n1"}), off.clone(), "Succeeded"),
            (json!({"nodeName": "n1"}), off, "Failed"),
        ] {
            assert_eq!(read(&spec, &labels, phase), None, "{spec} {labels} {phase}");
        }
    }
}
