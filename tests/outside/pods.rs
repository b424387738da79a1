// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods whose sockets no hook sees, or that are to be left alone: their packets are translated
//! at the node's end of their interface.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1 as core;
use lab::{
    Lab,
    agent::Agent,
    driver::Driver,
    need_lab,
    pod::Pod,
    served::{Served, plain, vip},
    shown::PodRow,
    wait,
    wire::{AskSpec, Echo, Family, HoldSpec, SocketError},
};
use serde_json::json;

/// SOC-13: every kind of socket of both families reaches a ClusterIP's pods on this node and on the
/// other one, which see the pod's own address; without a mark none does.
#[test]
fn a_pod_whose_sockets_are_not_seen_reaches_cluster_ips_once_it_is_marked() {
    need_lab!();
    let (served, pod) = bed();
    let pods = served.lab.pods();
    served.expose("web", 10, &[pods[0].clone(), pods[2].clone()]).unwrap();
    let driver = pod.driver().unwrap();
    let mut ask = AskSpec::tcp(vip(Family::V4, 10));
    ask.socket.timeout_ms = 500;
    driver.ask(ask).unwrap_err();

    mark(&served, &pod);
    let row = found(&served, &pod);
    assert_eq!((&*row.mark, row.devices), ("label", vec![pod.veth.clone()]));
    assert!(row.bypassed && row.namespace.is_some());
    let words = ["explain", &vip(Family::V4, 10).to_string(), "--from", &pod.v4.to_string()];
    let told = served.agent.verb(&words).unwrap().stdout;
    let device = format!("default/unseen (by its label); its packets are, at device {}", pod.veth);
    assert!(told.contains(&device), "{told}");
    for (family, make) in every_way() {
        let to = vip(family, 10);
        let mut seen = BTreeSet::new();
        for _ in 0..TRIES {
            let answer = driver.ask(make(to)).unwrap();
            assert_eq!(answer.peer.or(answer.from), Some(to), "{answer:?}");
            assert_eq!(answer.echo.client.ip(), pod.address(family), "{:?}", answer.echo);
            seen.insert(answer.echo.pod);
            if seen.len() == 2 {
                break;
            }
        }
        assert_eq!(seen, ["pod-1-1".to_owned(), "pod-2-1".to_owned()].into(), "{to}");
    }
    assert_eq!(served.agent.sockets().unwrap(), [], "no socket was translated");
}

/// HPN-01, HPN-02: a pod that is its own backend sees the node as its client.
#[test]
fn a_pod_reaches_itself_through_a_service() {
    need_lab!();
    let (served, pod) = bed();
    pod.serve(&[8080]).unwrap();
    served.expose("self", 11, std::slice::from_ref(&pod)).unwrap();
    mark(&served, &pod);
    found(&served, &pod);
    let driver = pod.driver().unwrap();
    for (family, make) in every_way() {
        let echo = driver.ask(make(vip(family, 11))).unwrap().echo;
        let node = served.node().unwrap();
        assert_eq!((&*echo.pod, echo.client.ip()), ("unseen", node.address(family)));
    }
}

/// NOEP-01, AFF-01, LB-06: refusals, pins and source ranges are as for any other pod, by the
/// pod's address.
#[test]
fn refusals_affinity_and_source_ranges_hold_for_it_too() {
    need_lab!();
    let (served, pod) = bed();
    let pods = served.lab.pods();
    mark(&served, &pod);
    found(&served, &pod);
    let driver = pod.driver().unwrap();

    let empty = served.expose("empty", 12, &[]).unwrap();
    for family in Family::BOTH {
        for make in [AskSpec::tcp, AskSpec::udp] {
            let error = driver.ask(make(vip(family, 12))).unwrap_err();
            assert_eq!(error.name, "ECONNREFUSED", "{error:?}");
        }
    }
    empty.withdraw().unwrap();

    let mut sticky = plain("sticky", 13);
    sticky.spec.as_mut().unwrap().session_affinity = Some("ClientIP".to_owned());
    served.expose_as(sticky, &pods[..4]).unwrap();
    for family in Family::BOTH {
        let answering = || driver.ask(AskSpec::tcp(vip(family, 13))).unwrap().echo.pod;
        let seen: BTreeSet<_> = (0..12).map(|_| answering()).collect();
        assert_eq!(seen.len(), 1, "{seen:?}");
    }

    let address = "203.0.113.14".parse().unwrap();
    for (range, is_let_in) in [(format!("{}/32", pod.v4), true), ("192.0.2.0/24".to_owned(), false)]
    {
        let exposed = served.expose_as(balanced("guarded", 14, &range), &pods[..4]).unwrap();
        let mut ask = AskSpec::tcp(std::net::SocketAddr::new(address, 80));
        ask.socket.timeout_ms = 500;
        let outcome = ask_until(&driver, &ask, |outcome| outcome.is_ok() == is_let_in);
        if !is_let_in {
            assert_eq!(outcome.unwrap_err().name, "ETIMEDOUT");
        }
        exposed.withdraw().unwrap();
    }
}

