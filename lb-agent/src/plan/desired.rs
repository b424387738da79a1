// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that should be served, kept up to date change by change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foldhash::HashMap;
use lb_common::{
    addr::Addr,
    range::{CidrKey, CidrRule},
    service::FrontendKind,
};

use super::{
    admission::prefix,
    claims::{Claim, Claims},
    cluster_ips::ClusterIps,
    compile::compile_service,
    demand::Demand,
    port::{Frontend, Port, PortName},
    stranded::Stranded,
};
use crate::model::{
    ObjectName,
    issue::Issue,
    slices::Slices,
    snapshot::{Snapshot, Touched},
};

/// All compiled service ports, and who has which frontend.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    ports: HashMap<PortName, Arc<Port>>,
    services: HashMap<ObjectName, Box<[PortName]>>,
    claims: Claims,
    node_addresses: BTreeSet<Addr>,
    demand: Demand,
    stranded: Stranded,
    cluster_ips: ClusterIps,
}

/// What an update changed: what a plan has to look at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changed {
    /// Service ports that are new, gone or different, or that won or lost a frontend.
    pub ports: BTreeSet<PortName>,
    /// Frontends that somebody won or lost.
    pub frontends: BTreeSet<Frontend>,
    /// Whether this node's addresses are others.
    pub node_addresses: bool,
    /// Whether ClusterIPs are elsewhere.
    pub service_cidrs: bool,
}

/// Compiles a whole snapshot.
pub fn compile(snapshot: &Snapshot) -> (Desired, Vec<Issue>) {
    let mut desired = Desired::default();
    desired.update(snapshot, &Touched::All);
    let issues = desired.issues().collect();
    (desired, issues)
}

impl Desired {
    /// Compiles again what was touched. Costs by what was touched, not by the cluster.
    pub fn update(&mut self, snapshot: &Snapshot, touched: &Touched) -> Changed {
        let mut changed = Changed::default();
        match touched {
            Touched::Some(names) => {
                for name in names {
                    self.update_service(name, snapshot, &mut changed);
                }
            }
            Touched::All => {
                let more = snapshot.services.len().saturating_sub(self.services.len());
                self.services.reserve(more);
                self.ports.reserve(more);
                self.claims.reserve(more);
                let gone =
                    self.services.keys().filter(|name| !snapshot.services.contains_key(*name));
                let gone: Vec<_> = gone.cloned().collect();
                for name in gone.iter().chain(snapshot.services.keys()) {
                    self.update_service(name, snapshot, &mut changed);
                }
                let addresses = snapshot.node_addresses.iter().map(|&address| address.into());
                let addresses: BTreeSet<_> = addresses.collect();
                changed.node_addresses = addresses != self.node_addresses;
                self.node_addresses = addresses;
                self.cluster_ips.put_cidrs(cidrs_of(snapshot), self.claims.frontends());
            }
        }
        changed.service_cidrs = self.cluster_ips.settle();
        changed
    }

    /// A service port.
    pub fn port(&self, name: &PortName) -> Option<&Arc<Port>> {
        self.ports.get(name)
    }

    /// The names of all service ports, in no particular order.
    pub fn port_names(&self) -> impl Iterator<Item = &PortName> {
        self.ports.keys()
    }

