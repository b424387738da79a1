// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Health-check node ports, asked from everywhere (HCN).

use std::{net::TcpListener, time::Duration};

use anyhow::ensure;
use k8s_openapi::api::core::v1::Service;
use lab::{
    need_lab,
    place::Place,
    served::{Served, plain},
    wait,
    wire::Family,
};

use super::status;

/// A LoadBalancer Service with externalTrafficPolicy Local.
fn balanced(name: &str, number: u8, port: i32) -> Service {
    let mut service = plain(name, number);
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.external_traffic_policy = Some("Local".to_owned());
    spec.health_check_node_port = Some(port);
    service
}

/// Waits until every place gets this status from the node's port in both families.
fn everywhere(served: &Served, from: &[&Place], port: u16, wanted: Option<u16>) {
    let node = served.node().unwrap();
    let limit = Duration::from_secs(10);
    wait::for_value(limit, &format!("port {port} to answer {wanted:?}"), || {
        for place in from {
            for family in Family::BOTH {
                for path in ["/", "/healthz"] {
                    let status = status(place, node.at(family, port), path);
                    let (name, address) = (&place.name, node.address(family));
                    ensure!(status == wanted, "{name} got {status:?} from {address}");
                }
            }
        }
        Ok(())
    })
    .unwrap();
}

/// HCN-01, HCN-06, HCN-07, HCN-10: a port opens with its Service, counts what is ready here,
/// and closes with a change of policy.
#[test]
fn hcn_10_pods_other_nodes_and_the_outside_get_the_nodes_own_answer() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let (here, there) = (&pods[..2], &pods[2..]);
    let other = served.lab.node("node-2").unwrap();
    let node = served.node().unwrap();
    let from = [&here[0].place, &there[0].place, &other.place, served.lab.client(), &node.place];

    let mut web = served.expose_as(balanced("web", 10, 32100), &pods).unwrap();
    everywhere(&served, &from, 32100, Some(200));
    // Without an endpoint here the port answers, too (HCN-01).
    served.expose_as(balanced("far", 11, 32101), there).unwrap();
    everywhere(&served, &from, 32101, Some(503));
    // What terminates still serves, and counts 0 (HCN-06).
    for pod in here {
        web.drain(&pod.place).unwrap();
    }
    web.write().unwrap();
    everywhere(&served, &from, 32100, Some(503));
    for pod in here {
        *web.backing(&pod.place).unwrap() = lab::objects::Backing::ready(pod, node);
    }
    web.write().unwrap();
    everywhere(&served, &from, 32100, Some(200));
    // HCN-07.
    web.service.spec.as_mut().unwrap().external_traffic_policy = Some("Cluster".to_owned());
    web.write().unwrap();
    everywhere(&served, &from, 32100, None);
    everywhere(&served, &from, 32101, Some(503));
    web.service = balanced("web", 10, 32102);
    web.write().unwrap();
    everywhere(&served, &from, 32102, Some(200));
    web.withdraw().unwrap();
    everywhere(&served, &from, 32102, None);
}

/// HCN-08: others are not affected, and the port opens when it is free.
#[test]
fn hcn_08_a_port_that_a_program_of_the_node_has_is_told_and_tried_again() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let node = served.node().unwrap();
    let taken = node.run(|| TcpListener::bind(node.at(Family::V4, 32100))).unwrap().unwrap();
    served.expose_as(balanced("web", 10, 32100), &pods).unwrap();
    served.expose_as(balanced("api", 11, 32101), &pods).unwrap();
    everywhere(&served, &[served.lab.client()], 32101, Some(200));
    let issues = || served.agent.verb(&["show", "services"]).unwrap().stdout;
    wait::for_value(Duration::from_secs(10), "the issue to be told", || {
        let told = issues();
        ensure!(told.contains("healthCheckNodePort") && told.contains("default/web"), "{told}");
        Ok(())
    })
    .unwrap();
    drop(taken);
    everywhere(&served, &[served.lab.client()], 32100, Some(200));
    wait::for_value(Duration::from_secs(10), "the issue to end", || {
        let told = issues();
        ensure!(!told.contains("healthCheckNodePort"), "{told}");
        Ok(())
    })
    .unwrap();
}
