// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a source fares, for health, metrics and the log.

use std::{borrow::Cow, collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use tokio::sync::watch;

use super::error::{Error, Resource};

/// How a source fares now.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Whether everything was listed once, so that changes flow (SYN-01).
    pub listed: bool,
    /// What goes wrong now. What a place served last is served on (SYN-03).
    pub failures: BTreeMap<Place, Arc<Error>>,
    /// How many failures there were since the start, those that ended included.
    pub counts: BTreeMap<Failure, u64>,
}

/// What failed, as metrics call it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Failure {
    /// The resource with its group; or "addresses", "manifests".
    pub resource: &'static str,
    /// list, watch or read.
    pub verb: &'static str,
    /// An HTTP status, or a word for what was in the way.
    pub reason: Cow<'static, str>,
}

/// Where something goes wrong.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// The watch of a resource.
    Resource(Resource),
    /// This node's Node object.
    Node,
    /// This node's addresses.
    Addresses,
    /// A file of the manifests and a line of it; 0 is all of the file, or the directory.
    File(PathBuf, u64),
}

/// Writes the status, and logs each failure when it changes: once, not at every retry.
#[derive(Clone, Debug)]
pub(super) struct Reporter(watch::Sender<Status>);

impl Status {
    /// How many failures there were since the start.
    pub fn failures_total(&self) -> u64 {
        self.counts.values().sum()
    }
}

impl Reporter {
    pub(super) fn new() -> (Self, watch::Receiver<Status>) {
        let (sender, receiver) = watch::channel(Status::default());
        (Self(sender), receiver)
    }

    /// Everything was listed.
    pub(super) fn listed(&self) {
        self.0.send_if_modified(|status| !std::mem::replace(&mut status.listed, true));
    }

    /// Something goes wrong at a place.
    pub(super) fn failed(&self, place: &Place, error: Error) {
        self.0.send_if_modified(|status| {
            if let Some((verb, reason)) = error.cause() {
                let failure = Failure { resource: place.name(), verb, reason };
                *status.counts.entry(failure).or_default() += 1;
            }
            let text = error.chain();
            if status.failures.get(place).is_some_and(|known| known.chain() == text) {
                return false;
            }
            if error.is_done_without() {
                tracing::warn!(%place, reason = text, "done without");
            } else {
                tracing::error!(%place, error = text, "source failed");
            }
            status.failures.insert(place.clone(), Arc::new(error));
            true
        });
    }

    /// Nothing goes wrong at a place any more.
    pub(super) fn recovered(&self, place: &Place) {
        self.0.send_if_modified(|status| {
            let ended = status.failures.remove(place).is_some();
            if ended {
                tracing::info!(%place, "source recovered");
            }
            ended
        });
    }

    /// These, and only these, go wrong at files of the manifests.
    pub(super) fn files(&self, failures: BTreeMap<Place, Error>) {
        let gone: Vec<_> = {
            let status = self.0.borrow();
            let places = status.failures.keys();
            places
                .filter(|place| matches!(place, Place::File(..)) && !failures.contains_key(place))
                .cloned()
                .collect()
        };
        for place in gone {
            self.recovered(&place);
        }
        for (place, error) in failures {
            self.failed(&place, error);
        }
    }
}

impl Place {
    /// What metrics call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Resource(resource) => resource.name(),
            Self::Node => Resource::Nodes.name(),
            Self::Addresses => "addresses",
            Self::File(..) => "manifests",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(resource) => resource.fmt(f),
            Self::Node => f.write_str("node"),
            Self::Addresses => f.write_str("node addresses"),
            Self::File(path, _) => path.display().fmt(f),
        }
    }
}
