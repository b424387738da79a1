// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the pods are whose sockets are left alone: the node's end of their interface, and
//! their network namespace.
//!
//! ```text
//! Snapshot.pods ─► links, routes, neighbours (netlink) ─► Places ─► reconcile
//! ```
//!
//! Nothing here knows a CNI: the node's own route to a pod's address names the device, or the
//! bridge, and the device's other end is in the pod's namespace. On a node without such pods
//! nothing is asked.
//!
//! Invariant: a device that others than the pod send through is none: all that comes in by it
//! would count as the pod's.

mod links;
mod namespaces;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use rtnetlink::{
    Handle, MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::{sync::watch, time};

use self::links::Links;
use crate::{
    model::{
        ObjectName,
        issue::{Issue, ObjectKind, Problem, Unlocated},
        pod::Pod,
    },
    run::state::{self, PodLine},
};

/// The marked pods of this node.
pub type Pods = BTreeMap<ObjectName, Pod>;

/// Where the pods are, as of the last look.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Places {
    /// The devices that lead to a pod, with their names.
    pub devices: BTreeMap<u32, Arc<str>>,
    /// The cookies of the pods' network namespaces, as far as this kernel has them.
    pub namespaces: BTreeSet<u64>,
    /// The pods that were not found, and why.
    pub missing: Vec<Issue>,
}

/// The loop's ends of what is asked and told.
#[derive(Debug)]
pub struct Ends {
    /// Which pods there are.
    pub wanted: watch::Sender<Pods>,
    /// Where they are; `None` before the first look.
    pub places: watch::Receiver<Option<Places>>,
}

/// Looks for pods.
#[derive(Debug)]
pub struct Finder {
    wanted: watch::Receiver<Pods>,
    places: watch::Sender<Option<Places>>,
    /// Whose processes' namespaces are looked at.
    cgroup_root: PathBuf,
    /// Whose `show` is told.
    bpf_root: PathBuf,
    /// The cookies of the namespaces behind devices. No other device ever gets the same index.
    cookies: BTreeMap<u32, u64>,
}

/// Where one pod is.
struct Found {
    devices: BTreeMap<u32, Arc<str>>,
    /// The cookie of its namespace.
    namespace: Option<u64>,
}

/// A finder, and the loop's ends.
pub fn finder(cgroup_root: PathBuf, bpf_root: PathBuf) -> (Finder, Ends) {
    let (asked, wanted) = watch::channel(Pods::new());
    let (told, places) = watch::channel(None);
    let finder = Finder { wanted, places: told, cgroup_root, bpf_root, cookies: BTreeMap::new() };
    (finder, Ends { wanted: asked, places })
}

impl Finder {
    /// Looks whenever something changes that may move a pod, until nobody asks any more. In the
    /// network namespace of the process.
    pub async fn run(mut self) {
        loop {
            // Most nodes have none of these pods, and no use for a connection.
            if self.wanted.wait_for(|pods| !pods.is_empty()).await.is_err() {
                return;
            }
            match rtnetlink::new_multicast_connection(&GROUPS) {
                Ok((connection, handle, events)) => {
                    let events = events.map(|(message, _)| message).boxed();
                    tokio::select! {
                        () = connection => {}
                        () = self.follow(&handle, events) => {}
                    }
                }
                Err(error) => tracing::warn!(%error, "pods are not looked for; trying again"),
            }
            if self.places.is_closed() {
                return;
            }
            time::sleep(RETRY).await;
        }
    }

    /// Looks again and again while there are pods.
    async fn follow(
        &mut self,
        handle: &Handle,
        mut events: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
    ) {
        loop {
            let pods = self.wanted.borrow_and_update().clone();
            let places = self.look(handle, &pods).await;
            let wait = if places.missing.is_empty() { CALM } else { RETRY };
            self.places.send_if_modified(|known| {
                let is_new = known.as_ref() != Some(&places);
                *known = Some(places);
                is_new
            });
            if pods.is_empty() {
                return;
            }
            let until = time::Instant::now() + wait;
            loop {
                tokio::select! {
                    changed = self.wanted.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        break;
                    }
                    event = events.next() => match event {
                        Some(event) if matters(&event.payload) => {
                            // A pod's devices and routes come one after another.
                            time::sleep(GATHER).await;
                            while events.next().now_or_never().flatten().is_some() {}
                            break;
                        }
                        Some(_) => {}
                        None => return,
                    },
                    () = time::sleep_until(until) => break,
                }
            }
        }
    }

    /// Where the pods are now.
    async fn look(&mut self, handle: &Handle, pods: &Pods) -> Places {
        let mut places = Places::default();
        let mut shown = Vec::new();
        match links::read(handle).await {
            Ok(links) => {
                self.cookies.retain(|device, _| links.has(*device));
                for (name, pod) in pods {
                    let found = self.find(handle, &links, name, pod, &mut places.missing).await;
                    places.devices.extend(found.devices.clone());
                    // What is found of a pod without a device goes on being served at its sockets.
                    places.namespaces.extend(found.namespace.filter(|_| !found.devices.is_empty()));
                    shown.push(line(name, pod, &found));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "pods are not looked for; trying again");
                // Better as it was.
                places = self.places.borrow().clone().unwrap_or_default();
                return places;
            }
        }
        if let Err(error) = state::write_pods(&self.bpf_root, &shown) {
            tracing::warn!(%error, "show pods will not have them");
        }
        places
    }

    async fn find(
        &mut self,
        handle: &Handle,
        links: &Links,
        name: &ObjectName,
        pod: &Pod,
        missing: &mut Vec<Issue>,
    ) -> Found {
        let mut found = Found { devices: BTreeMap::new(), namespace: None };
        for address in &pod.addresses {
            match links.locate(handle, *address).await {
                Ok((device, name)) => {
                    found.devices.insert(device, name);
                }
                Err(reason) => missing.push(issue(name, *address, reason)),
            }
        }
        for device in found.devices.keys() {
            if let Some(id) = links.namespace(*device)
                && !self.cookies.contains_key(device)
                && let Some(cookie) = namespaces::cookie(handle, &self.cgroup_root, id).await
            {
                self.cookies.insert(*device, cookie);
            }
        }
        found.namespace = found.devices.keys().find_map(|it| self.cookies.get(it)).copied();
        found
    }
}

fn issue(name: &ObjectName, address: IpAddr, reason: Unlocated) -> Issue {
    let problem = Problem::Unlocated { address: address.to_string(), reason };
    let field = "status.podIPs".to_owned();
    Issue { kind: ObjectKind::Pod, object: name.clone(), field, problem }
}

/// What `show pods` has of a pod.
fn line(name: &ObjectName, pod: &Pod, found: &Found) -> PodLine {
    PodLine {
        pod: name.to_string(),
        mark: pod.mark.to_string(),
        addresses: pod.addresses.clone(),
        devices: found.devices.values().map(ToString::to_string).collect(),
        namespace: found.namespace,
    }
}

/// Links and routes, and the kernel's word that messages were lost.
fn matters(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    matches!(
        payload,
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(_)
                | RouteNetlinkMessage::DelLink(_)
                | RouteNetlinkMessage::NewRoute(_)
                | RouteNetlinkMessage::DelRoute(_),
        ) | NetlinkPayload::Overrun(_)
            | NetlinkPayload::Error(_)
    )
}

/// What the kernel is asked to tell.
const GROUPS: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
/// Between two looks while a pod was not found.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks while all were.
const CALM: Duration = Duration::from_secs(30);
/// What happens so soon after an event belongs to it.
const GATHER: Duration = Duration::from_millis(50);
