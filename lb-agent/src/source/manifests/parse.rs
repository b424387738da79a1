// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The text of one file becomes its objects and what is wrong with it.

use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1 as core, discovery::v1 as discovery, networking::v1 as networking,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use serde_saphyr::{Options, Spanned};

use crate::{
    model::{
        change::{NodeObject, Object},
        endpoint::EndpointSlice,
        service::Service,
    },
    source::{
        convert::{Pod, default_service, default_slice, node, service, service_cidr, slice},
        error::ManifestProblem,
    },
};

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    /// Its objects, in order.
    pub(super) objects: Vec<Located>,
    /// What is ignored of it, with its line.
    pub(super) problems: Vec<(u64, ManifestProblem)>,
}

/// An object and the line on which it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Located {
    pub(super) line: u64,
    pub(super) object: Manifest,
}

/// An object that is read here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Manifest {
    Service(Arc<Object<Service>>),
    Slice(Arc<Object<EndpointSlice>>),
    Node(Arc<NodeObject>),
    ServiceCidr(Arc<Object<Vec<IpNet>>>),
    /// Which pods count is not for a file to say.
    Pod(Arc<Pod>),
}

/// One document, or one item of a list.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    items: Vec<Spanned<Value>>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

/// Reads the text of a file: any number of YAML documents, each an object or a list of them.
///
/// # Errors
/// The line and what is wrong there, if the text is not YAML or a field that is read has a
/// wrong type: then nothing of the file may be used, for it may be half written.
pub(super) fn parse(text: &str) -> Result<Content, (u64, ManifestProblem)> {
    let mut options = Options::default();
    // The files are the operator's own; a cluster of 10k Services exceeds the default budget.
    options.budget = None;
    // A Service may be called `n` or `on`.
    options.strict_booleans = true;
    let documents: Vec<Spanned<Document>> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| syntax(&error))?;
    let mut content = Content::default();
    for document in documents {
        content.add(document.referenced.line(), document.value)?;
    }
    Ok(content)
}

impl Content {
    fn add(&mut self, line: u64, document: Document) -> Result<(), (u64, ManifestProblem)> {
        let Document { api_version, kind, items, rest } = document;
        let of_item = match (api_version.as_str(), kind.as_str()) {
            ("v1", "List") => None,
            ("v1", "ServiceList") => Some("Service"),
            ("v1", "NodeList") => Some("Node"),
            ("v1", "PodList") => Some("Pod"),
            ("discovery.k8s.io/v1", "EndpointSliceList") => Some("EndpointSlice"),
            ("networking.k8s.io/v1", "ServiceCIDRList") => Some("ServiceCIDR"),
            _ => return self.object(line, &api_version, &kind, Value::Object(rest)),
        };
        for item in items {
            let line = item.referenced.line();
            // Items of a typed list need not repeat their kind.
            let text = |key: &str, default: &str| {
                item.value.get(key).and_then(Value::as_str).unwrap_or(default).to_owned()
            };
            let kind = text("kind", of_item.unwrap_or_default());
            let version = text("apiVersion", if of_item.is_some() { &api_version } else { "" });
            self.object(line, &version, &kind, item.value)?;
        }
        Ok(())
    }

    fn object(
        &mut self,
        line: u64,
        api_version: &str,
        kind: &str,
        mut value: Value,
    ) -> Result<(), (u64, ManifestProblem)> {
        if let Value::Object(fields) = &mut value {
            // The typed objects check both against what they are.
            fields.insert("apiVersion".to_owned(), api_version.into());
            fields.insert("kind".to_owned(), kind.into());
        }
        let object = match (api_version, kind) {
            ("v1", "Service") => {
                let mut object: core::Service = typed(line, value)?;
                default_service(&mut object);
                Manifest::Service(Arc::new(service(&object)))
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let mut object: discovery::EndpointSlice = typed(line, value)?;
                default_slice(&mut object);
                Manifest::Slice(Arc::new(slice(&object)))
            }
            ("networking.k8s.io/v1", "ServiceCIDR") => {
                let object: networking::ServiceCIDR = typed(line, value)?;
                Manifest::ServiceCidr(Arc::new(service_cidr(&object)))
            }
            ("v1", "Pod") => Manifest::Pod(Arc::new(typed::<Pod>(line, value)?)),
            ("v1", "Node") => Manifest::Node(Arc::new(node(&typed::<core::Node>(line, value)?))),
            _ => {
                let (kind, api_version) = (kind.to_owned(), api_version.to_owned());
                self.problems.push((line, ManifestProblem::Kind { kind, api_version }));
                return Ok(());
            }
        };
        if object.is_nameless() {
            self.problems.push((line, ManifestProblem::Nameless { kind: kind.to_owned() }));
        } else {
            self.objects.push(Located { line, object });
        }
        Ok(())
    }
}

impl Manifest {
    fn is_nameless(&self) -> bool {
        match self {
            Self::Service(object) => object.name.name.is_empty(),
            Self::Slice(object) => object.name.name.is_empty(),
            Self::Node(object) => object.node.name.is_empty(),
            Self::ServiceCidr(object) => object.name.name.is_empty(),
            Self::Pod(object) => object.name().name.is_empty(),
        }
    }
}

fn typed<T: DeserializeOwned>(line: u64, value: Value) -> Result<T, (u64, ManifestProblem)> {
    serde_json::from_value(value)
        .map_err(|error| (line, ManifestProblem::Syntax { message: error.to_string() }))
}

fn syntax(error: &serde_saphyr::Error) -> (u64, ManifestProblem) {
    let line = error.location().map_or(1, |at| at.line());
    (line, ManifestProblem::Syntax { message: error.without_snippet().to_string() })
}

#[cfg(test)]
mod tests;
