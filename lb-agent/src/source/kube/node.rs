// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Follows this node's Node object, which may be missing.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1 as core;
use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::follower::Follower;
use crate::{
    model::{
        change::{Change, Listing, NodeObject},
        node::Node,
    },
    source::{
        convert,
        error::Error,
        status::{Place, Reporter},
    },
};

/// Follows the one Node that is this one.
pub(super) struct ThisNode {
    /// The node as it was said last; its name alone before that.
    known: NodeObject,
    /// What the list that runs has found.
    listed: Option<NodeObject>,
    said: Said,
    reporter: Reporter,
}

/// How far the first word is.
enum Said {
    /// Nothing was listed.
    Nothing,
    /// The list was empty: the Node is waited for until then (NOD-04).
    Waiting(Instant),
    /// It is said.
    Once,
}

impl ThisNode {
    pub(super) fn new(name: &Arc<str>, reporter: Reporter) -> Self {
        let known = NodeObject { node: Node::named(name.clone()), issues: Vec::new() };
        Self { known, listed: None, said: Said::Nothing, reporter }
    }

    fn found(&mut self, object: NodeObject) -> Change {
        self.reporter.recovered(&Place::Node);
        self.known = object;
        self.say()
    }

    /// A Node that is gone leaves routing as it is (NOD-05) and takes the node out of load
    /// balancers (HLZ-05).
    fn gone(&mut self) -> Change {
        let name = self.known.node.name.to_string();
        self.reporter.failed(&Place::Node, Error::NoNode { name });
        self.known.node.eligible = false;
        self.known.issues.clear();
        self.say()
    }

    fn say(&mut self) -> Change {
        match std::mem::replace(&mut self.said, Said::Once) {
            Said::Once => Change::Node(self.known.clone()),
            Said::Nothing | Said::Waiting(_) => Change::Replace(Box::new(Listing {
                node: Some(self.known.clone()),
                ..Listing::default()
            })),
        }
    }
}

impl Follower<core::Node> for ThisNode {
    fn take(&mut self, event: Event<core::Node>) -> Option<Change> {
        match event {
            Event::Init => self.listed = None,
            Event::InitApply(object) => self.listed = Some(convert::node(&object)),
            Event::InitDone => match (self.listed.take(), &self.said) {
                (Some(object), _) => return Some(self.found(object)),
                (None, Said::Nothing) => self.said = Said::Waiting(Instant::now() + PATIENCE),
                (None, Said::Waiting(_)) => {}
                (None, Said::Once) => return Some(self.gone()),
            },
            Event::Apply(object) => return Some(self.found(convert::node(&object))),
            Event::Delete(_) => return Some(self.gone()),
        }
        None
    }

    fn deadline(&self) -> Option<Instant> {
        match self.said {
            Said::Waiting(until) => Some(until),
            Said::Nothing | Said::Once => None,
        }
    }

    fn expire(&mut self) -> Option<Change> {
        matches!(self.said, Said::Waiting(_)).then(|| self.gone())
    }
}

/// How long a Node that is not there at the start is waited for (NOD-04).
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(zone: &str) -> core::Node {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": labels}})).unwrap()
    }

    fn follower() -> (ThisNode, tokio::sync::watch::Receiver<crate::source::Status>) {
        let (reporter, status) = Reporter::new();
        (ThisNode::new(&"n1".into(), reporter), status)
    }

    /// The node of a change, and whether the change is a source's first word.
    fn said(change: Option<Change>) -> (Node, bool) {
        match change {
            Some(Change::Node(object)) => (object.node, false),
            Some(Change::Replace(listing)) => (listing.node.unwrap().node, true),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nod_04_a_missing_node_is_waited_for_and_then_done_without() {
        let (mut follower, status) = follower();
        assert_eq!(follower.take(Event::Init), None);
        assert_eq!(follower.take(Event::InitDone), None);
        let wait = follower.deadline().unwrap() - Instant::now();
        assert!(wait <= PATIENCE && wait > PATIENCE / 2);
        assert_eq!(said(follower.expire()), (Node::named("n1"), true));
        assert_eq!(follower.deadline(), None);
        assert!(status.borrow().failures.contains_key(&Place::Node));
        let (node, first) = said(follower.take(Event::Apply(object("a"))));
        assert_eq!((node.zone.as_deref(), node.eligible, first), (Some("a"), true, false));
        assert!(status.borrow().failures.is_empty());
    }

    #[test]
    fn nod_04_a_node_that_appears_in_time_is_the_first_word() {
        let (mut follower, _status) = follower();
        assert_eq!(follower.take(Event::InitDone), None);
        let (node, first) = said(follower.take(Event::Apply(object("a"))));
        assert_eq!((node.zone.as_deref(), first), (Some("a"), true));
        assert_eq!((follower.deadline(), follower.expire()), (None, None));
    }

    #[test]
    fn nod_05_a_node_that_is_deleted_keeps_its_zone_and_is_not_eligible() {
        for last in [Event::Delete(object("a")), Event::InitDone] {
            let (mut follower, _status) = follower();
            follower.take(Event::InitApply(object("a")));
            follower.take(Event::InitDone);
            let (node, _) = said(follower.take(last));
            assert_eq!((node.zone.as_deref(), node.eligible), (Some("a"), false));
        }
    }
}
