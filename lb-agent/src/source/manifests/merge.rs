// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The objects of all files together, and what a changed file changes of them.
//!
//! A file that changes costs by its own objects, not by those of the directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::parse::{Content, Located, Manifest};
use crate::{
    model::{
        ObjectName,
        change::{Change, Listing, NodeObject, Object},
        node::Node,
        pod::Pod,
    },
    source::{convert, error::ManifestProblem},
};

/// The objects of a directory.
#[derive(Debug)]
pub(super) struct Merged {
    node_name: Arc<str>,
    /// Of pods that are marked by it.
    runtime_classes: BTreeSet<String>,
    files: BTreeMap<Arc<Path>, Held>,
    /// Who has an object of this name: in the order of the files' names, then of the lines.
    /// The first counts, so that it does not matter which file was written last.
    claims: BTreeMap<Key, Vec<Claim>>,
    /// The keys with more than one claim.
    contested: BTreeSet<Key>,
    /// What counted for the keys that changed since changes were taken last.
    before: BTreeMap<Key, Option<Manifest>>,
}

/// A problem's file and line.
pub(super) type Problem = (PathBuf, u64, ManifestProblem);

/// What a file holds.
#[derive(Debug)]
struct Held {
    keys: BTreeSet<Key>,
    problems: Vec<(u64, ManifestProblem)>,
}

/// One object of one file.
#[derive(Debug)]
struct Claim {
    file: Arc<Path>,
    line: u64,
    object: Manifest,
}

/// What must be one of a kind.
type Key = (Kind, ObjectName);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Service,
    Slice,
    Node,
    ServiceCidr,
    Pod,
}

impl Merged {
    pub(super) fn new(node_name: Arc<str>, runtime_classes: BTreeSet<String>) -> Self {
        Self {
            node_name,
            runtime_classes,
            files: BTreeMap::new(),
            claims: BTreeMap::new(),
            contested: BTreeSet::new(),
            before: BTreeMap::new(),
        }
    }

