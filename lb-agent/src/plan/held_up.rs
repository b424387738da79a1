// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whose ops could not be executed: an op names indexes, an operator wants the object.

use std::collections::BTreeMap;

use foldhash::HashMap;

use super::{
    desired::Desired,
    diff::Planner,
    op::Op,
    port::{Frontend, PortName},
};
use crate::model::{
    ObjectName,
    issue::{Issue, ObjectKind, Problem},
};

/// An op that was not executed.
#[derive(Clone, Debug)]
pub struct HeldUp {
    /// The op.
    pub op: Op,
    /// Why: its own failure, or the one that it waits for.
    pub reason: String,
}

impl Planner {
    /// One issue for each object whose ops were held up, with the first reason. `node` is
    /// this node's name. Ops that belong to no single object have none: whoever needs them
    /// is held up as well.
    pub fn held_up(&self, desired: &Desired, node: &ObjectName, ops: &[HeldUp]) -> Vec<Issue> {
        let ids = self.places.iter().map(|(name, place)| (place.id, name)).collect();
        let mut issues = BTreeMap::new();
        for HeldUp { op, reason } in ops {
            let of_node = |what: &str| (ObjectKind::Node, node.clone(), what.to_owned());
            let object = match op {
                Op::NodeAddress { .. } => Some(of_node("node addresses")),
                Op::ServiceCidr { .. } => Some(of_node("ServiceCIDRs")),
                _ => self.owner(op, desired, &ids),
            };
            if let Some(object) = object {
                issues.entry(object).or_insert_with(|| reason.clone());
            }
        }
        let issue = |((kind, object, field), reason)| {
            let problem = Problem::Unwritten { reason };
            Issue { kind, object, field, problem }
        };
        issues.into_iter().map(issue).collect()
    }

    fn owner(
        &self,
        op: &Op,
        desired: &Desired,
        ids: &HashMap<u32, &PortName>,
    ) -> Option<(ObjectKind, ObjectName, String)> {
        let winner = frontend(op).and_then(|frontend| desired.winner(&frontend));
        let id = || self.id(op);
        let port = || desired.port(ids.get(&id()?)?).map(|port| &*port.owner);
        let (service, field) = match winner.map(|winner| &*winner.owner).or_else(port) {
            Some(owner) => (owner.service.clone(), format!("service port {}", owner.name)),
            // What is to go has no object any more, only a name in the maps.
            None => (ObjectName::new("", self.tables.names.get(&id()?)?.clone()), "removal".into()),
        };
        Some((ObjectKind::Service, service, field))
    }

    /// The service id that an op is about.
    fn id(&self, op: &Op) -> Option<u32> {
        let of_record = |index| Some(self.tables.services.at(index).id).filter(|id| *id != 0);
        match op {
            Op::Name { id, .. } => Some(*id),
            Op::Member { key, .. } => Some(key.service_id),
            Op::SourceRange { key, .. } => Some(key.guard.service_id),
            Op::Service { record, .. } => Some(record.id),
            Op::Rules { index, .. } | Op::Inside { index, .. } | Op::Outside { index, .. } => {
                of_record(*index)
            }
            Op::Frontend4 { .. } | Op::Frontend6 { .. } | Op::NodePort { .. } => {
                of_record(self.tables.frontend(&frontend(op)?)?.service)
            }
            Op::Backend { .. }
            | Op::Life { .. }
            | Op::BackendFlags { .. }
            | Op::Slots { .. }
            | Op::ServiceCidr { .. }
            | Op::NodeAddress { .. }
            | Op::Grace => None,
        }
    }
}

fn frontend(op: &Op) -> Option<Frontend> {
    match *op {
        Op::Frontend4 { key, .. } => Some(Frontend::V4(key)),
        Op::Frontend6 { key, .. } => Some(Frontend::V6(key)),
        Op::NodePort { index, ipv6, .. } => Some(Frontend::NodePort { index, ipv6 }),
        _ => None,
    }
}
