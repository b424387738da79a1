// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One change of the cluster, and how a snapshot takes it up.
//!
//! ```text
//! source ─► Change ─► Snapshot::apply ─► Touched ─► plan::compile of what was touched
//! ```
//!
//! Invariant: applying changes one by one leaves the snapshot that a list of the final
//! objects would have made; what a change does not touch compiles to what it did before.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    ObjectName,
    endpoint::EndpointSlice,
    issue::{Issue, ObjectKind},
    node::Node,
    pod::Pod,
    service::Service,
    snapshot::{Snapshot, Touched},
    uplinks::Uplinks,
};

/// One change of the cluster, as a source saw it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A Service was put, or is gone.
    Service(Object<Service>),
    /// An EndpointSlice was put, or is gone.
    Slice(Object<EndpointSlice>),
    /// This node was put, or its Node object is gone.
    Node(NodeObject),
    /// This node's addresses on which NodePorts answer are now these.
    NodeAddresses(BTreeSet<IpAddr>),
    /// The ways to clients outside are now these.
    Uplinks(Uplinks),
    /// A ServiceCIDR was put, or is gone.
    ServiceCidr(Object<Vec<IpNet>>),
    /// A marked pod of this node was put, or is gone.
    Pod(Object<Pod>),
    /// Whole kinds were listed: what is not in the list is gone.
    Replace(Box<Listing>),
}

/// What became of one object: what is usable of it, and what had to be ignored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object<T> {
    /// Its namespace and name.
    pub name: ObjectName,
    /// `None`: it is gone, or it is not ours to serve (SVC-02, SVC-04, SVC-05).
    pub value: Option<T>,
    /// What was ignored. They die with the object.
    pub issues: Vec<Issue>,
}

/// The same for this node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeObject {
    /// The node; one without a Node object has a name and nothing else.
    pub node: Node,
    /// What was ignored of the Node object.
    pub issues: Vec<Issue>,
}

/// The objects of whole kinds at one moment; `None` leaves a kind as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    /// Every Service.
    pub services: Option<Vec<Object<Service>>>,
    /// Every EndpointSlice.
    pub slices: Option<Vec<Object<EndpointSlice>>>,
    /// This node.
    pub node: Option<NodeObject>,
    /// Every ServiceCIDR; none where the API server does not know them.
    pub service_cidrs: Option<Vec<Object<Vec<IpNet>>>>,
    /// Every marked pod of this node; none where the API server does not give pods.
    pub pods: Option<Vec<Object<Pod>>>,
}

impl<T> Object<T> {
    /// An object that is gone.
    pub const fn gone(name: ObjectName) -> Self {
        Self { name, value: None, issues: Vec::new() }
    }
}

impl Listing {
    /// Whether every kind was listed. Sources say so once, with their first word.
    pub const fn is_complete(&self) -> bool {
        let Self { services, slices, node, service_cidrs, pods } = self;
        services.is_some()
            && slices.is_some()
            && node.is_some()
            && service_cidrs.is_some()
            && pods.is_some()
    }
}

impl Snapshot {
    /// Takes up one change and says which Services must be compiled again. A delivery of
    /// what is known already touches nothing (EPS-12, UPD-02).
    pub fn apply(&mut self, change: Change) -> Touched {
        match change {
            Change::Service(object) => self.put_service(object),
            Change::Slice(object) => self.put_slice(object),
            Change::Node(object) => self.put_node(object),
            Change::NodeAddresses(addresses) => {
                let touched = all_if(self.node_addresses != addresses);
                self.node_addresses = addresses;
                touched
            }
            Change::Uplinks(uplinks) => {
                self.uplinks = uplinks;
                Touched::default()
            }
            Change::ServiceCidr(object) => self.put_service_cidr(object),
            Change::Pod(object) => {
                self.put_pod(object);
                Touched::default()
            }
            Change::Replace(listing) => self.replace(*listing),
        }
    }

    /// A Service's slices stay when it goes (EPS-03).
    fn put_service(&mut self, object: Object<Service>) -> Touched {
        let Object { name, value, issues } = object;
        self.put_issues(ObjectKind::Service, &name, issues);
        let changed = match value {
            Some(service) => {
                let known = self.services.get(&name).is_some_and(|known| **known == service);
                if !known {
                    self.services.insert(name.clone(), Arc::new(service));
                }
                !known
            }
            None => self.services.remove(&name).is_some(),
        };
        if changed { Touched::one(name) } else { Touched::default() }
    }

