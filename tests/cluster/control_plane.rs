// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab's control plane does what a cluster's does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use lab::{
    Lab,
    cluster::{Cluster, User},
    need_lab,
    objects::NAMESPACE,
    wait,
};

#[test]
fn a_control_plane_does_what_a_clusters_does() {
    need_lab!();
    let lab = Lab::start().unwrap();
    let started = Instant::now();
    let mut cluster = Cluster::start(&lab).unwrap();
    println!("control plane up in {:?}", started.elapsed());
    a_service_gets_its_slices_from_the_real_controller(&lab, &cluster);
    nodes_and_pods_reach_the_api_server_and_rights_count(&lab, &cluster);
    many_services_are_made_at_once(&cluster);
    the_api_server_stops_and_comes_back(&mut cluster);
}

fn a_service_gets_its_slices_from_the_real_controller(lab: &Lab, cluster: &Cluster) {
    let pods = lab.pods();
    for pod in &pods {
        cluster.run_pod(pod, &[("app", "web")]).unwrap();
    }
    cluster.kubectl_apply(WEB).unwrap();
    let web: Service = cluster.api().find(Some(NAMESPACE), "web").unwrap().unwrap();
    assert_eq!(web.spec.unwrap().cluster_ips.unwrap().len(), 2, "one ClusterIP a family");

    let ready = |count| await_endpoints(cluster, "ready", count).unwrap();
    ready(8);
    let slices = slices(cluster).unwrap();
    let zones: Vec<_> = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter_map(|endpoint| endpoint.zone.clone())
        .collect();
    assert_eq!(zones.iter().filter(|zone| *zone == "zone-a").count(), 4, "{zones:?}");

    // A pod that fails its probe, one that goes, one that is gone.
    cluster.set_ready(&pods[0], false).unwrap();
    ready(6);
    cluster.set_ready(&pods[0], true).unwrap();
    ready(8);
    cluster.terminate("pod-2-2").unwrap();
    ready(6);
    await_endpoints(cluster, "terminating", 2).unwrap();
    await_endpoints(cluster, "serving", 8).unwrap();
    cluster.forget_pod("pod-2-2").unwrap();
    await_endpoints(cluster, "serving", 6).unwrap();
}

fn the_api_server_stops_and_comes_back(cluster: &mut Cluster) {
    assert_eq!(cluster.api().list::<Node>(None, "").unwrap().len(), 2);
    cluster.stop_api_server().unwrap();
    assert!(cluster.api().list::<Node>(None, "").is_err());
    cluster.start_api_server().unwrap();
    let nodes: Vec<Node> = cluster.api().list(None, "topology.kubernetes.io/zone=zone-b").unwrap();
    assert_eq!(nodes[0].metadata.name.as_deref(), Some("node-2"));
}

fn nodes_and_pods_reach_the_api_server_and_rights_count(lab: &Lab, cluster: &Cluster) {
    let kubectl = lab::tools::Tool::Kubectl.path().unwrap();
    let nodes = |user| {
        let file = cluster.kubeconfig(user);
        let args = ["--kubeconfig", &file.to_string_lossy(), "get", "nodes", "-o", "name"]
            .map(str::to_owned);
        lab.node("node-1").unwrap().output(&kubectl.to_string_lossy(), args)
    };
    assert_eq!(nodes(User::Admin).unwrap().trim(), "node/node-1\nnode/node-2");
    let refused = nodes(User::Agent).unwrap_err().to_string();
    assert!(refused.contains("Forbidden") && refused.contains("lb-agent"), "{refused}");
    cluster
        .kubectl([
            "create",
            "clusterrolebinding",
            "agent",
            "--clusterrole=cluster-admin",
            "--user=lb-agent",
        ])
        .unwrap();
    wait::for_value(Duration::from_secs(5), "rights to be seen", || nodes(User::Agent)).unwrap();
    let pod = lab.pod("pod-1-1").unwrap();
    let file = cluster.kubeconfig(User::Admin);
    let args =
        ["--kubeconfig", &file.to_string_lossy(), "get", "--raw", "/readyz"].map(str::to_owned);
    assert_eq!(pod.output(&kubectl.to_string_lossy(), args).unwrap(), "ok");
}

fn many_services_are_made_at_once(cluster: &Cluster) {
    let before = cluster.api().list::<Service>(Some(NAMESPACE), "").unwrap().len();
    let services = (0..500).map(|number| {
        let mut service = lab::objects::service(
            &format!("svc-{number}"),
            &[],
            &lab::objects::Port::both(80, 8080),
        );
        // No address asked for: the API server gives one.
        service.spec.as_mut().unwrap().ip_families = None;
        service
    });
    let started = Instant::now();
    cluster.api().create_all(services.collect()).unwrap();
    println!("500 Services made in {:?}", started.elapsed());
    let services: Vec<Service> = cluster.api().list(Some(NAMESPACE), "").unwrap();
    assert_eq!(services.len(), before + 500);
}

/// Waits until `count` endpoints of Service web have a condition, both families
/// together.
fn await_endpoints(cluster: &Cluster, condition: &str, count: usize) -> Result<()> {
    let what = format!("{count} endpoints to be {condition}");
    wait::for_value(Duration::from_secs(20), &what, || {
        let slices = slices(cluster)?;
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let having = endpoints.filter(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let value = match condition {
                "ready" => conditions.ready,
                "serving" => conditions.serving,
                _ => conditions.terminating,
            };
            value == Some(true)
        });
        let having = having.count();
        ensure!(having == count, "{having} are");
        Ok(())
    })
}

/// Slices of Service web.
fn slices(cluster: &Cluster) -> Result<Vec<EndpointSlice>> {
    cluster.api().list(Some(NAMESPACE), "kubernetes.io/service-name=web")
}

/// A dual-stack Service over pods with `app: web`.
const WEB: &str = "
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  ipFamilyPolicy: RequireDualStack
  selector: { app: web }
  ports:
  - { name: tcp, port: 80, targetPort: 8080, protocol: TCP }
  - { name: udp, port: 80, targetPort: 8080, protocol: UDP }
";