/// A pod that the hooks do see is left alone at its sockets as soon as its device is served, and
/// served at its sockets again when the mark is gone.
#[test]
fn a_pod_that_opts_out_is_left_alone_and_served_all_the_same() {
    need_lab!();
    let (served, _) = bed();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[2..4]).unwrap();
    let (alone, driver) = (&pods[0], pods[0].driver().unwrap());
    let counts = || {
        let counter = |name| served.agent.counter(name).unwrap();
        (counter("pass_bypass"), counter("translated"))
    };
    mark(&served, alone);
    assert!(found(&served, alone).bypassed);
    let before = counts();
    for (family, make) in every_way() {
        let echo = driver.ask(make(vip(family, 10))).unwrap().echo;
        assert_eq!(echo.client.ip(), alone.address(family));
    }
    let after = counts();
    assert!(after.0 >= before.0 + 6, "{before:?} {after:?}");
    unmark(&served, alone);
    is_let_go(&served, alone);
    assert!(served.agent.pods().unwrap().is_empty());
    let before = counts();
    driver.ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap();
    assert_eq!(counts(), (before.0, before.1 + 1));
}

/// Devices that go and come, an agent that is killed, a pod of the same name: nothing is left
/// behind, and what is open goes on.
#[test]
fn pods_devices_and_agents_come_and_go() {
    need_lab!();
    let (mut served, mut pod) = bed();
    let pods = served.lab.pods();
    served.expose("web", 10, &[pods[0].clone(), pods[2].clone()]).unwrap();
    mark(&served, &pod);
    found(&served, &pod);
    let driver = pod.driver().unwrap();
    let ask = AskSpec::tcp(vip(Family::V4, 10));
    let hold = driver.hold(HoldSpec { ask, connections: 8, every_ms: 20 }).unwrap();
    served.agent.kill().unwrap();
    served.agent = Agent::start(served.node().unwrap(), &served.spec()).unwrap();
    found(&served, &pod);
    let before = driver.hold_report(hold).unwrap().exchanges;
    wait::until(LIMIT, "exchanges after the restart", || {
        driver.hold_report(hold).unwrap().exchanges > before + 40
    })
    .unwrap();
    let report = driver.hold_report(hold).unwrap();
    assert_eq!((report.open, report.breaks.len()), (8, 0), "{report:?}");
    drop(driver);

    for round in 0..2 {
        served.lab.remove_pod(&pod).unwrap();
        is_let_go(&served, &pod);
        let missing = || served.agent.ignored().unwrap().iter().any(|it| it.contains("unseen"));
        wait::until(LIMIT, "the pod to be missed", missing).unwrap();
        pod = served.lab.add_unseen_pod(served.node().unwrap(), "unseen").unwrap();
        found(&served, &pod);
        let to = vip(if round == 0 { Family::V4 } else { Family::V6 }, 10);
        pod.driver().unwrap().ask(AskSpec::udp(to)).unwrap();
    }
    unmark(&served, &pod);
    is_let_go(&served, &pod);
    assert!(!served.agent.log().contains("ERROR"), "{}", served.agent.log());
}

/// A pod behind a bridge is found by its station: the bridge's port is served, not the bridge.
#[test]
fn a_pod_behind_a_bridge_is_found_at_its_port() {
    need_lab!();
    let (served, pod) = bed();
    let pods = served.lab.pods();
    served.expose("web", 10, &[pods[0].clone(), pods[2].clone()]).unwrap();
    let (node, veth) = (served.node().unwrap(), &pod.veth);
    for line in [
        "link add name cni0 type bridge".to_owned(),
        "link set cni0 up".to_owned(),
        format!("addr flush dev {veth}"),
        format!("link set {veth} master cni0"),
        "addr add 10.244.1.1/32 dev cni0".to_owned(),
        "addr add fe80::1/64 dev cni0 nodad".to_owned(),
        format!("route replace {}/32 dev cni0 src {}", pod.v4, node.v4),
        format!("route replace {}/128 dev cni0 src {}", pod.v6, node.v6),
    ] {
        node.ip(&line).unwrap();
    }
    mark(&served, &pod);
    assert_eq!(found(&served, &pod).devices.join(","), *veth);
    let driver = pod.driver().unwrap();
    for (family, make) in every_way() {
        let echo = driver.ask(make(vip(family, 10))).unwrap().echo;
        assert_eq!(echo.client.ip(), pod.address(family));
    }
}

