// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An API server's objects, by one watch of each kind.
//!
//! ```text
//! kube-runtime watcher ─► Follower ─► Change
//!        ▲ errors ─► backoff    (a list: one Change::Replace at its end)
//! ```
//!
//! Objects are converted one by one as they arrive and dropped; only model values are kept.
//! The watches are as narrow as the rules allow: SVC-01, EPS-01, one Node by its name, its marked
//! pods.
//! An API server that is gone changes nothing: what was known is served (SYN-03).

pub(super) mod client;
pub(super) mod events;
mod follower;
mod node;
mod pace;
pub(super) mod requests;
mod transport;
mod watch;

use std::{collections::BTreeSet, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use kube::{Api, Client, runtime::watcher};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

use self::{client::Answered, follower::Objects, node::ThisNode, watch::Watch};
use super::{
    batch::Message,
    convert::{Pod, SOCKETS_LABEL, pod, service, service_cidr, slice},
    error::{Error, Resource},
    status::Reporter,
};
use crate::model::{
    self,
    change::{Change, Listing},
};

/// Starts the five watches, with a client of its own for each: an answer to one of its
/// requests means that its watch works again.
///
/// # Errors
/// Those of `client`.
pub(super) fn start(
    client: impl Fn(Answered) -> Result<Client, Error>,
    (node_name, runtime_classes): (&Arc<str>, &BTreeSet<String>),
    messages: &mpsc::Sender<Message>,
    reporter: &Reporter,
    tasks: &mut JoinSet<()>,
) -> Result<(), Error> {
    let waiting = Arc::new(Notify::new());
    let client = |resource| {
        client(Answered { resource, reporter: reporter.clone(), waiting: waiting.clone() })
    };
    let services = Watch {
        api: Api::<Service>::all(client(Resource::Services)?),
        config: watcher::Config::default()
            .labels("!service.kubernetes.io/service-proxy-name")
            .fields("spec.clusterIP!=None"),
        resource: Resource::Services,
        answered: waiting.clone(),
        follower: Objects::new(service, Change::Service, |services| Listing {
            services: Some(services),
            ..Listing::default()
        }),
    };
    let slices = Watch {
        api: Api::<EndpointSlice>::all(client(Resource::EndpointSlices)?),
        config: watcher::Config::default().labels("!service.kubernetes.io/headless"),
        resource: Resource::EndpointSlices,
        answered: waiting.clone(),
        follower: Objects::new(slice, Change::Slice, |slices| Listing {
            slices: Some(slices),
            ..Listing::default()
        }),
    };
    let node = Watch {
        api: Api::<Node>::all(client(Resource::Nodes)?),
        config: watcher::Config::default().fields(&format!("metadata.name={node_name}")),
        resource: Resource::Nodes,
        answered: waiting.clone(),
        follower: ThisNode::new(node_name, reporter.clone()),
    };
    let cidrs = service_cidrs(client(Resource::ServiceCidrs)?, waiting.clone());
    let pods = pods(client(Resource::Pods)?, node_name, runtime_classes, waiting);
    tasks.spawn(pods.run(messages.clone(), reporter.clone()));
    tasks.spawn(cidrs.run(messages.clone(), reporter.clone()));
    tasks.spawn(services.run(messages.clone(), reporter.clone()));
    tasks.spawn(slices.run(messages.clone(), reporter.clone()));
    tasks.spawn(node.run(messages.clone(), reporter.clone()));
    Ok(())
}

/// The watch of all ServiceCIDRs.
fn service_cidrs(
    client: Client,
    answered: Arc<Notify>,
) -> Watch<ServiceCIDR, Objects<ServiceCIDR, Vec<IpNet>>> {
    let follower = Objects::new(service_cidr, Change::ServiceCidr, |cidrs| Listing {
        service_cidrs: Some(cidrs),
        ..Listing::default()
    });
    let (config, follower) = (watcher::Config::default(), follower.optional(WITHOUT_CIDRS));
    Watch { api: Api::all(client), config, resource: Resource::ServiceCidrs, answered, follower }
}

/// The watch of this node's marked pods. Most nodes have none: only where RuntimeClasses are
/// named, by which no server selects, all pods of the node are told.
fn pods(
    client: Client,
    node_name: &Arc<str>,
    runtime_classes: &BTreeSet<String>,
    answered: Arc<Notify>,
) -> Watch<Pod, Objects<Pod, model::pod::Pod>> {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node_name}"));
    let labelled = format!("{SOCKETS_LABEL}=false");
    let config = if runtime_classes.is_empty() { config.labels(&labelled) } else { config };
    let (node_name, runtime_classes) = (node_name.clone(), runtime_classes.clone());
    let convert = move |object: &Pod| pod(object, &node_name, &runtime_classes);
    let follower = Objects::new(convert, Change::Pod, |pods| Listing {
        pods: Some(pods),
        ..Listing::default()
    });
    let follower = follower.optional(WITHOUT_PODS);
    Watch { api: Api::all(client), config, resource: Resource::Pods, answered, follower }
}

/// Without pods.
const WITHOUT_PODS: &str = "pods whose sockets cannot be seen reach no Service";

/// Without ServiceCIDRs.
const WITHOUT_CIDRS: &str =
    "free addresses of ServiceCIDRs are left to routing and not dropped (CIP-05)";

#[cfg(test)]
mod tests;
