// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An API server's objects, by one watch of each kind.
//!
//! ```text
//! kube-runtime watcher ─► Follower ─► Change
//!        ▲ errors ─► backoff    (a list: one Change::Replace at its end)
//! ```
//!
//! Objects are converted one by one as they arrive and dropped; only model values are kept.
//! The watches are as narrow as the rules allow: SVC-01, EPS-01, one Node by its name.
//! An API server that is gone changes nothing: what was known is served (SYN-03).

pub(super) mod client;
pub(super) mod events;
mod follower;
mod node;
mod pace;
pub(super) mod requests;
mod transport;
mod watch;

use std::sync::Arc;

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
    convert::{service, service_cidr, slice},
    error::{Error, Resource},
    status::Reporter,
};
use crate::model::change::{Change, Listing};

/// Starts the four watches, with a client of its own for each: an answer to one of its
/// requests means that its watch works again.
///
/// # Errors
/// Those of `client`.
pub(super) fn start(
    client: impl Fn(Answered) -> Result<Client, Error>,
    node_name: &Arc<str>,
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
    let service_cidrs = Watch {
        api: Api::<ServiceCIDR>::all(client(Resource::ServiceCidrs)?),
        config: watcher::Config::default(),
        resource: Resource::ServiceCidrs,
        answered: waiting.clone(),
        follower: Objects::new(service_cidr, Change::ServiceCidr, |cidrs| Listing {
            service_cidrs: Some(cidrs),
            ..Listing::default()
        })
        .optional(WITHOUT_CIDRS),
    };
    tasks.spawn(service_cidrs.run(messages.clone(), reporter.clone()));
    tasks.spawn(services.run(messages.clone(), reporter.clone()));
    tasks.spawn(slices.run(messages.clone(), reporter.clone()));
    tasks.spawn(node.run(messages.clone(), reporter.clone()));
    Ok(())
}

/// Without ServiceCIDRs.
const WITHOUT_CIDRS: &str =
    "free addresses of ServiceCIDRs are left to routing and not dropped (CIP-05)";

#[cfg(test)]
mod tests;
