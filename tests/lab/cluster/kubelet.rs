// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab as kubelet and scheduler: Nodes, Pods and their status.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::{
    api::core::v1::{Container, Node as NodeObject, Pod as PodObject, PodSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use serde_json::json;

use super::Cluster;
use crate::{
    node::Node,
    objects::{self, NAMESPACE},
    pod::Pod,
    wait,
    wire::Family,
};

impl Cluster {
    /// Creates or renews the Node object of a lab's node.
    pub fn register(&self, node: &Node) -> Result<()> {
        let object = objects::node(node);
        self.api().apply(&NodeObject { status: None, ..object.clone() })?;
        self.api().write_status(&NodeObject { spec: None, ..object }).map(drop)
    }

    /// Creates the Pod object of a lab's pod, named like it, running and ready.
    pub fn run_pod(&self, pod: &Pod, labels: &[(&str, &str)]) -> Result<()> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let object = PodObject {
            metadata: ObjectMeta {
                name: Some(pod.name.clone()),
                namespace: Some(NAMESPACE.to_owned()),
                labels: Some(labels.collect()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some(pod.node.clone()),
                containers: vec![Container {
                    name: "serve".to_owned(),
                    image: Some("lab-pod".to_owned()),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
            status: None,
        };
        self.api().apply(&object)?;
        self.report(&pod.name, pod, true)
    }

    /// Gives a Pod object that a controller made (a Deployment's, say) a pod of
    /// the lab: binds it to that pod's node and reports it as running and ready.
    pub fn adopt(&self, object: &str, pod: &Pod) -> Result<()> {
        let target = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": object, "namespace": NAMESPACE },
            "target": { "apiVersion": "v1", "kind": "Node", "name": pod.node },
        });
        self.api().post::<PodObject>(Some(NAMESPACE), object, "binding", &target)?;
        self.report(object, pod, true)
    }

    /// Names of Pod objects with these labels that no node runs yet, once there
    /// are `count`.
    pub fn pending(&self, labels: &str, count: usize) -> Result<Vec<String>> {
        wait::for_value(CONTROLLER_LIMIT, &format!("{count} pending pods of {labels}"), || {
            let pods: Vec<PodObject> = self.api().list(Some(NAMESPACE), labels)?;
            let unbound = pods
                .into_iter()
                .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()));
            let names: Vec<_> = unbound.filter_map(|pod| pod.metadata.name).collect();
            anyhow::ensure!(names.len() == count, "there are {}", names.len());
            Ok(names)
        })
    }

    /// Reports a pod's readiness: what its probe would say.
    pub fn set_ready(&self, pod: &Pod, ready: bool) -> Result<()> {
        self.report(&pod.name, pod, ready)
    }

    /// Asks a pod to go: its endpoint drains until [`Cluster::forget_pod`].
    pub fn terminate(&self, object: &str) -> Result<()> {
        self.api().delete::<PodObject>(Some(NAMESPACE), object, Some(GRACE_SECS))
    }

    /// Removes a Pod object at once, as the kubelet does when its processes
    /// have ended.
    pub fn forget_pod(&self, object: &str) -> Result<()> {
        self.api().delete::<PodObject>(Some(NAMESPACE), object, Some(0))
    }

    /// The status that a kubelet would report of a pod.
    fn report(&self, object: &str, pod: &Pod, ready: bool) -> Result<()> {
        let ready = if ready { "True" } else { "False" };
        // What the EndpointSlice controller takes for the trigger of a change.
        let now = Time(Timestamp::now());
        let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(|kind| {
            let status = if kind.ends_with("Ready") { ready } else { "True" };
            json!({ "type": kind, "status": status, "lastTransitionTime": now })
        });
        let status = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": object, "namespace": NAMESPACE },
            "status": {
                "phase": "Running",
                "hostIP": pod.host,
                "podIP": pod.v4,
                "podIPs": Family::BOTH.map(|family| json!({ "ip": pod.address(family) })),
                "conditions": conditions,
            },
        });
        let status: PodObject = serde_json::from_value(status)?;
        self.api().write_status(&status).map(drop)
    }
}

/// How long a controller may take to make pods.
const CONTROLLER_LIMIT: Duration = Duration::from_secs(20);
/// Time that a terminating pod has, as by default.
const GRACE_SECS: u32 = 30;
