// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which UDP sockets are connected to what their frontend does not lead to any more
//! (CT-01 to CT-09).
//!
//! ```text
//! Desired ─► Served, one for each UDP service port that changed ─► Ledger ─► Search
//!                                              a socket's peer ─────┘ └─► stale or not
//! ```
//!
//! kube-proxy compares conntrack entries with the serving endpoints of the service port
//! that was dialled. Here a socket's own record takes the place of the entry; policy and
//! topology play no part in either (CT-05).

use std::{collections::BTreeSet, num::NonZeroU16};

use foldhash::HashMap;
use lb_common::{addr::Addr, be::Be16, protocol::Protocol};

use super::{
    desired::Desired,
    port::{Frontend, PortName},
};
use crate::model::Family;

/// An address and a port: what a socket can be connected to. CT-04: both count.
pub type Peer = (Addr, Be16);

/// A UDP service port as the sockets that dialled it see it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Served {
    /// The frontends that it has.
    pub frontends: Box<[Frontend]>,
    /// Where its datagrams may go on going, in order: every endpoint that is ready, or that
    /// serves although it gets nothing new (CT-05).
    pub serving: Box<[Peer]>,
}

/// What became of a service port; `None` if it is gone.
pub type Update = (PortName, Option<Served>);

/// Every UDP service port.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    ports: HashMap<PortName, Served>,
    owners: HashMap<Frontend, PortName>,
}

/// What an update gives reason to look for. Frontends that came or went alone give none
/// (CT-01).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Search {
    /// Endpoints that stopped serving a service port that others go on serving.
    pub left: BTreeSet<Peer>,
    /// Whether a service port has its first serving endpoint: sockets may have been connected
    /// to its frontends since before (CT-03), or to endpoints that left when it had no other
    /// (CT-06).
    pub is_first: bool,
}

impl Served {
    /// The service port as it is; `None` if it is gone, or not a UDP one.
    pub fn of(desired: &Desired, name: &PortName) -> Option<Self> {
        let port = desired.port(name).filter(|port| port.protocol == Protocol::UDP)?;
        let candidates = port.endpoints.candidates.iter();
        Some(Self {
            frontends: desired.won(port).map(|(frontend, _)| frontend).collect(),
            serving: candidates.map(|candidate| (candidate.address, candidate.port)).collect(),
        })
    }

    fn serves(&self, peer: &Peer) -> bool {
        self.serving.binary_search(peer).is_ok()
    }

    /// Whether a socket that dialled it must not stay with a peer: never while nobody serves
    /// (CT-06).
    fn has_lost(&self, peer: &Peer) -> bool {
        !self.serving.is_empty() && !self.serves(peer)
    }
}

impl Ledger {
    /// Takes up what became of a service port, and adds to the search what follows from it.
    pub fn update(&mut self, (name, now): Update, search: &mut Search) {
        let before = self.ports.remove(&name).unwrap_or_default();
        for frontend in &before.frontends {
            // Another may have won it in the same batch (COL-03).
            if self.owners.get(frontend) == Some(&name) {
                self.owners.remove(frontend);
            }
        }
        let Some(now) = now else { return };
        let lost = before.serving.iter().filter(|peer| now.has_lost(peer));
        search.left.extend(lost.copied());
        search.is_first |= before.serving.is_empty() && !now.serving.is_empty();
        for frontend in &now.frontends {
            self.owners.insert(*frontend, name.clone());
        }
        self.ports.insert(name, now);
    }

    /// Whether a socket that dialled a frontend and is connected to a backend must look for
    /// another (CT-02).
    pub fn is_stale(&self, dialled: &Peer, backend: &Peer) -> bool {
        let served = self.at(dialled).or_else(|| self.at_node_port(dialled));
        served.is_some_and(|served| served.has_lost(backend))
    }

    /// Whether a socket whose peer is the frontend itself was never translated, and would be
    /// now (CT-03). NodePorts are told by the node's addresses.
    pub fn is_untranslated(&self, peer: &Peer, node_addresses: &BTreeSet<Addr>) -> bool {
        let node_port = || self.at_node_port(peer).filter(|_| node_addresses.contains(&peer.0));
        self.at(peer).or_else(node_port).is_some_and(|served| served.has_lost(peer))
    }

    /// Whether there is no UDP service port at all.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    fn at(&self, (address, port): &Peer) -> Option<&Served> {
        let port = NonZeroU16::new(port.to_host())?;
        self.served(Frontend::new(address.to_ip(), port, Protocol::UDP)?)
    }

    fn at_node_port(&self, (address, port): &Peer) -> Option<&Served> {
        let port = NonZeroU16::new(port.to_host())?;
        let family = Family::of(address.to_ip());
        self.served(Frontend::node_port(family, port, Protocol::UDP)?)
    }

    fn served(&self, frontend: Frontend) -> Option<&Served> {
        self.ports.get(self.owners.get(&frontend)?)
    }
}

impl Search {
    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty() && !self.is_first
    }
}

#[cfg(test)]
mod tests;