    /// A slice whose service label was edited leaves the Service it was with (EPS-13).
    fn put_slice(&mut self, object: Object<EndpointSlice>) -> Touched {
        let Object { name, value, issues } = object;
        self.put_issues(ObjectKind::EndpointSlice, &name, issues);
        let mut touched = Touched::default();
        let owner = self.slice_owners.get(&name).cloned();
        if let Some(owner) = owner.filter(|owner| value.as_ref().map(|v| &v.service) != Some(owner))
        {
            self.remove_slice(&owner, &name);
            touched.merge(Touched::one(owner));
        }
        if let Some(slice) = value {
            let owner = slice.service.clone();
            let siblings = self.slices.entry(owner.clone()).or_default();
            if siblings.get(&name).is_none_or(|known| **known != slice) {
                siblings.insert(Arc::new(slice));
                self.slice_owners.insert(name, owner.clone());
                touched.merge(Touched::one(owner));
            }
        }
        touched
    }

    fn put_service_cidr(&mut self, object: Object<Vec<IpNet>>) -> Touched {
        let Object { name, value, issues } = object;
        self.put_issues(ObjectKind::ServiceCidr, &name, issues);
        let before = match &value {
            Some(cidrs) => self.service_cidrs.insert(name, cidrs.clone()),
            None => self.service_cidrs.remove(&name),
        };
        all_if(before != value)
    }

    /// No Service is compiled by its clients.
    fn put_pod(&mut self, object: Object<Pod>) {
        let Object { name, value, issues } = object;
        self.put_issues(ObjectKind::Pod, &name, issues);
        match value {
            Some(pod) => self.pods.insert(name, pod),
            None => self.pods.remove(&name),
        };
    }

    fn remove_slice(&mut self, owner: &ObjectName, name: &ObjectName) {
        self.slice_owners.remove(name);
        if let Some(siblings) = self.slices.get_mut(owner) {
            siblings.remove(name);
            if siblings.is_empty() {
                self.slices.remove(owner);
            }
        }
    }

    /// Name and zone decide routing (NOD-02), the addresses whose sources count as the
    /// node's own (LB-09); whether the node is eligible is for health alone (HLZ-05).
    fn put_node(&mut self, object: NodeObject) -> Touched {
        let NodeObject { node, issues } = object;
        let name = ObjectName::new("", node.name.clone());
        self.issues.retain(|(kind, _), _| *kind != ObjectKind::Node);
        self.put_issues(ObjectKind::Node, &name, issues);
        let changed = (&self.node.name, &self.node.zone, &self.node.addresses)
            != (&node.name, &node.zone, &node.addresses);
        self.node = node;
        all_if(changed)
    }

    /// The first list of everything touches everything, so that what an earlier run left
    /// behind is found even if nothing is listed (SYN-02); a relist touches what differs.
    fn replace(&mut self, listing: Listing) -> Touched {
        let mut touched = all_if(listing.is_complete());
        if let Some(services) = listing.services {
            let known = self.services.keys().cloned().collect();
            let gone = self.missing(ObjectKind::Service, known, &services);
            for object in gone.into_iter().map(Object::gone).chain(services) {
                touched.merge(self.put_service(object));
            }
        }
        if let Some(slices) = listing.slices {
            let known = self.slice_owners.keys().cloned().collect();
            let gone = self.missing(ObjectKind::EndpointSlice, known, &slices);
            for object in gone.into_iter().map(Object::gone).chain(slices) {
                touched.merge(self.put_slice(object));
            }
        }
        if let Some(cidrs) = listing.service_cidrs {
            let known = self.service_cidrs.keys().cloned().collect();
            let gone = self.missing(ObjectKind::ServiceCidr, known, &cidrs);
            for object in gone.into_iter().map(Object::gone).chain(cidrs) {
                touched.merge(self.put_service_cidr(object));
            }
        }
        if let Some(pods) = listing.pods {
            let known = self.pods.keys().cloned().collect();
            let gone = self.missing(ObjectKind::Pod, known, &pods);
            for object in gone.into_iter().map(Object::gone).chain(pods) {
                self.put_pod(object);
            }
        }
        if let Some(node) = listing.node {
            touched.merge(self.put_node(node));
        }
        touched
    }

    /// The objects of a kind, served or only complained of, that a list does not have.
    fn missing<T>(
        &self,
        kind: ObjectKind,
        mut known: BTreeSet<ObjectName>,
        listed: &[Object<T>],
    ) -> BTreeSet<ObjectName> {
        known
            .extend(self.issues.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name.clone()));
        for object in listed {
            known.remove(&object.name);
        }
        known
    }

    fn put_issues(&mut self, kind: ObjectKind, name: &ObjectName, issues: Vec<Issue>) {
        let key = (kind, name.clone());
        if issues.is_empty() {
            self.issues.remove(&key);
        } else {
            self.issues.insert(key, issues);
        }
    }
}

fn all_if(changed: bool) -> Touched {
    if changed { Touched::All } else { Touched::default() }
}

#[cfg(test)]
mod tests;