/// RuntimeClasses that the operator names mark their pods.
#[test]
fn a_runtime_class_marks_its_pods() {
    need_lab!();
    let builder = Lab::builder().nodes(1);
    let flag = "--no-socket-runtime-classes=kata,gvisor";
    let served = Served::with(builder, |spec| spec.arg(flag)).unwrap();
    let pod = served.lab.add_unseen_pod(served.node().unwrap(), "unseen").unwrap();
    served.expose("web", 10, &served.lab.pods()[..1]).unwrap();
    write(&served, &pod, &json!({}), Some("kata"));
    assert_eq!(found(&served, &pod).mark, "runtime class kata");
    pod.driver().unwrap().ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap();
}

/// Two nodes, an agent on the first, and there a pod whose sockets it does not see.
fn bed() -> (Served, Pod) {
    let served = Served::start().unwrap();
    let pod = served.lab.add_unseen_pod(served.node().unwrap(), "unseen").unwrap();
    (served, pod)
}

fn mark(served: &Served, pod: &Pod) {
    write(served, pod, &json!({"sluice.dev/socket-lb": "false"}), None);
}

fn unmark(served: &Served, pod: &Pod) {
    write(served, pod, &json!({}), None);
}

/// Writes the Pod object.
fn write(served: &Served, pod: &Pod, labels: &serde_json::Value, class: Option<&str>) {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": pod.name, "labels": labels},
        "spec": {"nodeName": pod.node, "runtimeClassName": class},
        "status": {"phase": "Running", "podIPs": [{"ip": pod.v4}, {"ip": pod.v6}]},
    });
    served.manifests.write(&format!("pod-{}", pod.name), &[object]).unwrap();
}

/// The row of a pod, once programs run at its device in both directions.
fn found(served: &Served, pod: &Pod) -> PodRow {
    wait::for_value(LIMIT, &format!("{} to be found", pod.name), || {
        let programs = served.agent.programs()?;
        let at = |row: &&lab::shown::ProgramRow| row.device.as_deref() == Some(&*pod.veth);
        anyhow::ensure!(programs.iter().filter(at).count() == 2, "{programs:?}");
        let rows = served.agent.pods()?;
        let row = rows.iter().find(|row| row.pod == format!("default/{}", pod.name));
        let row = row.filter(|row| !row.devices.is_empty() && row.bypassed);
        row.cloned().ok_or_else(|| anyhow::anyhow!("{rows:?}"))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", served.agent.log()))
}

/// Waits until no program runs at the pod's device.
fn is_let_go(served: &Served, pod: &Pod) {
    wait::until(LIMIT, &format!("{} to be let go", pod.veth), || {
        let programs = served.agent.programs().unwrap();
        programs.iter().all(|row| row.device.as_deref().is_none_or(|device| device == "eth0"))
    })
    .unwrap();
}

/// Asks until the outcome is as wanted, or for long enough.
fn ask_until(
    driver: &Driver,
    ask: &AskSpec,
    wanted: impl Fn(&Result<Echo, SocketError>) -> bool,
) -> Result<Echo, SocketError> {
    let mut outcome = driver.ask(ask.clone()).map(|answer| answer.echo);
    for _ in 0..10 {
        if wanted(&outcome) {
            break;
        }
        outcome = driver.ask(ask.clone()).map(|answer| answer.echo);
    }
    assert!(wanted(&outcome), "{outcome:?}");
    outcome
}

/// A Service with a load balancer address that clients of one range may reach.
fn balanced(name: &str, number: u8, range: &str) -> core::Service {
    let mut service = plain(name, number);
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.load_balancer_source_ranges = Some(vec![range.to_owned()]);
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": format!("203.0.113.{number}")}]}});
    service.status = serde_json::from_value(ingress).unwrap();
    service
}

fn every_way() -> impl Iterator<Item = (Family, fn(std::net::SocketAddr) -> AskSpec)> {
    let asks: [fn(std::net::SocketAddr) -> AskSpec; 3] =
        [AskSpec::tcp, AskSpec::udp, AskSpec::udp_unconnected];
    Family::BOTH.into_iter().flat_map(move |family| asks.map(|ask| (family, ask)))
}

/// A fair pick misses one of two pods in so many tries once in four billion.
const TRIES: u32 = 32;
const LIMIT: Duration = Duration::from_secs(10);
