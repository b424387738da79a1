// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whole watches against an API server that answers by a script. Time is the test's own.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use k8s_openapi::api::{core::v1::Service, networking::v1::ServiceCIDR};
use kube::client::{Body, ClientBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::{
    model::{
        change::{Change, Listing},
        service as model,
        snapshot::Snapshot,
    },
    source::{
        Status,
        convert::{service, service_cidr},
        kube::{
            client::{Answered, telling},
            follower::Objects,
        },
    },
};

/// One answer: status, lines, and whether the connection then stays open for ever.
struct Answer {
    code: u16,
    lines: Vec<Value>,
    open: bool,
}

/// A body of lines.
struct Lines {
    rest: VecDeque<Bytes>,
    open: bool,
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.rest.pop_front() {
            Some(line) => Poll::Ready(Some(Ok(Frame::data(line)))),
            None if self.open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

/// A watch of Services that runs on a script.
struct Running {
    /// The queries of the requests so far.
    queries: Arc<Mutex<Vec<String>>>,
    messages: mpsc::Receiver<Message>,
    status: tokio::sync::watch::Receiver<Status>,
    snapshot: Snapshot,
    _tasks: JoinSet<()>,
}

impl Running {
    /// A watch of Services.
    fn start(script: Vec<Answer>) -> Self {
        let config = watcher::Config::default().labels("!x").fields("spec.clusterIP!=None");
        let services = Objects::<Service, model::Service>::new(service, Change::Service, |it| {
            Listing { services: Some(it), ..Listing::default() }
        });
        Self::of(Resource::Services, config, services, script)
    }

    /// A watch of ServiceCIDRs, which can be done without.
    fn optional(script: Vec<Answer>) -> Self {
        let cidrs = Objects::<ServiceCIDR, _>::new(service_cidr, Change::ServiceCidr, |it| {
            Listing { service_cidrs: Some(it), ..Listing::default() }
        });
        let (config, cidrs) = (watcher::Config::default(), cidrs.optional("x is lost"));
        Self::of(Resource::ServiceCidrs, config, cidrs, script)
    }

    fn of<K, F>(
        resource: Resource,
        config: watcher::Config,
        follower: F,
        script: Vec<Answer>,
    ) -> Self
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
        F: Follower<K> + Sync + 'static,
    {
        let queries = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let seen = queries.clone();
        let server = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().replace("%21", "!");
            seen.lock().unwrap().push(query);
            let answer = script.lock().unwrap().pop_front();
            async move {
                let Some(Answer { code, lines, open }) = answer else {
                    return std::future::pending().await;
                };
                let rest = lines.iter().map(|line| Bytes::from(format!("{line}\n"))).collect();
                let response = Response::builder().status(code).body(Lines { rest, open });
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        let (reporter, status) = Reporter::new();
        let waiting = Arc::<Notify>::default();
        let answered = Answered { resource, reporter: reporter.clone(), waiting: waiting.clone() };
        let client = telling(ClientBuilder::new(server, "default"), answered).build();
        let watch =
            Watch { api: Api::<K>::all(client), config, resource, answered: waiting, follower };
        let (sender, messages) = mpsc::channel(100);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch.run(sender, reporter));
        Self { queries, messages, status, snapshot: Snapshot::default(), _tasks: tasks }
    }

    async fn change(&mut self) -> Change {
        let message = tokio::time::timeout(BOUND, self.messages.recv()).await;
        let Some(Message::Change(change)) = message.expect("a change in time") else { panic!() };
        change
    }

    /// The names of all Services after the next change.
    async fn next(&mut self) -> String {
        let change = self.change().await;
        self.snapshot.apply(change);
        let names: BTreeSet<_> = self.snapshot.services.keys().map(|it| &*it.name).collect();
        names.into_iter().collect::<Vec<_>>().join(" ")
    }

    async fn until_told(&mut self, part: &str) {
        let told = self.status.wait_for(|status| {
            status.failures.get(&PLACE).is_some_and(|error| error.chain().contains(part))
        });
        assert!(tokio::time::timeout(BOUND, told).await.is_ok(), "{part:?} is not told");
    }

    async fn until_recovered(&mut self) {
        let recovered = self.status.wait_for(|status| status.failures.is_empty());
        assert!(tokio::time::timeout(BOUND, recovered).await.is_ok());
    }

    fn query(&self, at: usize) -> String {
        self.queries.lock().unwrap()[at].clone()
    }
}

fn object(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "resourceVersion": version.to_string()},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    })
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

/// The end of a streaming list.
fn end(version: u32) -> Value {
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    let meta = json!({"resourceVersion": version.to_string(), "annotations": annotations});
    event("BOOKMARK", &json!({"apiVersion": "v1", "kind": "Service", "metadata": meta}))
}

fn refused(code: u16, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code, "reason": "x", "message": message,
    })
}

