// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Events against an API server that answers by a script. Time is the test's own.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// An API server: what it was asked, and what it answers to writes, in turn; then 201.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    refusals: Arc<Mutex<VecDeque<u16>>>,
}

impl Server {
    fn refusing(codes: impl IntoIterator<Item = u16>) -> Self {
        let refusals = Arc::new(Mutex::new(codes.into_iter().collect()));
        Self { refusals, ..Self::default() }
    }

    /// A writer of that node.
    fn writer(&self, node: &str) -> Writer {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let asked = format!("{} {}", head.method, head.uri.path());
                Ok::<_, Infallible>(server.answer(asked, body))
            }
        });
        Writer::new(Client::new(service, "default"), node.into())
    }

    fn answer(&self, asked: String, body: Value) -> Response<Body> {
        let is_list = asked.starts_with("GET ");
        let refusal = if is_list { None } else { self.refusals.lock().unwrap().pop_front() };
        let answer = match refusal {
            Some(code) => json!({"kind": "Status", "status": "Failure", "code": code}),
            None if is_list => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {},
                "items": [{"metadata": {"name": "web", "uid": "u-1"}}],
            }),
            None => body.clone(),
        };
        self.asked.lock().unwrap().push((asked, body));
        let code = refusal.unwrap_or(200);
        Response::builder().status(code).body(answer.to_string().into_bytes().into()).unwrap()
    }

    /// What was written, without the path's common part.
    fn written(&self) -> Vec<(String, Value)> {
        let asked = self.asked.lock().unwrap();
        let writes = asked.iter().filter(|(asked, _)| !asked.starts_with("GET "));
        writes.map(|(asked, body)| (asked.replace(PREFIX, ""), body.clone())).collect()
    }
}

const PREFIX: &str = "/apis/events.k8s.io/v1/namespaces/";

fn notice(note: &str) -> Notice {
    let note = note.to_owned();
    let about = About::Service(ObjectName::new("shop", "web"));
    Notice { about, is_local: false, ..Notice::of_node("FrontendTaken", "Wait", note) }
}

#[tokio::test(start_paused = true)]
async fn col_02_an_event_names_the_service_and_is_one_for_all_nodes() {
    let server = Server::default();
    server.writer("n1").write(&notice("x")).await.unwrap();
    server.refusals.lock().unwrap().push_back(409);
    server.writer("n2").write(&notice("x")).await.unwrap();
    server.writer("n2").write(&notice("y")).await.unwrap();
    let written = server.written();
    let (asked, event) = &written[0];
    assert_eq!(asked, "POST shop/events");
    assert_eq!(event["regarding"]["uid"], "u-1");
    assert_eq!(event["regarding"]["kind"], "Service");
    assert_eq!(event["reportingInstance"], "n1");
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("FrontendTaken")));
    let name = |index: usize| written[index].1["metadata"]["name"].as_str().unwrap().to_owned();
    // Pinned: builds that differ in the hash would each write an Event of their own.
    assert_eq!(name(0), "web.d06f36087b3d2693");
    assert_eq!(name(0), name(1), "the other node's is the same");
    assert_ne!(name(0), name(2), "another thing is said");
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_is_counted_unless_the_event_has_expired() {
    let server = Server::default();
    let mut writer = server.writer("n1");
    for _ in 0..3 {
        writer.write(&notice("x")).await.unwrap();
    }
    server.refusals.lock().unwrap().push_back(404);
    writer.write(&notice("x")).await.unwrap();
    let written = server.written();
    let verbs: Vec<_> = written.iter().map(|(asked, _)| asked.split(' ').next().unwrap()).collect();
    assert_eq!(verbs, ["POST", "PATCH", "PATCH", "PATCH", "POST"]);
    assert_eq!(written[2].1["series"]["count"], 3);
}

#[tokio::test(start_paused = true)]
async fn met_14_a_node_is_told_of_at_each_start() {
    let server = Server::default();
    for _ in 0..2 {
        server.writer("n1").write(&Notice::starting()).await.unwrap();
    }
    let written = server.written();
    let (asked, event) = &written[0];
    assert_eq!(asked, "POST default/events");
    assert_eq!((&event["type"], &event["reason"]), (&json!("Normal"), &json!("Starting")));
    assert_eq!(event["regarding"], json!({"kind": "Node", "name": "n1", "uid": "n1"}));
    assert_ne!(event["metadata"]["name"], written[1].1["metadata"]["name"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_tried_again_and_one_that_refuses_is_not() {
    let away = Server::refusing([500, 500]);
    away.writer("n1").write(&notice("x")).await.unwrap();
    assert_eq!(away.written().len(), 3);
    let refuses = Server::refusing([403]);
    assert!(refuses.writer("n1").write(&notice("x")).await.is_err());
    assert_eq!(refuses.written().len(), 1);
}

#[test]
fn a_few_may_be_written_at_once_then_one_a_second() {
    let start = Instant::now();
    let mut budget = Budget::new(start);
    assert!((0..BURST).all(|_| budget.take(start).is_none()));
    assert_eq!(budget.take(start), Some(start + REFILL));
    assert_eq!(budget.take(start), Some(start + 2 * REFILL));
    assert_eq!(budget.take(start + 3 * REFILL), None);
    assert_eq!(budget.take(start + 3 * REFILL), Some(start + 4 * REFILL));
    let rested = start + 1000 * REFILL;
    assert!((0..BURST).all(|_| budget.take(rested).is_none()));
    assert!(budget.take(rested).is_some());
}

#[test]
fn a_note_is_cut_between_letters() {
    let long = "\u{e4}".repeat(600);
    let note = shortened(&long);
    assert_eq!(note.len(), 1024);
    assert!(long.starts_with(&note));
    assert_eq!(shortened("x"), "x");
}
