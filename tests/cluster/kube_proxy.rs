// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The baseline works in the lab, or no comparison with it means anything.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use lab::{
    Lab,
    cluster::{Cluster, User},
    kube_proxy::{KubeProxy, ProxyMode},
    need_lab,
    objects::{self, NAMESPACE, Port},
    wait,
    wire::AskSpec,
};

#[test]
fn kube_proxy_serves_a_cluster_ip_in_both_modes() {
    need_lab!();
    let lab = Lab::start().unwrap();
    let cluster = Cluster::start(&lab).unwrap();
    for pod in lab.pods() {
        cluster.run_pod(&pod, &[("app", "web")]).unwrap();
    }
    let mut service = objects::service("web", &[], &Port::both(80, 8080));
    let spec = service.spec.as_mut().unwrap();
    spec.selector = Some([("app".to_owned(), "web".to_owned())].into());
    spec.ip_family_policy = Some("RequireDualStack".to_owned());
    spec.ip_families = None;
    cluster.api().apply(&service).unwrap();
    let web: Service = cluster.api().find(Some(NAMESPACE), "web").unwrap().unwrap();
    let ips = web.spec.unwrap().cluster_ips.unwrap();
    assert_eq!(ips.len(), 2);

    let node = lab.node("node-1").unwrap();
    let driver = lab.pod("pod-1-1").unwrap().driver().unwrap();
    for mode in [ProxyMode::Nftables, ProxyMode::Iptables] {
        let proxy =
            KubeProxy::start(node, &cluster.kubeconfig(User::Admin), mode, Duration::from_secs(30))
                .unwrap();
        for ip in &ips {
            for ask in [AskSpec::tcp, AskSpec::udp] {
                let to = (ip.parse::<std::net::IpAddr>().unwrap(), 80).into();
                let what = format!("{ip} to answer through {}", mode.name());
                let answer =
                    wait::for_value(Duration::from_secs(10), &what, || Ok(driver.ask(ask(to))?))
                        .unwrap();
                assert_eq!(answer.peer, Some(to));
            }
        }
        proxy.clean_up().unwrap();
    }
}
