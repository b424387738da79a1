// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests against a real control plane: etcd, kube-apiserver and the controllers.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helper fails its test like the test itself"
)]

mod control_plane;
mod controllers;
mod events;
mod fixture;
mod hand_over;
mod health;
mod in_cluster;
mod kube_proxy;
mod metrics;
mod outage;
mod refusal;
mod replies;
mod serving;
mod silence;
mod updates;

use fixture::Watched;

/// What a running cluster does, one thing after the other: none of it stops the control plane.
#[test]
fn services_of_a_real_api_server() {
    lab::need_lab!();
    let watched = Watched::start().unwrap();
    for (name, scenario) in SCENARIOS {
        println!("{name}");
        scenario(&watched);
    }
}

/// A part of that test.
type Scenario = (&'static str, fn(&Watched));

/// Each makes its own Services, and leaves the pods as they were.
const SCENARIOS: &[Scenario] = &[
    ("every address of a Service", serving::every_address),
    ("endpoints follow pods", serving::endpoints_follow_pods),
    ("a Deployment is scaled", serving::a_deployment_is_scaled),
    ("types and ports change", updates::types_and_ports),
    ("two Services, one selector", updates::one_selector),
    ("the kubernetes Service", controllers::the_kubernetes_service),
    ("another ServiceCIDR", controllers::another_service_cidr),
    ("policies by default", controllers::policies_by_default),
    ("an evicted pod", controllers::an_evicted_pod),
    ("hints of trafficDistribution", controllers::traffic_distribution),
    ("a collision", events::a_collision_is_told),
    ("Events about nodes", events::nodes_tell_of_their_agents),
    ("health and metrics", health::health_and_metrics),
    ("a connection that is silent", silence::a_silent_connection),
    ("an API server that hangs", silence::an_api_server_that_hangs),
];
