// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Holds changes back until everything is known, then passes them on in batches.

use std::{collections::BTreeSet, net::IpAddr};

use tokio::sync::mpsc;

use super::{
    addresses::{Interfaces, NodePortAddresses, UplinkChoice},
    status::Reporter,
};
use crate::model::{
    change::{Change, Listing},
    node::Node,
    uplinks::Uplinks,
};

/// What the parts of a source send.
#[derive(Debug)]
pub(super) enum Message {
    /// A change of an object, or a list of a kind.
    Change(Change),
    /// This node's interfaces now.
    Interfaces(Interfaces),
}

/// Makes batches of messages.
pub(super) struct Batcher {
    gate: Gate,
    reporter: Reporter,
}

/// Decides what may leave. Pure: messages in, changes out.
struct Gate {
    node_ports: NodePortAddresses,
    devices: UplinkChoice,
    /// What NodePorts answer on, and the ways outside, depend on both of these.
    node: Node,
    interfaces: Option<Interfaces>,
    /// What was sent last.
    node_addresses: Option<BTreeSet<IpAddr>>,
    /// What was sent last; none at first.
    uplinks: Uplinks,
    /// The first list of each kind until there is one of every kind; `None` from then on.
    first: Option<Listing>,
    /// What came after a kind's first list while others were waited for.
    waiting: Vec<Change>,
}

impl Batcher {
    pub(super) fn new(
        node_ports: NodePortAddresses,
        devices: UplinkChoice,
        reporter: Reporter,
    ) -> Self {
        Self { gate: Gate::new(node_ports, devices), reporter }
    }

    /// Runs until the source or the receiver ends. The first change of a batch is sent at
    /// once if the receiver is idle; while it is busy, changes are gathered.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        changes: mpsc::Sender<Vec<Change>>,
    ) {
        let mut batch = Vec::new();
        while let Some(message) = inbox.recv().await {
            self.gate.pass(message, &mut batch);
            while !batch.is_empty() {
                tokio::select! {
                    permit = changes.reserve() => {
                        let Ok(permit) = permit else { return };
                        while let Ok(message) = inbox.try_recv() {
                            self.gate.pass(message, &mut batch);
                        }
                        permit.send(std::mem::take(&mut batch));
                        self.reporter.listed();
                    }
                    Some(message) = inbox.recv() => self.gate.pass(message, &mut batch),
                }
            }
        }
    }
}

impl Gate {
    fn new(node_ports: NodePortAddresses, devices: UplinkChoice) -> Self {
        Self {
            node_ports,
            devices,
            node: Node::default(),
            interfaces: None,
            node_addresses: None,
            uplinks: Uplinks::default(),
            first: Some(Listing::default()),
            waiting: Vec::new(),
        }
    }

    /// Adds to `batch` what the message lets leave.
    fn pass(&mut self, message: Message, batch: &mut Vec<Change>) {
        match message {
            Message::Interfaces(interfaces) => self.interfaces = Some(interfaces),
            Message::Change(change) => {
                if let Some(node) = node_of(&change) {
                    self.node = node.clone();
                }
                self.take(change, batch);
            }
        }
        if self.first.as_ref().is_some_and(Listing::is_complete) && self.interfaces.is_some() {
            let first = self.first.take().unwrap_or_default();
            batch.push(Change::Replace(Box::new(first)));
            batch.append(&mut self.waiting);
        }
        if self.first.is_none() {
            self.select_addresses(batch);
        }
    }

    /// Keeps the first list of each kind apart; what follows waits while the gate is closed.
    fn take(&mut self, change: Change, batch: &mut Vec<Change>) {
        let Some(first) = &mut self.first else { return batch.push(change) };
        let Change::Replace(listing) = change else { return self.waiting.push(change) };
        let mut again = Listing::default();
        put(&mut first.services, listing.services, &mut again.services);
        put(&mut first.slices, listing.slices, &mut again.slices);
        put(&mut first.node, listing.node, &mut again.node);
        put(&mut first.service_cidrs, listing.service_cidrs, &mut again.service_cidrs);
        put(&mut first.pods, listing.pods, &mut again.pods);
        if again != Listing::default() {
            self.waiting.push(Change::Replace(Box::new(again)));
        }
    }

    fn select_addresses(&mut self, batch: &mut Vec<Change>) {
        let Some(interfaces) = &self.interfaces else { return };
        let uplinks = self.node_ports.uplinks(&self.devices, &self.node, interfaces);
        if self.uplinks != uplinks {
            batch.push(Change::Uplinks(uplinks.clone()));
            self.uplinks = uplinks;
        }
        let selected = self.node_ports.select(&self.node, interfaces);
        if self.node_addresses.as_ref() != Some(&selected) {
            batch.push(Change::NodeAddresses(selected.clone()));
            self.node_addresses = Some(selected);
        }
    }
}

/// Puts a list into an empty place; where there is one already, it goes to `again`.
fn put<T>(first: &mut Option<T>, listed: Option<T>, again: &mut Option<T>) {
    if first.is_none() {
        *first = listed;
    } else {
        *again = listed;
    }
}

/// This node, if the change says something of it.
fn node_of(change: &Change) -> Option<&Node> {
    match change {
        Change::Node(object) => Some(&object.node),
        Change::Replace(listing) => listing.node.as_ref().map(|object| &object.node),
        Change::Service(_)
        | Change::Slice(_)
        | Change::NodeAddresses(_)
        | Change::Uplinks(_)
        | Change::ServiceCidr(_)
        | Change::Pod(_) => None,
    }
}

#[cfg(test)]
mod tests;
