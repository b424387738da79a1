// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is told to people as Kubernetes Events, where there is an API server.
//!
//! ```text
//! issues, servers ─► Events (bounded, never waits) ─► kube::events ─► events.k8s.io/v1
//! ```
//!
//! An Event is a courtesy: the log, metrics and `show` say the same. So it never holds up
//! anything, and one that finds no room is dropped.

use std::collections::HashSet;

use tokio::sync::{mpsc, oneshot};

use crate::model::{
    ObjectName,
    issue::{Issue, ObjectKind, Problem},
};

/// Where to leave what is to be told. Clones have one queue.
#[derive(Clone, Debug, Default)]
pub struct Events(Option<mpsc::Sender<Entry>>);

/// What is in the queue.
#[derive(Debug)]
pub(super) enum Entry {
    /// Something to tell.
    Notice(Notice),
    /// Everything before it has been told, or could not be.
    Drained(oneshot::Sender<()>),
}

/// Something to tell about an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// The object.
    pub about: About,
    /// How bad it is.
    pub severity: Severity,
    /// One word for programs: `FrontendTaken`.
    pub reason: &'static str,
    /// What the agent does about it, one word.
    pub action: &'static str,
    /// A sentence for people.
    pub note: String,
    /// Whether it is true of this node alone. What is true everywhere is told once, by
    /// whichever node is first.
    pub is_local: bool,
}

/// What a notice is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum About {
    /// This node.
    Node,
    /// A Service.
    Service(ObjectName),
    /// An EndpointSlice.
    Slice(ObjectName),
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Nothing to do.
    Normal,
    /// Worth a look.
    Warning,
}

/// Tells of issues when they appear, not as long as they last.
#[derive(Debug, Default)]
pub struct Announcer {
    events: Events,
    known: HashSet<Issue>,
}

impl Events {
    /// A queue, and its end for whoever writes.
    pub(super) fn queue() -> (Self, mpsc::Receiver<Entry>) {
        let (sender, receiver) = mpsc::channel(QUEUED);
        (Self(Some(sender)), receiver)
    }

    /// Leaves something to be told, if somebody tells and has room for it.
    pub fn post(&self, notice: impl FnOnce() -> Notice) {
        let Some(queue) = &self.0 else { return };
        if let Ok(room) = queue.try_reserve() {
            room.send(Entry::Notice(notice()));
        } else {
            tracing::debug!("no room for an Event; dropped");
        }
    }

    /// Waits until nothing is left to be told.
    pub async fn drain(&self) {
        let Some(queue) = &self.0 else { return };
        let (drained, done) = oneshot::channel();
        if queue.send(Entry::Drained(drained)).await.is_ok() {
            // A writer that ended tells nothing more, either.
            drop(done.await);
        }
    }
}

impl Notice {
    /// The agent of this node starts (MET-14).
    pub(super) fn starting() -> Self {
        let note = format!("lb-agent {}", env!("CARGO_PKG_VERSION"));
        Self { severity: Severity::Normal, ..Self::of_node("Starting", "Start", note) }
    }

    /// A warning about this node.
    pub fn of_node(reason: &'static str, action: &'static str, note: String) -> Self {
        let severity = Severity::Warning;
        Self { about: About::Node, severity, reason, action, note, is_local: true }
    }
}

impl From<&Issue> for Notice {
    fn from(issue: &Issue) -> Self {
        let about = match issue.kind {
            // A ServiceCIDR matters to the node that drops what is free in it, a pod to its own.
            ObjectKind::Node | ObjectKind::ServiceCidr | ObjectKind::Pod => About::Node,
            ObjectKind::Service => About::Service(issue.object.clone()),
            ObjectKind::EndpointSlice => About::Slice(issue.object.clone()),
        };
        let on_node =
            matches!(issue.kind, ObjectKind::Node | ObjectKind::ServiceCidr | ObjectKind::Pod);
        let (reason, action, is_local) = match issue.problem {
            Problem::Taken { .. } => ("FrontendTaken", "Wait", false),
            Problem::HealthCheckPort { .. } => ("FailedToStartServiceHealthcheck", "Retry", true),
            Problem::Full { .. } => ("MapFull", "Wait", true),
            Problem::LocalPorts { .. } => ("NodePortsNotReserved", "Tell", true),
            Problem::Unwritten { .. } => ("NotProgrammed", "Retry", true),
            Problem::NoDevice { .. } | Problem::Unserved { .. } | Problem::Away { .. } => {
                ("DeviceNotServed", "Retry", true)
            }
            Problem::FlowsKept { .. } => ("FlowsKeptSize", "Tell", true),
            _ => ("ValueIgnored", "Ignore", on_node),
        };
        let note = format!("{}: {}", issue.field, issue.problem);
        Self { about, severity: Severity::Warning, reason, action, note, is_local }
    }
}

impl Announcer {
    /// One that tells nothing yet.
    pub fn new(events: Events) -> Self {
        Self { events, known: HashSet::new() }
    }

    /// Tells of those that were not there the last time.
    pub fn update(&mut self, issues: &[Issue]) {
        if self.events.0.is_none() {
            return;
        }
        for issue in issues.iter().filter(|issue| !self.known.contains(issue)) {
            self.events.post(|| issue.into());
        }
        self.known = issues.iter().cloned().collect();
    }
}

/// Notices that wait to be written; an API server that is away for a while loses what is
/// more.
const QUEUED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(name: &str, problem: Problem) -> Issue {
        let object = ObjectName::new("default", name);
        Issue { kind: ObjectKind::Service, object, field: "spec.x".to_owned(), problem }
    }

    fn taken() -> Problem {
        let winner = ObjectName::new("default", "first");
        Problem::Taken { frontend: "192.0.2.1:80/TCP".to_owned(), winner }
    }

    #[test]
    fn col_02_an_issue_is_told_when_it_appears_and_when_it_comes_back() {
        let (events, mut queue) = Events::queue();
        let mut announcer = Announcer::new(events);
        let (one, other) = (issue("a", taken()), issue("b", Problem::DuplicatePort));
        announcer.update(std::slice::from_ref(&one));
        announcer.update(&[one.clone(), other.clone()]);
        announcer.update(std::slice::from_ref(&other));
        announcer.update(&[one.clone(), other]);
        let mut reasons = Vec::new();
        while let Ok(Entry::Notice(notice)) = queue.try_recv() {
            reasons.push(notice.reason);
        }
        assert_eq!(reasons, ["FrontendTaken", "ValueIgnored", "FrontendTaken"]);
    }

    #[test]
    fn a_notice_names_the_field_and_what_to_do() {
        let notice = Notice::from(&issue("a", taken()));
        assert!(notice.note.starts_with("spec.x: 192.0.2.1:80/TCP is already served for"));
        assert!(!notice.is_local);
        assert_eq!(notice.about, About::Service(ObjectName::new("default", "a")));
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_nobody_waits() {
        let (events, mut queue) = Events::queue();
        let mut announcer = Announcer::new(events.clone());
        let issues: Vec<_> = (0..1000).map(|number| issue(&number.to_string(), taken())).collect();
        announcer.update(&issues);
        let mut told = 0;
        while queue.try_recv().is_ok() {
            told += 1;
        }
        assert_eq!(told, QUEUED);
        Events::default().post(|| unreachable!("nobody tells"));
    }
}
