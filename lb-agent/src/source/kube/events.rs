// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes notices as Events of events.k8s.io/v1, with the rights of CFG-08: create and patch.
//!
//! kube's own recorder counts what has one reason as one Event and keeps the first note, and
//! every node would write one of its own. Here an Event's name is a hash of what it says: the
//! first node to write it is the only one, and one that comes back is counted in its series.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{ObjectReference, Service},
        discovery::v1::EndpointSlice,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    fnv::fnv1a,
    model::ObjectName,
    source::{
        error::chain,
        events::{About, Entry, Notice, Severity},
    },
};

/// Writes what is in the queue, at its own pace.
pub(in crate::source) struct Writer {
    client: Client,
    node: Arc<str>,
    /// Tells what this run of the agent says of its node from what another one said.
    started: Timestamp,
    /// How often each Event was told by this agent.
    told: HashMap<String, i32>,
    budget: Budget,
    /// Whether the last one could not be written.
    failing: bool,
}

/// A few at once, then one a second.
struct Budget {
    /// What may be written at once.
    tokens: u32,
    /// When the next token comes.
    next: Instant,
}

impl Writer {
    pub(in crate::source) fn new(client: Client, node: Arc<str>) -> Self {
        Self {
            client,
            node,
            started: Timestamp::now(),
            told: HashMap::new(),
            budget: Budget::new(Instant::now()),
            failing: false,
        }
    }

    /// Writes until nobody can leave anything any more.
    pub(in crate::source) async fn run(mut self, mut queue: mpsc::Receiver<Entry>) {
        while let Some(entry) = queue.recv().await {
            let notice = match entry {
                Entry::Notice(notice) => notice,
                Entry::Drained(waiter) => {
                    // Whoever waited may have given up.
                    let _ = waiter.send(());
                    continue;
                }
            };
            if let Some(later) = self.budget.take(Instant::now()) {
                sleep_until(later).await;
            }
            let outcome = self.write(&notice).await;
            self.note(outcome, &notice);
        }
    }

    /// Says once that Events cannot be written, and once that they can again.
    fn note(&mut self, outcome: kube::Result<()>, notice: &Notice) {
        let failed = outcome.is_err();
        match outcome {
            Ok(()) if self.failing => tracing::info!("events can be written again"),
            Ok(()) => {}
            Err(error) if self.failing => {
                tracing::debug!(error = chain(&error), reason = notice.reason, "no Event");
            }
            Err(error) => tracing::warn!(
                error = chain(&error),
                reason = notice.reason,
                "events.events.k8s.io cannot be created or patched; does the agent's role have \
                 both verbs? What they would say is in this log"
            ),
        }
        self.failing = failed;
    }