    /// The frontends that a service port has won.
    pub fn won<'a>(
        &'a self,
        port: &'a Port,
    ) -> impl Iterator<Item = (Frontend, FrontendKind)> + 'a {
        port.claims.iter().copied().filter(|(frontend, kind)| {
            self.claims
                .winner(frontend)
                .is_some_and(|winner| winner.kind == *kind && winner.owner.name == port.owner.name)
        })
    }

    /// Who has a frontend.
    pub fn winner(&self, frontend: &Frontend) -> Option<&Claim> {
        self.claims.winner(frontend)
    }

    /// Every frontend that somebody has, in no particular order.
    pub fn frontends(&self) -> impl Iterator<Item = &Frontend> {
        self.claims.frontends()
    }

    /// This node's addresses on which NodePorts answer.
    pub const fn node_addresses(&self) -> &BTreeSet<Addr> {
        &self.node_addresses
    }

    /// Where ClusterIPs are.
    pub const fn service_cidrs(&self) -> &BTreeMap<CidrKey, CidrRule> {
        self.cluster_ips.rules()
    }

    /// How much room it takes at most.
    pub const fn demand(&self) -> &Demand {
        &self.demand
    }

    /// How many service ports a Local policy leaves without endpoints on this node.
    pub const fn stranded(&self) -> &Stranded {
        &self.stranded
    }

    /// The claims that wait (COL-02).
    pub fn issues(&self) -> impl Iterator<Item = Issue> {
        self.claims.issues()
    }

    fn update_service(&mut self, name: &ObjectName, snapshot: &Snapshot, changed: &mut Changed) {
        let none = Slices::default();
        let slices = snapshot.slices.get(name).unwrap_or(&none);
        let ports = snapshot.services.get(name).map_or_else(Vec::new, |it| {
            compile_service(it, slices, &snapshot.node, snapshot.rules)
        });
        let names: Box<[_]> = ports.iter().map(|port| port.owner.name.clone()).collect();
        let before = self.services.get(name).cloned().unwrap_or_default();
        for gone in before.iter().filter(|gone| !names.contains(gone)) {
            self.put_port(gone, None, changed);
        }
        for port in ports {
            let name = port.owner.name.clone();
            self.put_port(&name, Some(port), changed);
        }
        if names.is_empty() {
            self.services.remove(name);
        } else if names != before {
            self.services.insert(name.clone(), names);
        }
    }

    /// Replaces one service port and its claims.
    fn put_port(&mut self, name: &PortName, new: Option<Port>, changed: &mut Changed) {
        let old = self.ports.get(name).cloned();
        let new = new.map(|mut port| {
            // One owner serves all generations of a port: claims hold it.
            if let Some(old) = old.as_ref().filter(|old| old.owner == port.owner) {
                port.owner = old.owner.clone();
            }
            Arc::new(port)
        });
        if old == new {
            return;
        }
        for (frontend, claim) in lost_claims(old.as_deref(), new.as_deref()) {
            self.claims.remove(frontend, &claim, changed);
        }
        for (frontend, claim) in lost_claims(new.as_deref(), old.as_deref()) {
            self.claims.add(frontend, claim, changed);
        }
        let both = old.iter().chain(&new).flat_map(|port| &port.claims);
        for (frontend, _) in both.filter(|(it, _)| it.any_port_of().is_some()) {
            self.cluster_ips.put(frontend, self.claims.winner(frontend).is_some());
        }
        self.demand -= old.as_deref().map(Demand::of).unwrap_or_default();
        self.demand += new.as_deref().map(Demand::of).unwrap_or_default();
        self.stranded -= old.as_deref().map(Stranded::of).unwrap_or_default();
        self.stranded += new.as_deref().map(Stranded::of).unwrap_or_default();
        match new {
            Some(port) => self.ports.insert(name.clone(), port),
            None => self.ports.remove(name),
        };
        changed.ports.insert(name.clone());
    }
}

impl Changed {
    /// Whether there is nothing to plan.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another update changed.
    pub fn merge(&mut self, other: Self) {
        self.ports.extend(other.ports);
        self.frontends.extend(other.frontends);
        self.node_addresses |= other.node_addresses;
        self.service_cidrs |= other.service_cidrs;
    }

    /// Notes that a claim won or lost a frontend.
    pub(super) fn moved(&mut self, frontend: Frontend, claim: &Claim) {
        self.frontends.insert(frontend);
        self.ports.insert(claim.owner.name.clone());
    }
}

/// The prefixes of all ServiceCIDRs; none if they do not matter.
fn cidrs_of(snapshot: &Snapshot) -> BTreeSet<CidrKey> {
    let cidrs = snapshot.service_cidrs.values().flatten();
    cidrs.filter(|_| snapshot.rules.guard_cluster_ips).map(prefix).collect()
}

/// The claims of `of` that `than` does not have.
fn lost_claims<'a>(
    of: Option<&'a Port>,
    than: Option<&'a Port>,
) -> impl Iterator<Item = (Frontend, Claim)> + 'a {
    let kept = than.filter(|than| of.is_some_and(|of| of.owner == than.owner));
    of.into_iter().flat_map(move |port| {
        let lost = port
            .claims
            .iter()
            .filter(move |claim| kept.is_none_or(|kept| kept.claims.binary_search(claim).is_err()));
        lost.map(|&(frontend, kind)| (frontend, Claim { owner: port.owner.clone(), kind }))
    })
}

#[cfg(test)]
mod tests;