    /// The files that hold something.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(AsRef::as_ref)
    }

    /// A file holds this now, and nothing of what it held.
    pub(super) fn put(&mut self, path: &Path, content: Content) {
        self.remove(path);
        let file: Arc<Path> = path.into();
        let mut held = Held { keys: BTreeSet::new(), problems: content.problems };
        for Located { line, object } in content.objects {
            let key = key_of(&object);
            self.keep(&key);
            let claims = self.claims.entry(key.clone()).or_default();
            let at = claims.partition_point(|claim| (&*claim.file, claim.line) <= (path, line));
            claims.insert(at, Claim { file: file.clone(), line, object });
            if claims.len() > 1 {
                self.contested.insert(key.clone());
            }
            held.keys.insert(key);
        }
        self.files.insert(file, held);
    }

    /// A file is gone.
    pub(super) fn remove(&mut self, path: &Path) {
        let Some(held) = self.files.remove(path) else { return };
        for key in &held.keys {
            self.keep(key);
            let Some(claims) = self.claims.get_mut(key) else { continue };
            claims.retain(|claim| *claim.file != *path);
            if claims.len() < 2 {
                self.contested.remove(key);
            }
            if claims.is_empty() {
                self.claims.remove(key);
            }
        }
    }

    /// What changed since this was asked last.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let before = mem::take(&mut self.before);
        let changed = before.into_iter().filter_map(|(key, before)| {
            let now = self.winner(&key);
            (now != before.as_ref()).then(|| self.change(key.1.clone(), key.0, now))
        });
        changed.flatten().collect()
    }

    /// Everything, as a source's first word.
    pub(super) fn listing(&self) -> Listing {
        let (mut services, mut slices, mut cidrs, mut pods) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for claim in self.claims.values().filter_map(|claims| claims.first()) {
            match &claim.object {
                Manifest::Service(object) => services.push(Object::clone(object)),
                Manifest::Slice(object) => slices.push(Object::clone(object)),
                Manifest::ServiceCidr(object) => cidrs.push(Object::clone(object)),
                Manifest::Pod(object) => pods.push(self.pod(object)),
                Manifest::Node(_) => {}
            }
        }
        let own = self.winner(&(Kind::Node, ObjectName::new("", self.node_name.clone())));
        let node = Some(self.this_node(own));
        let (service_cidrs, pods) = (Some(cidrs), Some(pods));
        Listing { services: Some(services), slices: Some(slices), node, service_cidrs, pods }
    }

    /// What is ignored, by file and line.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let of_files = self.files.iter().flat_map(|(path, held)| {
            held.problems.iter().map(|(line, problem)| (path.to_path_buf(), *line, problem.clone()))
        });
        let duplicates = self.contested.iter().flat_map(|key| {
            let mut claims = self.claims.get(key).into_iter().flatten();
            let first = claims.next().map(|claim| claim.file.to_path_buf()).unwrap_or_default();
            claims.map(move |claim| {
                let (kind, object) = (key.0.name(), key.1.clone());
                let problem = ManifestProblem::Duplicate { kind, object, first: first.clone() };
                (claim.file.to_path_buf(), claim.line, problem)
            })
        });
        of_files.chain(duplicates).collect()
    }

    /// Keeps what counts for a key that is about to change.
    fn keep(&mut self, key: &Key) {
        if !self.before.contains_key(key) {
            self.before.insert(key.clone(), self.winner(key).cloned());
        }
    }

    fn winner(&self, key: &Key) -> Option<&Manifest> {
        self.claims.get(key)?.first().map(|claim| &claim.object)
    }

    /// The change that makes `now` of an object; none for the Node of another node.
    fn change(&self, name: ObjectName, kind: Kind, now: Option<&Manifest>) -> Option<Change> {
        match (kind, now) {
            (_, Some(Manifest::Service(object))) => Some(Change::Service(Object::clone(object))),
            (_, Some(Manifest::Slice(object))) => Some(Change::Slice(Object::clone(object))),
            (_, Some(Manifest::ServiceCidr(object))) => {
                Some(Change::ServiceCidr(Object::clone(object)))
            }
            (_, Some(Manifest::Pod(object))) => Some(Change::Pod(self.pod(object))),
            (Kind::Pod, _) => Some(Change::Pod(Object::gone(name))),
            (Kind::ServiceCidr, _) => Some(Change::ServiceCidr(Object::gone(name))),
            (Kind::Service, _) => Some(Change::Service(Object::gone(name))),
            (Kind::Slice, _) => Some(Change::Slice(Object::gone(name))),
            (Kind::Node, now) => {
                (name.name == self.node_name).then(|| Change::Node(self.this_node(now)))
            }
        }
    }

    /// What a pod is to this node.
    fn pod(&self, object: &convert::Pod) -> Object<Pod> {
        convert::pod(object, &self.node_name, &self.runtime_classes)
    }

    /// This node, which has a name also where no file has it.
    fn this_node(&self, object: Option<&Manifest>) -> NodeObject {
        match object {
            Some(Manifest::Node(object)) => NodeObject::clone(object),
            _ => NodeObject { node: Node::named(self.node_name.clone()), issues: Vec::new() },
        }
    }
}

impl Kind {
    /// As `kind` of a manifest says it.
    const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Pod => "Pod",
        }
    }
}

fn key_of(object: &Manifest) -> Key {
    match object {
        Manifest::Service(object) => (Kind::Service, object.name.clone()),
        Manifest::Slice(object) => (Kind::Slice, object.name.clone()),
        Manifest::ServiceCidr(object) => (Kind::ServiceCidr, object.name.clone()),
        Manifest::Pod(object) => (Kind::Pod, object.name()),
        Manifest::Node(object) => (Kind::Node, ObjectName::new("", object.node.name.clone())),
    }
}

#[cfg(test)]
mod tests;
