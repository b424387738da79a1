// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can go wrong between the cluster and the model.

use std::{borrow::Cow, fmt, io, path::PathBuf};

use kube::{
    config::{InClusterError, KubeconfigError},
    runtime::watcher,
};

use crate::model::ObjectName;

/// Why a source cannot start, or what it has to live with for now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {} cannot be used{}; give another file with --kubeconfig", path.display(), of_context(context.as_ref()))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context that was asked for.
        context: Option<String>,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// This process is not in a pod, or the pod has no service account.
    #[error(
        "no in-cluster configuration; outside a pod, give --kubeconfig FILE or --manifests DIR"
    )]
    InCluster {
        /// Why.
        #[source]
        source: InClusterError,
    },
    /// The configuration makes no client: its TLS material, most likely.
    #[error("the API server's certificates or credentials in {origin} cannot be used")]
    Client {
        /// The file, or "the service account".
        origin: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The directory of manifests cannot be read.
    #[error("directory {} cannot be read; give another one with --manifests", path.display())]
    ManifestsDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not tell about changed files.
    #[error("changes of {} cannot be followed; raise fs.inotify.max_user_watches or max_user_instances", path.display())]
    Inotify {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not tell this node's addresses.
    #[error("this node's addresses cannot be read by netlink")]
    Netlink {
        /// Why.
        #[source]
        source: NetlinkError,
    },
    /// The API server refuses a list or watch. It is tried again.
    #[error("cannot {verb} {resource}: the API server answers {code}: {message}{}", hint(*code))]
    Refused {
        /// What was listed or watched.
        resource: Resource,
        /// Which of the two.
        verb: Verb,
        /// The HTTP status.
        code: u16,
        /// What the server says.
        message: String,
    },
    /// The API server has no such objects, or does not give them, and the agent can do without
    /// them. It is tried again.
    #[error("{lost}: the API server answers {code} to {verb} {resource}: {message}{}", instead(*code))]
    Without {
        /// What was listed or watched.
        resource: Resource,
        /// Which of the two.
        verb: Verb,
        /// The HTTP status.
        code: u16,
        /// What the server says.
        message: String,
        /// What does not work without them.
        lost: &'static str,
    },
    /// A list or watch failed on the way. It is tried again.
    #[error("cannot {verb} {resource}; trying again{}", way_hint(source))]
    Watch {
        /// What was listed or watched.
        resource: Resource,
        /// Which of the two.
        verb: Verb,
        /// Why.
        #[source]
        source: Box<watcher::Error>,
    },
    /// This node has no Node object.
    #[error(
        "there is no Node {name:?}: hints for zones and load balancers pass this node by; is \
         --node-name right (NOD-04)?"
    )]
    NoNode {
        /// The node's name.
        name: String,
    },
    /// A file of the manifests cannot be read; its last good version is served.
    #[error("{} cannot be read; its last good version is served", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in a file of the manifests is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What.
        #[source]
        problem: ManifestProblem,
    },
}

/// What is wrong with an object of a file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestProblem {
    /// The file is not YAML, or an object has a field of a wrong type.
    #[error("{message}; the file's last good version is served")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// An object that nothing here reads.
    #[error("kind {kind:?} of {api_version:?} is not read here; the object is ignored")]
    Kind {
        /// `kind`.
        kind: String,
        /// `apiVersion`.
        api_version: String,
    },
    /// An object without a name.
    #[error("{kind} has no metadata.name; the object is ignored")]
    Nameless {
        /// `kind`.
        kind: String,
    },
    /// An object that an earlier file, or an earlier line of this one, has already.
    #[error("{kind} {object} stands in {} already; this one is ignored", first.display())]
    Duplicate {
        /// `kind`.
        kind: &'static str,
        /// The object.
        object: ObjectName,
        /// The file of the one that is served.
        first: PathBuf,
    },
}

/// Why netlink gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket.
    #[error("the netlink socket cannot be opened")]
    Socket(#[source] io::Error),
    /// The kernel closed the socket.
    #[error("the netlink socket was closed; changes of addresses are not seen any more")]
    Closed,
    /// A request.
    #[error("a netlink request failed")]
    Request(#[source] Box<rtnetlink::Error>),
}

/// What is watched.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Resource {
    /// v1 services.
    Services,
    /// discovery.k8s.io/v1 endpointslices.
    EndpointSlices,
    /// v1 nodes: this one.
    Nodes,
    /// networking.k8s.io/v1 servicecidrs.
    ServiceCidrs,
    /// v1 pods.
    Pods,
}

/// What the API server was asked to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// GET of a list.
    List,
    /// GET of a list with `watch=true`.
    Watch,
}

impl Error {
    /// Whether a flag or file of the command line is to blame, which no waiting mends.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Kubeconfig { .. }
                | Self::InCluster { .. }
                | Self::Client { .. }
                | Self::ManifestsDirectory { .. }
        )
    }

    /// Whether the agent does without what it could not have.
    pub const fn is_done_without(&self) -> bool {
        matches!(self, Self::Without { .. })
    }

    /// What failed and why, in a word each, for metrics; `None`: nothing did. An API server
    /// that is older than a kind of objects has not failed.
    pub(super) fn cause(&self) -> Option<(&'static str, Cow<'static, str>)> {
        Some(match self {
            Self::Without { code: ABSENT, .. } => return None,
            Self::Refused { verb, code, .. } | Self::Without { verb, code, .. } => {
                (verb.name(), code.to_string().into())
            }
            Self::Watch { verb, source, .. } => (verb.name(), way(source).into()),
            Self::NoNode { .. } => (Verb::List.name(), "none".into()),
            Self::Manifest { .. } => ("read", "invalid".into()),
            _ => ("read", "unreadable".into()),
        })
    }

    /// The error and its causes in one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

impl Verb {
    /// The word for it.
    const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

impl Resource {
    /// Its name, with its group.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices.discovery.k8s.io",
            Self::Nodes => "nodes",
            Self::ServiceCidrs => "servicecidrs.networking.k8s.io",
            Self::Pods => "pods",
        }
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors repeat the cause in their own words already.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What to do about objects that the API server does not give.
fn instead(code: u16) -> &'static str {
    match code {
        403 => {
            "; to have it, add to the agent's ClusterRole: - {apiGroups: [networking.k8s.io], \
             resources: [servicecidrs], verbs: [list, watch]}"
        }
        ABSENT => "; Kubernetes has them from 1.33 on",
        _ => "",
    }
}

/// On which part of its way a request failed, in a word.
fn way(error: &watcher::Error) -> &'static str {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                "connection"
            }
            kube::Error::Auth(_) => "credentials",
            kube::Error::SerdeError(_) | kube::Error::LinesCodecMaxLineLengthExceeded => "content",
            _ => "other",
        },
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => "content",
    }
}

fn hint(code: u16) -> &'static str {
    match code {
        401 => "; are the credentials of this agent valid?",
        403 => "; its role needs list and watch of it",
        _ => "",
    }
}

/// What to do about the way to the API server, where its error tells. TLS is below kube and
/// hyper, whose errors hold it as a text alone.
fn way_hint(error: &watcher::Error) -> &'static str {
    if chain(error).contains("invalid peer certificate") {
        "; is the certificate authority of the kubeconfig or service account the API server's, \
         and its address in the certificate?"
    } else {
        ""
    }
}

fn of_context(context: Option<&String>) -> String {
    context.map_or_else(String::new, |name| format!(" with context {name:?} (--context)"))
}

/// HTTP 404: the server is older than these objects.
pub(super) const ABSENT: u16 = 404;
