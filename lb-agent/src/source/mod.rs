// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the cluster's objects come from: an API server, or a directory of manifests; and
//! from netlink, which addresses this node has.
//!
//! ```text
//! kube | manifests ─► convert ─┐
//!                              ├─► batch ─► Feed { changes, status } ─► reconcile
//! netlink ─► addresses ────────┘
//! ```
//!
//! Invariant: the first batch holds everything. Nothing is sent before Services, slices, the
//! node and its addresses are all known (SYN-01), and a relist is one change.

pub mod addresses;
mod batch;
pub mod convert;
mod error;
pub mod events;
mod kube;
mod manifests;
mod status;

use std::{collections::BTreeSet, path::PathBuf, str::FromStr, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::{
    addresses::{NodePortAddresses, UplinkChoice},
    batch::Batcher,
    events::{Events, Notice},
    status::Reporter,
};
use crate::model::change::Change;

pub use self::{
    error::{Error, ManifestProblem, NetlinkError, Resource, Verb, chain},
    kube::requests::{Answer, AnswerSink},
    manifests::{Line, read as read_manifest},
    status::{Failure, Place, Status},
};

/// What a source must be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the objects are.
    pub origin: Origin,
    /// This node's name; compared in lower case, without spaces around it (NOD-01).
    pub node_name: String,
    /// On which of the node's addresses NodePorts answer.
    pub node_ports: NodePortAddresses,
    /// Which of its devices lead to clients outside.
    pub devices: UplinkChoice,
    /// RuntimeClasses of pods whose sockets are left alone.
    pub runtime_classes: BTreeSet<String>,
}

/// Where the objects are.
#[derive(Clone, Debug)]
pub enum Origin {
    /// The API server of a kubeconfig file (`--kubeconfig`), or of one of its contexts.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context; the file's current one if `None`.
        context: Option<String>,
        /// The API server's address, if not the file's.
        master: Option<Master>,
    },
    /// The API server of the cluster that this process is a pod of.
    InCluster {
        /// Its address; from the pod's environment if `None`.
        master: Option<Master>,
    },
    /// YAML files of a directory (`--manifests`).
    Manifests(PathBuf),
}

/// The API server's own address (`--master`), which must not need a Service (SYN-09).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Master(pub http::Uri);

/// What `--master` does not take.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not the URL of an API server, as in https://192.0.2.1:6443")]
pub struct MasterError(String);

impl FromStr for Master {
    type Err = MasterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = text.parse::<http::Uri>().ok().filter(|url| {
            matches!(url.scheme_str(), Some("https" | "http")) && url.host().is_some()
        });
        url.map(Self).ok_or_else(|| MasterError(text.to_owned()))
    }
}

/// What a source sends. Dropping it ends the source.
#[derive(Debug)]
pub struct Feed {
    /// Batches of changes in order. What happens while the receiver is busy comes as one
    /// batch. The first batch holds everything.
    pub changes: mpsc::Receiver<Vec<Change>>,
    /// How the source fares.
    pub status: watch::Receiver<Status>,
    /// Where to leave what is to be told as Events; a source without an API server tells
    /// nothing.
    pub events: Events,
    /// The source's tasks; dropping them aborts them.
    pub tasks: JoinSet<()>,
}

/// Starts a source on the current tokio runtime. Netlink is asked in the network namespace
/// of the calling thread. `answers` is told of each answer of an API server.
///
/// # Errors
/// What no waiting mends, so that the process should exit with code 2: [`Error::Kubeconfig`],
/// [`Error::InCluster`], [`Error::Client`], [`Error::ManifestsDirectory`], [`Error::Inotify`],
/// [`Error::Netlink`]. An API server that does not answer is none of them.
pub async fn start(config: Config, answers: AnswerSink) -> Result<Feed, Error> {
    let node_name: Arc<str> = config.node_name.trim().to_lowercase().into();
    let (changes, receiver) = mpsc::channel(QUEUED_BATCHES);
    let (reporter, status) = Reporter::new();
    let (messages, inbox) = mpsc::channel(QUEUED_CHANGES);
    let mut tasks = JoinSet::new();
    let interfaces = addresses::Watch::start()?;
    tasks.spawn(interfaces.run(messages.clone(), reporter.clone()));
    let runtime_classes = config.runtime_classes;
    let maker = match config.origin {
        Origin::Manifests(directory) => {
            let source =
                manifests::Manifests::open(&directory, node_name.clone(), runtime_classes.clone())?;
            tasks.spawn(source.run(messages.clone(), reporter.clone()));
            None
        }
        Origin::Kubeconfig { path, context, master } => {
            Some(kube::client::from_kubeconfig(path, context, master).await?)
        }
        Origin::InCluster { master } => Some(kube::client::in_cluster(master)?),
    };
    let maker = maker.map(|maker| maker.with_answers(answers));
    let mut events = Events::default();
    if let Some(maker) = maker {
        let pods = (&node_name, &runtime_classes);
        kube::start(|it| maker.client(it), pods, &messages, &reporter, &mut tasks)?;
        let (tell, queue) = Events::queue();
        let writer = kube::events::Writer::new(maker.silent_client()?, node_name);
        tasks.spawn(writer.run(queue));
        tell.post(Notice::starting);
        events = tell;
    }
    drop(messages);
    let batcher = Batcher::new(config.node_ports, config.devices, reporter);
    tasks.spawn(batcher.run(inbox, changes));
    Ok(Feed { changes: receiver, status, events, tasks })
}

/// Batches that wait for the receiver: one, so that what comes later joins the next.
const QUEUED_BATCHES: usize = 1;

/// Changes that wait to be batched; more make the watches wait.
const QUEUED_CHANGES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_a_url() {
        for url in ["https://192.0.2.1:6443", "http://[2001:db8::1]:8080", "https://host/prefix"] {
            assert_eq!(url.parse(), Ok(Master(url.parse().unwrap())));
        }
        for text in ["", "192.0.2.1:6443", "host", "ftp://host", "https://", "/path"] {
            assert_eq!(text.parse::<Master>(), Err(MasterError(text.to_owned())));
        }
    }
}
