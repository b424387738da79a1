// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Services of a real API server, with slices of the real controllers, at real sockets.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::api::core::v1::Pod as PodObject;
use lab::{
    driver::Driver,
    objects::NAMESPACE,
    wire::{AskSpec, Family},
};

use crate::fixture::{Watched, service, vip};

/// SVC-06, SVC-08, CIP-01, CIP-02, NP-01, FAM-04, LB-01, EXT-01: one Service, all of its
/// addresses, both families and protocols, from pods of both nodes.
pub(crate) fn every_address(watched: &Watched) {
    watched.apply(&service("all", 30, "app: web", EXPOSED));
    let status =
        r#"{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.20"},{"ip":"2001:db8::20"}]}}}"#;
    let write = ["patch", "service", "all", "--subresource=status", "--type=merge", "-p", status];
    watched.kubectl(write);
    let numbers = "jsonpath={.spec.ports[*].nodePort}";
    let node_ports = watched.kubectl(["get", "service", "all", "-o", numbers]);
    let node_ports: Vec<u16> =
        node_ports.split_whitespace().map(|port| port.parse().unwrap()).collect();
    let [tcp_port, udp_port] = node_ports[..] else { panic!("{node_ports:?}") };
    for (client, node) in watched.clients().unwrap().iter().zip(watched.lab.nodes()) {
        let driver = client.driver().unwrap();
        for family in Family::BOTH {
            let [external, balancer] = outside(family);
            let shared = [vip(family, 30), external, balancer];
            for frontend in &shared {
                watched.await_inside(frontend, 4);
            }
            watched.await_inside(&format!("*:{tcp_port}"), 4);
            watched.await_inside(&format!("*:{udp_port}"), 4);
            for to in shared.into_iter().chain([node.at(family, tcp_port)]) {
                reach_all(&driver, &[AskSpec::tcp(to)], client.address(family));
            }
            for to in shared.into_iter().chain([node.at(family, udp_port)]) {
                let asks = [AskSpec::udp(to), AskSpec::udp_unconnected(to)];
                reach_all(&driver, &asks, client.address(family));
            }
        }
    }
    watched.kubectl(["delete", "service", "all"]);
    watched.await_gone(&vip(Family::V4, 30));
    watched.await_gone(&format!("*:{tcp_port}"));
    for family in Family::BOTH {
        for frontend in outside(family) {
            watched.await_gone(&frontend);
        }
    }
    let driver = watched.clients().unwrap()[0].driver().unwrap();
    assert!(driver.ask(AskSpec::tcp(outside(Family::V4)[0])).is_err());
}

/// EPS-02, EP-02, EP-03: a pod that fails its probe, one that is told to go, one that is gone.
pub(crate) fn endpoints_follow_pods(watched: &Watched) {
    watched.apply(&service("web", 50, "app: web", ""));
    let frontends = Family::BOTH.map(|family| vip(family, 50));
    let await_all = |set: usize| {
        for frontend in &frontends {
            watched.await_inside(&frontend, set);
        }
    };
    await_all(4);
    let pods = watched.lab.pods();
    let driver = pods[0].driver().unwrap();
    watched.cluster.set_ready(&pods[1], false).unwrap();
    await_all(3);
    never(&driver, "pod-1-2");
    watched.cluster.set_ready(&pods[1], true).unwrap();
    await_all(4);
    watched.cluster.terminate("pod-2-2").unwrap();
    await_all(3);
    never(&driver, "pod-2-2");
    watched.cluster.forget_pod("pod-2-2").unwrap();
    watched.cluster.run_pod(&pods[3], &[("app", "web"), ("half", "right")]).unwrap();
    await_all(4);
}

/// UPD-09: a Deployment grows, shrinks, ends at nothing and comes back; then its Service goes.
pub(crate) fn a_deployment_is_scaled(watched: &Watched) {
    watched.apply(&service("scaled", 40, "app: scaled", ""));
    watched.kubectl(["create", "deployment", "scaled", "--image=lab-pod", "--replicas=1"]);
    let frontend = vip(Family::V4, 40);
    let driver = watched.clients().unwrap()[1].driver().unwrap();
    let pods = watched.lab.pods();
    let mut running = 0;
    for replicas in [1, 4, 2, 0, 3] {
        let scale = format!("--replicas={replicas}");
        watched.kubectl(["scale", "deployment", "scaled", &scale]);
        if replicas < running {
            end_pods(watched, replicas);
        } else {
            let pending = watched.cluster.pending("app=scaled", replicas - running).unwrap();
            for (object, pod) in pending.iter().zip(&pods[running..]) {
                watched.cluster.adopt(object, pod).unwrap();
            }
        }
        running = replicas;
        if replicas > 0 {
            watched.await_inside(&frontend, replicas);
            driver.ask(AskSpec::tcp(frontend)).unwrap();
        } else {
            watched.await_inside(&frontend, "refuse");
            let refused = driver.ask(AskSpec::tcp(frontend)).unwrap_err();
            assert_eq!(refused.name, "ECONNREFUSED");
        }
    }
    watched.kubectl(["delete", "service", "scaled"]);
    watched.await_gone(&frontend);
    assert!(driver.ask(AskSpec::tcp(frontend)).is_err(), "nobody's address");
    watched.kubectl(["delete", "deployment", "scaled", "--cascade=foreground", "--wait=false"]);
}

/// Ends pods that the controller has told to go, until so many are left.
fn end_pods(watched: &Watched, left: usize) {
    lab::wait::for_value(std::time::Duration::from_secs(20), "pods to go", || {
        let pods: Vec<PodObject> = watched.cluster.api().list(Some(NAMESPACE), "app=scaled")?;
        let going = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some());
        for pod in going {
            watched.cluster.forget_pod(pod.metadata.name.as_deref().unwrap_or_default())?;
        }
        anyhow::ensure!(pods.len() == left, "there are {}", pods.len());
        Ok(())
    })
    .unwrap();
}

/// Asks until all four pods have answered, each of which saw the client's own address.
#[track_caller]
fn reach_all(driver: &Driver, asks: &[AskSpec], client: IpAddr) {
    let mut reached = BTreeSet::new();
    for ask in asks.iter().cycle().take(MOST_ASKS) {
        let answer = driver.ask(ask.clone()).unwrap();
        assert_eq!(answer.echo.client.ip(), client, "no NAT");
        reached.insert(answer.echo.pod);
        if reached.len() == 4 {
            return;
        }
    }
    panic!("{:?}: only {reached:?} of four pods answered", asks[0].to);
}

/// Twenty connections to Service web, none to that pod.
fn never(driver: &Driver, pod: &str) {
    for _ in 0..20 {
        assert_ne!(driver.ask(AskSpec::tcp(vip(Family::V4, 50))).unwrap().echo.pod, pod);
    }
}

/// The externalIP and the load balancer's address of [`every_address`].
fn outside(family: Family) -> [SocketAddr; 2] {
    let ips = match family {
        Family::V4 => ["192.0.2.10", "192.0.2.20"],
        Family::V6 => ["2001:db8::10", "2001:db8::20"],
    };
    ips.map(|ip| SocketAddr::new(ip.parse().unwrap(), 80))
}

/// What [`every_address`] adds to a ClusterIP.
const EXPOSED: &str = "
  type: LoadBalancer
  externalIPs: ['192.0.2.10', '2001:db8::10']
";

/// A pod out of four is missed by so many asks once in 10^12 times.
const MOST_ASKS: usize = 100;
