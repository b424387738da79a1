// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who has which frontend, and who waits for it (COL-02).

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foldhash::HashMap;
use lb_common::service::FrontendKind;

use super::{
    desired::Changed,
    port::{Frontend, Owner},
};
use crate::model::issue::{Issue, ObjectKind, Problem};

/// All claims. The least claim for a frontend has it; the others wait and take over when it
/// goes, in their order.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    winners: HashMap<Frontend, Claim>,
    waiting: BTreeMap<Frontend, BTreeSet<Claim>>,
}

/// One service port's claim for a frontend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Who wants it.
    pub owner: Arc<Owner>,
    /// As which kind of frontend.
    pub kind: FrontendKind,
}

impl Claims {
    /// Who has a frontend.
    pub fn winner(&self, frontend: &Frontend) -> Option<&Claim> {
        self.winners.get(frontend)
    }

    /// Every frontend that somebody has.
    pub fn frontends(&self) -> impl Iterator<Item = &Frontend> {
        self.winners.keys()
    }

    /// Makes room for so many more frontends at once.
    pub fn reserve(&mut self, frontends: usize) {
        self.winners.reserve(frontends);
    }

    /// Adds a claim.
    pub fn add(&mut self, frontend: Frontend, claim: Claim, changed: &mut Changed) {
        let loser = match self.winners.get_mut(&frontend) {
            None => {
                changed.moved(frontend, &claim);
                self.winners.insert(frontend, claim);
                return;
            }
            Some(winner) if claim < *winner => {
                changed.moved(frontend, &claim);
                changed.moved(frontend, winner);
                std::mem::replace(winner, claim)
            }
            Some(_) => claim,
        };
        self.waiting.entry(frontend).or_default().insert(loser);
    }

    /// Takes a claim back.
    pub fn remove(&mut self, frontend: Frontend, claim: &Claim, changed: &mut Changed) {
        let waiting = self.waiting.get_mut(&frontend);
        if self.winners.get(&frontend) == Some(claim) {
            changed.moved(frontend, claim);
            match waiting.and_then(BTreeSet::pop_first) {
                Some(next) => {
                    changed.moved(frontend, &next);
                    self.winners.insert(frontend, next);
                }
                None => {
                    self.winners.remove(&frontend);
                }
            }
        } else if let Some(waiting) = waiting {
            waiting.remove(claim);
        }
        if self.waiting.get(&frontend).is_some_and(BTreeSet::is_empty) {
            self.waiting.remove(&frontend);
        }
    }

    /// One issue for each claim that waits.
    pub fn issues(&self) -> impl Iterator<Item = Issue> {
        let contests = self.waiting.iter().filter_map(|(frontend, waiting)| {
            Some((frontend, self.winners.get(frontend)?, waiting))
        });
        contests.flat_map(|(frontend, winner, waiting)| {
            // Two of one ClusterIP are told of their ports.
            let told = waiting.iter().filter(|_| frontend.any_port_of().is_none());
            told.map(move |loser| Issue {
                kind: ObjectKind::Service,
                object: loser.owner.service.clone(),
                field: field(loser.kind).to_owned(),
                problem: Problem::Taken {
                    frontend: frontend.to_string(),
                    winner: winner.owner.service.clone(),
                },
            })
        })
    }
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> Ordering {
        self.owner.cmp(&other.owner).then(self.kind.cmp(&other.kind))
    }
}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

const fn field(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "spec.clusterIPs",
        FrontendKind::NodePort => "spec.ports[].nodePort",
        FrontendKind::ExternalIp => "spec.externalIPs",
        FrontendKind::LoadBalancer => "status.loadBalancer.ingress[].ip",
    }
}
