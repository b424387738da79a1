// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The role in deploy/sluice.yaml gives what is asked for here, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Mutex,
};

use http::{Request, Response};
use k8s_openapi::api::events::v1::Event;
use kube::{Resource as _, client::Body};
use serde_json::Value;

use super::super::*;

/// Verbs by `resource.group`.
type Rights = BTreeMap<String, BTreeSet<String>>;

#[tokio::test]
async fn cfg_08_the_role_of_the_deployment_has_the_rights_that_are_used_and_no_others() {
    let mut used = watched().await;
    for verbs in used.values_mut() {
        verbs.extend(["list".to_owned(), "watch".to_owned()]);
    }
    // `events` alone writes; its tests see which requests.
    let events = format!("{}.{}", Event::plural(&()), Event::group(&()));
    used.insert(events, ["create", "patch"].map(str::to_owned).into());
    assert_eq!(granted(), used);
}

/// What is listed and watched: the resources in the paths of the first requests.
async fn watched() -> Rights {
    let seen = Arc::new(Mutex::new(Rights::new()));
    let (sender, _receiver) = mpsc::channel(1);
    let (told, mut asked) = mpsc::channel(10);
    let mut tasks = JoinSet::new();
    let client = |_: Answered| {
        let (seen, told) = (seen.clone(), told.clone());
        let server = tower::service_fn(move |request: Request<Body>| {
            seen.lock().unwrap().insert(resource_of(request.uri().path()), BTreeSet::new());
            let told = told.clone();
            async move {
                told.send(()).await.unwrap();
                std::future::pending::<Result<Response<Body>, Infallible>>().await
            }
        });
        Ok(Client::new(server, "default"))
    };
    start(client, &"n1".into(), &sender, &Reporter::new().0, &mut tasks).unwrap();
    for _ in 0..tasks.len() {
        asked.recv().await.unwrap();
    }
    std::mem::take(&mut seen.lock().unwrap())
}

/// `/apis/group/version/resource` or `/api/version/resource`, as `resource.group`.
fn resource_of(path: &str) -> String {
    match path.trim_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["api", _, resource] => resource.to_owned(),
        ["apis", group, _, resource] => format!("{resource}.{group}"),
        _ => panic!("{path} lists nothing"),
    }
}

/// What the ClusterRole says.
fn granted() -> Rights {
    let objects = DEPLOYMENT.split("\n---\n");
    let mut objects = objects.map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let role = objects.find(|object| object["kind"] == "ClusterRole").unwrap();
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().unwrap().iter();
        texts.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = Rights::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let name = if group.is_empty() { resource } else { format!("{resource}.{group}") };
                rights.entry(name).or_default().extend(texts(&rule["verbs"]));
            }
        }
    }
    rights
}

const DEPLOYMENT: &str = include_str!("../../../../../deploy/sluice.yaml");
