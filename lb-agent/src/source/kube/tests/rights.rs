// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The role in deploy/sluice.yaml gives what is asked for here, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::events::v1::Event;
use kube::Resource as _;
use serde_json::Value;

use super::first_requests;

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
    let requests = first_requests(&BTreeSet::new()).await;
    requests.iter().map(|uri| (resource_of(uri.path()), BTreeSet::new())).collect()
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
