// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kubernetes objects become model values; nothing else reads their fields.
//!
//! ```text
//! k8s_openapi::Service | EndpointSlice | Node | ServiceCIDR, Pod ─► model::Object + Issues
//! ```
//!
//! Total: any object gives a result. What cannot be used is left out and becomes an Issue;
//! its siblings are not affected (COL-05).

mod address;
mod defaults;
#[cfg(test)]
pub(crate) mod fixture;
mod node;
mod pod;
mod service;
mod service_cidr;
mod slice;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::{
    ObjectName,
    issue::{Issue, ObjectKind, Problem},
};

pub use defaults::{default_service, default_slice};
pub use node::node;
pub use pod::{Pod, SOCKETS_LABEL, pod};
pub use service::service;
pub use service_cidr::service_cidr;
pub use slice::slice;

/// Namespace and name of an object; empty where it has none.
pub fn object_name(meta: &ObjectMeta) -> ObjectName {
    let text = |value: &Option<String>| value.as_deref().unwrap_or_default().into();
    ObjectName { namespace: text(&meta.namespace), name: text(&meta.name) }
}

/// The issues of one object while it is read.
struct Complaints {
    kind: ObjectKind,
    object: ObjectName,
    issues: Vec<Issue>,
    /// How many more there were than are kept.
    more: usize,
}

impl Complaints {
    fn new(kind: ObjectKind, object: &ObjectName) -> Self {
        Self { kind, object: object.clone(), issues: Vec::new(), more: 0 }
    }

    /// Notes what is wrong with the field at a path. An object can be wrong in thousands of
    /// places; the first few tell it, the rest is counted.
    fn add(&mut self, field: impl Into<String>, problem: Problem) {
        if self.issues.len() < MAX_ISSUES {
            let field = field.into();
            self.issues.push(Issue {
                kind: self.kind,
                object: self.object.clone(),
                field,
                problem,
            });
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<Issue> {
        if self.more > 0 {
            let problem = Problem::More { count: self.more };
            self.issues.push(Issue {
                kind: self.kind,
                object: self.object,
                field: "*".to_owned(),
                problem,
            });
        }
        self.issues
    }
}

/// Whether the object carries the label, whatever its value (SVC-02, EPS-01).
fn has_label(meta: &ObjectMeta, label: &str) -> bool {
    meta.labels.as_ref().is_some_and(|labels| labels.contains_key(label))
}

/// A label's value; `None` if it is absent or empty.
fn label<'a>(meta: &'a ObjectMeta, label: &str) -> Option<&'a str> {
    let value = meta.labels.as_ref()?.get(label)?;
    (!value.is_empty()).then_some(value)
}

/// The name that an object must have to be served.
fn nameless(name: &ObjectName) -> Option<Problem> {
    if name.name.is_empty() {
        return Some(Problem::Nameless { field: "metadata.name" });
    }
    name.namespace.is_empty().then_some(Problem::Nameless { field: "metadata.namespace" })
}

/// How many issues of one object are kept one by one.
const MAX_ISSUES: usize = 20;

#[cfg(test)]
mod tests;