    async fn write(&mut self, notice: &Notice) -> kube::Result<()> {
        let Some(regarding) = self.retried(|| self.reference(&notice.about)).await? else {
            return Ok(());
        };
        let name = self.name(notice, &regarding);
        let namespace = regarding.namespace.clone().unwrap_or_else(|| NODES_NAMESPACE.to_owned());
        let events = Api::<Event>::namespaced(self.client.clone(), &namespace);
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        let told = self.told.entry(name.clone()).or_insert(0);
        *told = told.saturating_add(1);
        let count = *told;
        if count > 1 && self.count(&events, &name, count).await? {
            return Ok(());
        }
        let event = self.event(&name, &namespace, notice, regarding);
        let create = || async { events.create(&PostParams::default(), &event).await };
        match self.retried(create).await {
            // Another node has said it, or this one before its restart.
            Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Counts an Event that is there already; false if it has expired.
    async fn count(&self, events: &Api<Event>, name: &str, count: i32) -> kube::Result<bool> {
        let series = EventSeries { count, last_observed_time: MicroTime(Timestamp::now()) };
        let part = Patch::Merge(json!({"series": series}));
        let patch = || async { events.patch(name, &PatchParams::default(), &part).await };
        match self.retried(patch).await {
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(false),
            outcome => outcome.map(|_| true),
        }
    }

    /// What an Event is about; none if the object is gone. `kubectl describe` finds Events by
    /// the object's uid, which is asked for here since nothing else needs it.
    async fn reference(&self, about: &About) -> kube::Result<Option<ObjectReference>> {
        match about {
            // As the kubelet and kube-proxy do: `describe node` looks for the name as uid, too.
            About::Node => Ok(Some(ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(self.node.to_string()),
                uid: Some(self.node.to_string()),
                ..ObjectReference::default()
            })),
            About::Service(name) => self.find::<Service>(name).await,
            About::Slice(name) => self.find::<EndpointSlice>(name).await,
        }
    }

    /// An object by a list of one: the role has no `get`.
    async fn find<K>(&self, name: &ObjectName) -> kube::Result<Option<ObjectReference>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + fmt::Debug
            + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &name.namespace);
        let one = ListParams::default().fields(&format!("metadata.name={}", name.name));
        let found = api.list_metadata(&one).await?.items.pop();
        Ok(found.map(|object| ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(name.name.to_string()),
            namespace: Some(name.namespace.to_string()),
            uid: object.metadata.uid,
            ..ObjectReference::default()
        }))
    }

    /// The object's name and a hash of what is said of it, and by whom if that matters.
    fn name(&self, notice: &Notice, regarding: &ObjectReference) -> String {
        let (by, since) = (self.node.to_string(), self.started.to_string());
        let [by, since] = if notice.is_local { [by.as_str(), since.as_str()] } else { ["", ""] };
        let uid = regarding.uid.as_deref().unwrap_or_default();
        let said = [uid, notice.reason, &notice.note, by, since];
        let hash = fnv1a(said.iter().flat_map(|text| text.bytes().chain([0])));
        let name = regarding.name.as_deref().unwrap_or_default();
        let name = name.get(..NAME_PART).unwrap_or(name).trim_end_matches(['.', '-']);
        format!("{name}.{hash:016x}")
    }

    fn event(
        &self,
        name: &str,
        namespace: &str,
        notice: &Notice,
        regarding: ObjectReference,
    ) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            action: Some(notice.action.to_owned()),
            reason: Some(notice.reason.to_owned()),
            note: Some(shortened(&notice.note)),
            regarding: Some(regarding),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.node.to_string()),
            type_: Some(
                match notice.severity {
                    Severity::Normal => "Normal",
                    Severity::Warning => "Warning",
                }
                .to_owned(),
            ),
            ..Event::default()
        }
    }

    /// Tries again for half a minute, unless the server has said no.
    async fn retried<T, F>(&self, attempt: impl FnMut() -> F) -> kube::Result<T>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let delays = ExponentialBuilder::new().with_min_delay(FIRST_RETRY).with_max_times(RETRIES);
        let refused = |error: &kube::Error| {
            matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code)
                && status.code != TOO_MANY)
        };
        attempt.retry(delays).when(|error| !refused(error)).await
    }
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { tokens: BURST, next: now }
    }

    /// Takes a token; until when to wait if there is none.
    fn take(&mut self, now: Instant) -> Option<Instant> {
        while self.tokens < BURST && self.next <= now {
            self.tokens += 1;
            self.next += REFILL;
        }
        if self.tokens == BURST {
            self.next = now + REFILL;
        }
        if let Some(left) = self.tokens.checked_sub(1) {
            self.tokens = left;
            return None;
        }
        let due = self.next;
        self.next += REFILL;
        Some(due)
    }
}

/// The note, as long as the API allows it.
fn shortened(note: &str) -> String {
    let end = note.floor_char_boundary(MAX_NOTE);
    note.get(..end).unwrap_or_default().to_owned()
}

/// `reportingController` of every Event.
const CONTROLLER: &str = "sluice";
/// Where Events of objects without a namespace are.
const NODES_NAMESPACE: &str = "default";
/// So much of the object's name stays in the Event's, which may have 253 letters.
const NAME_PART: usize = 230;
/// A note has at most 1 kB.
const MAX_NOTE: usize = 1024;
/// Events that may be written at once.
const BURST: u32 = 25;
/// One more after so long.
const REFILL: Duration = Duration::from_secs(1);
/// Events whose number is known.
const REMEMBERED: usize = 1024;
/// The first wait after an error; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Tries after the first one: 31 s.
const RETRIES: usize = 5;
/// HTTP 404.
const NOT_FOUND: u16 = 404;
/// HTTP 409: there is an object of that name.
const CONFLICT: u16 = 409;
/// HTTP 429: not now.
const TOO_MANY: u16 = 429;

#[cfg(test)]
mod tests;
