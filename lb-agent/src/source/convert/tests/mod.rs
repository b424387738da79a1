// SPDX-License-Identifier: Apache-2.0 OR MIT
mod hostile;
mod node;
mod service;
mod slice;

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use serde_json::{Value, json};

use crate::model::issue::Issue;

/// A Service `default/web` with a ClusterIP and one port, changed by `patch`: objects are
/// merged, null takes a field away, anything else replaces.
fn service_of(patch: Value) -> core::Service {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1"],
            "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
        },
    });
    merge(&mut object, patch);
    serde_json::from_value(object).unwrap()
}

/// The same for a slice `default/web-1` of that Service.
fn slice_of(patch: Value) -> discovery::EndpointSlice {
    let mut object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": [{"addresses": ["10.244.1.2"]}],
    });
    merge(&mut object, patch);
    serde_json::from_value(object).unwrap()
}

fn merge(object: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) => {
            for (key, value) in patch {
                if value.is_null() {
                    object.as_object_mut().unwrap().remove(&key);
                } else {
                    merge(&mut object[key], value);
                }
            }
        }
        value => *object = value,
    }
}

/// Each issue as an operator reads it.
fn told(issues: &[Issue]) -> Vec<String> {
    issues.iter().map(ToString::to_string).collect()
}
