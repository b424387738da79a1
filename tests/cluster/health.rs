// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What load balancers, the kubelet and people ask a running agent.

use std::time::Duration;

use lab::{agent::Agent, wait, wire::Family};
use serde_json::{Value, json};

use crate::fixture::{Watched, service, vip};

/// HLZ-01, HLZ-02, HLZ-05, HLZ-06: health follows the Node; metrics tell what is served.
pub(crate) fn health_and_metrics(watched: &Watched) {
    watched.apply(&service("asked", 71, "app: web", ""));
    watched.await_inside(&vip(Family::V4, 71), 4);
    let agent = &watched.agents[0];
    let (status, body) = agent.healthz().unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &body["healthy"], &body["nodeEligible"]),
        (200, &json!(true), &json!(true))
    );
    assert!(body["lastUpdated"].is_string() && body["status"]["IPv4"]["healthy"] == true, "{body}");

    let taint = "ToBeDeletedByClusterAutoscaler=1:NoSchedule";
    watched.kubectl(["taint", "node", "node-1", taint]);
    await_health(agent, 503);
    let (_, body) = agent.healthz().unwrap();
    assert!(
        body.contains(r#""nodeEligible":false"#) && body.contains(r#""healthy":true"#),
        "{body}"
    );
    assert_eq!(agent.livez().unwrap().0, 200);
    assert_eq!(agent.readyz().unwrap().0, 200);
    assert_eq!(watched.agents[1].healthz().unwrap().0, 200, "another node's taint");
    watched.kubectl(["taint", "node", "node-1", "ToBeDeletedByClusterAutoscaler-"]);
    await_health(agent, 200);

    let metrics = agent.metrics().unwrap();
    for sample in [
        "sluice_map_writes_total",
        "sluice_sync_duration_seconds_count",
        "sluice_decisions_total{reason=\"translated\"}",
        "sluice_map_capacity{map=\"SERVICES\"}",
    ] {
        assert!(metrics.contains(sample), "no {sample} in:\n{metrics}");
    }
    watched.kubectl(["delete", "service", "asked"]);
}

/// Waits for `/healthz` to say so.
fn await_health(agent: &Agent, status: u16) {
    wait::until(Duration::from_secs(10), &format!("/healthz to say {status}"), || {
        agent.healthz().is_ok_and(|(said, _)| said == status)
    })
    .unwrap();
}
