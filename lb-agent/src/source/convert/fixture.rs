// SPDX-License-Identifier: Apache-2.0 OR MIT
//! For tests of other rooms: JSON becomes what a source would make of it.

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use serde_json::Value;

use crate::model::change::{Change, Object};

/// What becomes of an object that was put; `None` if its JSON is not of the type that its
/// `kind` names. `is_manifest`: as a file's, else as the API server's.
pub(crate) fn change(object: &Value, is_manifest: bool) -> Option<Change> {
    let object = object.clone();
    Some(match object["kind"].as_str()? {
        "Service" => {
            let mut object: core::Service = serde_json::from_value(object).ok()?;
            if is_manifest {
                super::default_service(&mut object);
            }
            Change::Service(super::service(&object))
        }
        "EndpointSlice" => {
            let mut object: discovery::EndpointSlice = serde_json::from_value(object).ok()?;
            if is_manifest {
                super::default_slice(&mut object);
            }
            Change::Slice(super::slice(&object))
        }
        "Node" => Change::Node(super::node(&serde_json::from_value(object).ok()?)),
        _ => return None,
    })
}

/// What becomes of it when it is gone; nothing of a Node.
pub(crate) fn gone(change: &Change) -> Option<Change> {
    match change {
        Change::Service(object) => Some(Change::Service(Object::gone(object.name.clone()))),
        Change::Slice(object) => Some(Change::Slice(Object::gone(object.name.clone()))),
        Change::ServiceCidr(object) => Some(Change::ServiceCidr(Object::gone(object.name.clone()))),
        Change::Pod(object) => Some(Change::Pod(Object::gone(object.name.clone()))),
        Change::Node(_) | Change::NodeAddresses(_) | Change::Uplinks(_) | Change::Replace(_) => {
            None
        }
    }
}