fn answer(lines: Vec<Value>) -> Answer {
    Answer { code: 200, lines, open: false }
}

fn open(lines: Vec<Value>) -> Answer {
    Answer { code: 200, lines, open: true }
}

fn page(names: &[&str], next: Option<&str>) -> Answer {
    let items: Vec<_> = names.iter().map(|name| object(name, 5)).collect();
    let meta = json!({"resourceVersion": "5", "continue": next});
    answer(vec![json!({
        "apiVersion": "v1", "kind": "ServiceList", "metadata": meta, "items": items,
    })])
}

#[tokio::test(start_paused = true)]
async fn svc_01_a_streaming_list_is_one_change_and_the_watch_goes_on_where_it_ended() {
    let added = |name, version| event("ADDED", &object(name, version));
    let mut running = Running::start(vec![
        answer(vec![added("a", 1), added("b", 2), end(2), event("MODIFIED", &object("c", 3))]),
        answer(vec![event("DELETED", &object("a", 4))]),
    ]);
    assert_eq!(running.next().await, "a b");
    assert_eq!(running.next().await, "a b c");
    assert_eq!(running.next().await, "b c");
    let first = running.query(0);
    for part in ["sendInitialEvents=true", "labelSelector=!x", "fieldSelector=spec.clusterIP"] {
        assert!(first.contains(part), "{first}");
    }
    let second = running.query(1);
    assert!(second.contains("resourceVersion=3") && !second.contains("sendInitial"), "{second}");
    assert!(running.status.borrow().failures.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_streaming_lists_is_asked_for_pages() {
    let message =
        "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
    let mut running = Running::start(vec![
        Answer { code: 422, lines: vec![refused(422, message)], open: false },
        page(&["a"], Some("more")),
        page(&["b"], None),
        open(vec![event("ADDED", &object("c", 6))]),
    ]);
    assert_eq!(running.next().await, "a b");
    assert_eq!(running.next().await, "a b c");
    assert!(running.query(1).contains("limit=200"), "{}", running.query(1));
    assert!(running.query(2).contains("continue=more"), "{}", running.query(2));
    assert!(running.query(3).contains("resourceVersion=5"), "{}", running.query(3));
    assert_eq!(running.status.borrow().failures_total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_know_streaming_lists_is_asked_for_pages() {
    let mut running =
        Running::start(vec![open(vec![event("ADDED", &object("a", 1))]), page(&["a", "b"], None)]);
    assert_eq!(running.next().await, "a b");
}

#[tokio::test(start_paused = true)]
async fn syn_03_a_refusal_is_told_once_and_what_was_known_stays() {
    let denied = || Answer { code: 403, lines: vec![refused(403, "no such role")], open: false };
    let mut running = Running::start(vec![
        answer(vec![event("ADDED", &object("a", 1)), end(1)]),
        denied(),
        denied(),
        denied(),
        open(vec![event("ADDED", &object("b", 2))]),
    ]);
    let mut watched = running.status.clone();
    assert_eq!(running.next().await, "a");
    running
        .until_told("cannot watch services: the API server answers 403: no such role; its role")
        .await;
    watched.mark_unchanged();
    assert_eq!(running.next().await, "a b");
    running.until_recovered().await;
    assert_eq!(running.status.borrow().failures_total(), 3);
    // Told twice in all: when it began and when it ended.
    assert!(watched.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_failed_list_is_told_with_its_verb() {
    let unsupported = Answer { code: 400, lines: vec![refused(400, "unknown")], open: false };
    let denied = Answer { code: 401, lines: vec![refused(401, "Unauthorized")], open: false };
    let mut running = Running::start(vec![unsupported, denied, page(&["a"], None)]);
    running.until_told("cannot list services: the API server answers 401: Unauthorized").await;
    assert_eq!(running.next().await, "a");
    running.until_recovered().await;
}

#[tokio::test(start_paused = true)]
async fn syn_03_a_watch_that_is_too_old_lists_again_and_is_swapped_in_whole() {
    let mut running = Running::start(vec![
        answer(vec![event("ADDED", &object("a", 1)), event("ADDED", &object("b", 2)), end(2)]),
        answer(vec![event("ERROR", &refused(410, "too old resource version"))]),
        open(vec![event("ADDED", &object("b", 2)), event("ADDED", &object("c", 9)), end(9)]),
    ]);
    assert_eq!(running.next().await, "a b");
    assert_eq!(running.next().await, "b c");
    assert_eq!(running.status.borrow().failures_total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_too_old_after_an_outage_is_not_made_to_wait() {
    let denied = || Answer { code: 500, lines: vec![refused(500, "no")], open: false };
    let mut script = vec![answer(vec![event("ADDED", &object("a", 1)), end(1)])];
    script.extend((0..8).map(|_| denied()));
    script.push(answer(vec![event("ERROR", &refused(410, "too old resource version"))]));
    script.push(open(vec![event("ADDED", &object("b", 9)), end(9)]));
    let mut running = Running::start(script);
    assert_eq!(running.next().await, "a");
    running.until_told("500").await;
    running.until_recovered().await;
    let recovered = Instant::now();
    assert_eq!(running.next().await, "b");
    assert!(recovered.elapsed() <= MIN_DELAY * 3, "{:?}", recovered.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_broken_off_begins_again_without_hurry() {
    let broken = || answer(vec![event("ADDED", &object("x", 1))]);
    let began = Instant::now();
    let mut running = Running::start(vec![
        broken(),
        broken(),
        broken(),
        open(vec![event("ADDED", &object("a", 1)), end(1)]),
    ]);
    assert_eq!(running.next().await, "a");
    assert!(began.elapsed() >= MIN_DELAY * 7, "{:?}", began.elapsed());
}

/// CIP-05: without ServiceCIDRs nothing waits (an empty list is said at once), what is lost is
/// told once, and when they come they are taken up. A server without such objects has not
/// failed; one that denies them has.
#[tokio::test(start_paused = true)]
async fn cip_05_service_cidrs_that_are_not_given_are_told_once_and_taken_up_when_they_come() {
    for (code, failures, mend) in [
        (404, 0, "the server is older; Kubernetes has them from 1.33 on"),
        (403, 6, "add to the agent's ClusterRole: - {apiGroups: [networking.k8s.io]"),
    ] {
        let denied = || {
            let message = if code == 404 { "the server is older" } else { "no such role" };
            Answer { code, lines: vec![refused(code, message)], open: false }
        };
        let mut script: Vec<_> = (0..6).map(|_| denied()).collect();
        let cidr = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "more", "resourceVersion": "1"},
            "spec": {"cidrs": ["10.112.0.0/24"]},
        });
        script.push(open(vec![event("ADDED", &cidr), end(1)]));
        let mut running = Running::optional(script);
        let mut told = running.status.clone();
        let nothing = Listing { service_cidrs: Some(Vec::new()), ..Listing::default() };
        assert_eq!(running.change().await, Change::Replace(Box::new(nothing)));
        let place = Place::Resource(Resource::ServiceCidrs);
        let error = running.status.borrow().failures.get(&place).map(|error| error.chain());
        let error = error.expect("it is told");
        assert!(error.starts_with("x is lost: ") && error.contains(mend), "{error}");
        told.mark_unchanged();

        let Change::Replace(listing) = running.change().await else { panic!("no list") };
        let cidrs = listing.service_cidrs.unwrap();
        assert_eq!(cidrs[0].value, Some(vec!["10.112.0.0/24".parse().unwrap()]));
        let status = running.status.borrow().clone();
        assert!(status.failures.is_empty(), "{code}: it recovered");
        assert_eq!(status.failures_total(), failures, "{code}");
        // The six refusals made one word, and the list one more.
        assert!(told.has_changed().unwrap());
    }
}

const PLACE: Place = Place::Resource(Resource::Services);

/// The longest that any of this may take, in the test's own time.
const BOUND: Duration = Duration::from_mins(10);
