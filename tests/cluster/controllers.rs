// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the API server and its controllers write, and what comes of it.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lab::{
    objects::NAMESPACE,
    tools::Tool,
    wait,
    wire::{AskSpec, Family},
};

use serde_json::json;

use crate::fixture::{Watched, service, vip};

/// CIP-07: `default/kubernetes` is a Service like any other; its slice names no node.
pub(crate) fn the_kubernetes_service(watched: &Watched) {
    let frontend: SocketAddr = "10.96.0.1:443".parse().unwrap();
    watched.await_inside(&frontend, 1);
    let kubectl = Tool::Kubectl.path().unwrap();
    let file = watched.cluster.kubeconfig(lab::cluster::User::Admin);
    let server = format!("--server=https://{frontend}");
    for client in watched.clients().unwrap() {
        let args = ["--kubeconfig", &file.to_string_lossy(), &server, "get", "--raw", "/readyz"]
            .map(str::to_owned);
        assert_eq!(client.output(&kubectl.to_string_lossy(), args).unwrap(), "ok");
    }
}

/// CIP-06: a ClusterIP of a ServiceCIDR that came later.
pub(crate) fn another_service_cidr(watched: &Watched) {
    watched.apply(SERVICE_CIDR);
    let frontend: SocketAddr = "10.97.0.7:80".parse().unwrap();
    // The API server learns of the range by a watch of its own.
    wait::for_value(Duration::from_secs(20), "an address of the new range", || {
        watched.cluster.kubectl_apply(ELSEWHERE)
    })
    .unwrap();
    watched.await_inside(&frontend, 4);
    for client in watched.clients().unwrap() {
        let answer = client.driver().unwrap().ask(AskSpec::tcp(frontend)).unwrap();
        assert_eq!(answer.peer, Some(frontend));
    }
    watched.kubectl(["delete", "service", "elsewhere"]);
    watched.await_gone(&frontend);
    watched.kubectl(["delete", "servicecidr", "more", "--wait=false"]);
}

/// TRP-20: both policies are Cluster where nothing is said, and externalTrafficPolicy is
/// refused where nobody comes from outside.
pub(crate) fn policies_by_default(watched: &Watched) {
    watched.apply(&service("policies", 72, "app: web", "  type: NodePort"));
    let path = "jsonpath={.spec.internalTrafficPolicy} {.spec.externalTrafficPolicy}";
    let policies = watched.kubectl(["get", "service", "policies", "-o", path]);
    assert_eq!(policies, "Cluster Cluster");
    watched.await_inside(&vip(Family::V6, 72), 4);
    let local = service("policies", 73, "app: web", "  externalTrafficPolicy: Local")
        .replace("name: policies", "name: refused");
    let refused = watched.cluster.kubectl_apply(&local).unwrap_err().to_string();
    assert!(refused.contains("externalTrafficPolicy"), "{refused}");
    watched.kubectl(["delete", "service", "policies"]);
}

/// EP-04: a pod that has ended is in no slice, even where unready ones are published.
pub(crate) fn an_evicted_pod(watched: &Watched) {
    let pods = watched.lab.pods();
    watched.apply(&service("evicted", 74, "app: evicted", "  publishNotReadyAddresses: true"));
    ghost(watched, 0, "Pending", &pods[0]);
    ghost(watched, 1, "Running", &pods[1]);
    ghost(watched, 2, "Running", &pods[2]);
    watched.await_inside(&vip(Family::V4, 74), 3);
    ghost(watched, 1, "Failed", &pods[1]);
    watched.await_inside(&vip(Family::V4, 74), 2);
    ghost(watched, 2, "Succeeded", &pods[2]);
    watched.await_inside(&vip(Family::V4, 74), 1);
    let driver = pods[3].driver().unwrap();
    for _ in 0..10 {
        let answer = driver.ask(AskSpec::tcp(vip(Family::V4, 74))).unwrap();
        assert_eq!(answer.echo.pod, pods[0].name);
    }
    watched.kubectl(["delete", "service", "evicted"]);
    watched.kubectl(["delete", "pod", "-l", "app=evicted", "--force", "--grace-period=0"]);
}

/// TOP-12: the hints that the controller writes for each trafficDistribution, and whom a
/// client of each node reaches by them (TOP-03, TOP-04).
pub(crate) fn traffic_distribution(watched: &Watched) {
    watched.apply(&service("near", 75, "app: web", ""));
    let frontend = vip(Family::V4, 75);
    watched.await_inside(&frontend, 4);
    for (word, set, hints) in [
        ("\"PreferSameZone\"", 2, (1, 0)),
        ("\"PreferSameNode\"", 2, (1, 1)),
        ("\"PreferClose\"", 2, (1, 0)),
        ("null", 4, (0, 0)),
    ] {
        let part = format!(r#"{{"spec":{{"trafficDistribution":{word}}}}}"#);
        watched.kubectl(["patch", "service", "near", "--type=merge", "-p", &part]);
        await_hints(watched, hints);
        watched.await_inside(&frontend, set);
        for client in watched.clients().unwrap() {
            let driver = client.driver().unwrap();
            for _ in 0..10 {
                let pod = driver.ask(AskSpec::tcp(frontend)).unwrap().echo.pod;
                let near = watched.lab.pod(&pod).unwrap().node == client.node;
                assert!(near || set == 4, "{pod} answered {} with {word}", client.name);
            }
        }
    }
    watched.kubectl(["delete", "service", "near"]);
}

/// Waits until every endpoint of Service `near` has so many zone and node hints.
fn await_hints(watched: &Watched, hints: (usize, usize)) {
    wait::for_value(Duration::from_secs(20), &format!("hints {hints:?}"), || {
        let label = "kubernetes.io/service-name=near";
        let slices: Vec<EndpointSlice> = watched.cluster.api().list(Some(NAMESPACE), label)?;
        for endpoint in slices.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default()) {
            let found = endpoint.hints.unwrap_or_default();
            let found = (
                found.for_zones.unwrap_or_default().len(),
                found.for_nodes.unwrap_or_default().len(),
            );
            ensure!(found == hints, "{:?} has {found:?}", endpoint.addresses);
        }
        Ok(())
    })
    .unwrap();
}

/// A Pod object `ghost-<number>` of `app: evicted` with the address of a pod that runs. Like
/// a kubelet's, it is ready while it is running.
fn ghost(watched: &Watched, number: usize, phase: &str, pod: &lab::pod::Pod) {
    let name = format!("ghost-{number}");
    watched.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: evicted}}}},
        spec: {{nodeName: {}, containers: [{{name: serve, image: lab-pod}}]}}}}",
        pod.node
    ));
    let ready = if phase == "Running" { "True" } else { "False" };
    let status = json!({"status": {
        "phase": phase,
        "podIP": pod.v4,
        "podIPs": Family::BOTH.map(|family| json!({"ip": pod.address(family)})),
        "conditions": [{"type": "Ready", "status": ready}],
    }});
    let status = status.to_string();
    watched.kubectl(["patch", "pod", &name, "--subresource=status", "--type=merge", "-p", &status]);
}

/// A second range for ClusterIPs.
const SERVICE_CIDR: &str = "
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: { name: more }
spec: { cidrs: [10.97.0.0/24] }
";

/// A Service of that range.
const ELSEWHERE: &str = "
apiVersion: v1
kind: Service
metadata: { name: elsewhere }
spec:
  clusterIP: 10.97.0.7
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8080 }]
";
