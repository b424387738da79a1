// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The objects of all files together, and what changed since the last time.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::parse::{Content, Located, Manifest};
use crate::{
    model::{
        ObjectName,
        change::{Change, Listing, NodeObject, Object},
        endpoint::EndpointSlice,
        node::Node,
        service::Service,
    },
    source::error::ManifestProblem,
};

/// The objects of a directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Merged {
    services: BTreeMap<ObjectName, Arc<Object<Service>>>,
    slices: BTreeMap<ObjectName, Arc<Object<EndpointSlice>>>,
    node: Arc<NodeObject>,
}

/// Where an object was seen first.
type Seen<'a> = BTreeMap<(&'static str, ObjectName), &'a PathBuf>;

/// A problem's file and line.
pub(super) type Problem = (PathBuf, u64, ManifestProblem);

/// Joins files in the order of their names. Of two objects of one name the first counts, so
/// that the result does not depend on which file was written last.
pub(super) fn merge(
    files: &BTreeMap<PathBuf, Content>,
    node_name: &Arc<str>,
) -> (Merged, Vec<Problem>) {
    let node = Node::named(node_name.clone());
    let mut merged =
        Merged { node: Arc::new(NodeObject { node, issues: Vec::new() }), ..Merged::default() };
    let mut problems = Vec::new();
    let mut seen = Seen::new();
    for (path, content) in files {
        let of_file = content.problems.iter();
        problems.extend(of_file.map(|(line, problem)| (path.clone(), *line, problem.clone())));
        for Located { line, object } in &content.objects {
            let (kind, name) = identity(object);
            if let Some(first) = seen.get(&(kind, name.clone())) {
                let first = (*first).clone();
                let problem = ManifestProblem::Duplicate { kind, object: name, first };
                problems.push((path.clone(), *line, problem));
            } else {
                seen.insert((kind, name.clone()), path);
                merged.add(name, object, node_name);
            }
        }
    }
    (merged, problems)
}

impl Merged {
    /// Everything, as a source's first word.
    pub(super) fn listing(&self) -> Listing {
        Listing {
            services: Some(self.services.values().map(|it| Object::clone(it)).collect()),
            slices: Some(self.slices.values().map(|it| Object::clone(it)).collect()),
            node: Some(NodeObject::clone(&self.node)),
        }
    }

    /// What must change so that `before` becomes this.
    pub(super) fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        changes.extend(difference(&before.services, &self.services).map(Change::Service));
        changes.extend(difference(&before.slices, &self.slices).map(Change::Slice));
        if self.node != before.node {
            changes.push(Change::Node(NodeObject::clone(&self.node)));
        }
        changes
    }

    /// Only the Node that is this one counts.
    fn add(&mut self, name: ObjectName, object: &Manifest, node_name: &Arc<str>) {
        match object {
            Manifest::Service(object) => {
                self.services.insert(name, object.clone());
            }
            Manifest::Slice(object) => {
                self.slices.insert(name, object.clone());
            }
            Manifest::Node(object) if object.node.name == *node_name => self.node = object.clone(),
            Manifest::Node(_) => {}
        }
    }
}

fn identity(object: &Manifest) -> (&'static str, ObjectName) {
    match object {
        Manifest::Service(object) => ("Service", object.name.clone()),
        Manifest::Slice(object) => ("EndpointSlice", object.name.clone()),
        Manifest::Node(object) => ("Node", ObjectName::new("", object.node.name.clone())),
    }
}

/// What was put and what is gone. An object of a file that was not read again is the same
/// allocation, and needs no look at its fields.
fn difference<T: Clone + PartialEq>(
    before: &BTreeMap<ObjectName, Arc<Object<T>>>,
    now: &BTreeMap<ObjectName, Arc<Object<T>>>,
) -> impl Iterator<Item = Object<T>> {
    let same = |a: &Arc<Object<T>>, b: &Arc<Object<T>>| Arc::ptr_eq(a, b) || a == b;
    let put = now
        .iter()
        .filter(move |(name, object)| before.get(name).is_none_or(|known| !same(known, object)))
        .map(|(_, object)| Object::clone(object));
    let gone = before.keys().filter(|name| !now.contains_key(name)).cloned().map(Object::gone);
    put.chain(gone)
}
