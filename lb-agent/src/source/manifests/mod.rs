// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `--manifests DIR`: the objects of a directory's YAML files, without a cluster.
//!
//! ```text
//! inotify ─► directory ─► parse each changed file ─► merge ─► Change
//! ```
//!
//! Files whose names end in .yaml, .yml or .json count, in the directory itself. A file that
//! is being written, or that does not parse, keeps its last good version.

mod directory;
mod merge;
mod parse;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::mpsc;

use self::{directory::Directory, merge::Merged, parse::parse};
use crate::{
    model::change::Change,
    source::{
        addresses::{Interfaces, NodePortAddresses},
        batch::Message,
        error::{Error, ManifestProblem},
        status::{Place, Reporter},
    },
};

/// The source of a directory.
pub(super) struct Manifests {
    directory: Directory,
    /// The last good version of each file.
    merged: Merged,
    /// Why the newest version of a file is not the one in `merged`.
    bad: BTreeMap<PathBuf, Bad>,
}

/// Why a file's newest version is not used.
enum Bad {
    /// It cannot be read.
    Unreadable(std::io::Error),
    /// It cannot be understood.
    Problem(u64, ManifestProblem),
}

/// A line of a manifest, from 1, and what is wrong there.
pub type Line = (u64, ManifestProblem);

/// What a node learns from the text of one manifest, as from a directory with only this file,
/// and what is ignored of it: its objects, and the addresses on which NodePorts answer if it
/// has those that its Node object names.
///
/// # Errors
/// The line and what is wrong there, if nothing of the text can be used.
pub fn read(text: &str, node_name: &str) -> Result<([Change; 2], Vec<Line>), Line> {
    let mut merged = Merged::new(node_name.into(), BTreeSet::new());
    merged.put(Path::new("manifest"), parse(text)?);
    let problems = merged.problems().into_iter().map(|(_, line, problem)| (line, problem));
    let listing = merged.listing();
    let node = listing.node.clone().unwrap_or_default().node;
    let addresses = node.addresses.iter().map(|address| (1, *address)).collect();
    let interfaces = Interfaces { addresses, ..Interfaces::default() };
    let addresses = NodePortAddresses::default().select(&node, &interfaces);
    let changes = [Change::NodeAddresses(addresses), Change::Replace(Box::new(listing))];
    Ok((changes, problems.collect()))
}

impl Manifests {
    /// Opens the directory and begins to follow its changes.
    ///
    /// # Errors
    /// [`Error::ManifestsDirectory`] if it cannot be read, [`Error::Inotify`] if it cannot be
    /// followed.
    pub(super) fn open(
        path: &Path,
        node_name: Arc<str>,
        runtime_classes: BTreeSet<String>,
    ) -> Result<Self, Error> {
        let directory = Directory::open(path)?;
        Ok(Self {
            directory,
            merged: Merged::new(node_name, runtime_classes),
            bad: BTreeMap::new(),
        })
    }

    /// Sends the directory's objects, then each change, until the receiver ends.
    pub(super) async fn run(mut self, messages: mpsc::Sender<Message>, reporter: Reporter) {
        self.scan().await;
        // Everything, as one change.
        self.merged.take_changes();
        let mut changes = vec![Change::Replace(Box::new(self.merged.listing()))];
        loop {
            self.report(&reporter);
            for change in changes {
                if messages.send(Message::Change(change)).await.is_err() {
                    return;
                }
            }
            self.directory.changed().await;
            self.scan().await;
            changes = self.merged.take_changes();
        }
    }

    /// Reads the files that changed, and forgets those that are gone.
    async fn scan(&mut self) {
        let Some(scan) = self.directory.scan().await else { return };
        let gone = self.merged.paths().filter(|path| !scan.present.contains(*path));
        for path in gone.map(Path::to_owned).collect::<Vec<_>>() {
            self.merged.remove(&path);
        }
        self.bad.retain(|path, _| scan.present.contains(path));
        for (path, text) in scan.read {
            let content = match text {
                Ok(text) => parse(&text).map_err(|(line, problem)| Bad::Problem(line, problem)),
                Err(error) => Err(Bad::Unreadable(error)),
            };
            match content {
                Ok(content) => {
                    self.bad.remove(&path);
                    self.merged.put(&path, content);
                }
                Err(bad) => {
                    self.bad.insert(path, bad);
                }
            }
        }
    }

    fn report(&self, reporter: &Reporter) {
        let mut failures = BTreeMap::new();
        let mut add = |path: PathBuf, mut line: u64, error: Error| {
            // Two problems of one line: the second counts as the next line's.
            while failures.contains_key(&Place::File(path.clone(), line)) {
                line += 1;
            }
            failures.insert(Place::File(path, line), error);
        };
        if let Some(error) = self.directory.failure() {
            add(self.directory.path().to_owned(), 0, error);
        }
        for (path, bad) in &self.bad {
            let (line, error) = bad.told(path);
            add(path.clone(), line, error);
        }
        for (path, line, problem) in self.merged.problems() {
            add(path.clone(), line, Error::Manifest { path, line, problem });
        }
        reporter.files(failures);
    }
}

impl Bad {
    /// The line, 0 for the whole file, and the error to report.
    fn told(&self, path: &Path) -> (u64, Error) {
        let path = path.to_owned();
        match self {
            Self::Unreadable(error) => {
                let source = std::io::Error::new(error.kind(), error.to_string());
                (0, Error::File { path, source })
            }
            Self::Problem(line, problem) => {
                (*line, Error::Manifest { path, line: *line, problem: problem.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests;
