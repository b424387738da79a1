// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UDP while endpoints change.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use lab::{
    driver::Driver,
    need_lab,
    served::{Served, vip},
    wait,
    wire::{Family, Kind, Sock},
};
use serde_json::json;

/// CT-11: datagrams of one socket to one frontend keep one backend while it
/// lives, also when the set changes; another socket is another pick.
#[test]
fn ct_11_an_unconnected_socket_keeps_its_backend() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    for family in Family::BOTH {
        let mut web = served.expose("web", 10, &pods[..2]).unwrap();
        let driver = pods[0].driver().unwrap();
        let to = vip(family, 10);
        let socks: Vec<_> = (0..16).map(|_| driver.open(Kind::Udp, family).unwrap()).collect();
        let first: Vec<_> = socks.iter().map(|sock| ask(&driver, *sock, to)).collect();
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2, "16 picks of two");
        for pod in &pods[2..] {
            web.add(pod).unwrap();
            served.rewrite(&web).unwrap();
            for (sock, pod) in socks.iter().zip(&first) {
                assert_eq!(ask(&driver, *sock, to), *pod);
            }
        }
        assert_eq!(served.total_load().unwrap(), 16, "a socket counts once");
        drop(driver);
        served.await_idle().unwrap();
        web.withdraw().unwrap();
        served.await_gone(&to.to_string()).unwrap();
    }
}

/// CT-05: a backend that terminates but serves keeps what it has and gets
/// nothing new.
#[test]
fn ct_05_a_draining_backend_keeps_its_sockets() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[2..]).unwrap();
    let driver = pods[0].driver().unwrap();
    let to = vip(Family::V4, 10);
    let socks: Vec<_> = (0..12).map(|_| driver.open(Kind::Udp, Family::V4).unwrap()).collect();
    let first: Vec<_> = socks.iter().map(|sock| ask(&driver, *sock, to)).collect();
    web.drain(&pods[2]).unwrap();
    served.rewrite(&web).unwrap();
    for (sock, pod) in socks.iter().zip(&first) {
        assert_eq!(ask(&driver, *sock, to), *pod, "what it has it keeps");
    }
    for _ in 0..20 {
        let sock = driver.open(Kind::Udp, Family::V4).unwrap();
        assert_eq!(ask(&driver, sock, to), "pod-2-2", "nothing new");
        driver.close(sock).unwrap();
    }
}

/// CT-01, CT-08, CT-09, SOC-08: a client that never pauses must not stay with a
/// backend that is gone.
#[test]
fn ct_01_datagrams_leave_a_backend_that_is_gone() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[2..3]).unwrap();
    let driver = pods[0].driver().unwrap();
    for family in Family::BOTH {
        let to = vip(family, 10);
        // One source port all the time, as in the end-to-end test of Kubernetes.
        let sock = driver.bound(Kind::Udp, pods[0].at(family, 12345)).unwrap();
        assert_eq!(ask(&driver, sock, to), "pod-2-1");
        web.add(&pods[3]).unwrap();
        web.take_out(&pods[2]);
        served.rewrite(&web).unwrap();
        await_answer(&driver, sock, to, "pod-2-2");
        web.add(&pods[2]).unwrap();
        web.take_out(&pods[3]);
        served.rewrite(&web).unwrap();
        await_answer(&driver, sock, to, "pod-2-1");
        assert_eq!(served.total_load().unwrap(), 1, "the counts of the gone are given back");
        driver.close(sock).unwrap();
    }
    served.await_idle().unwrap();
}

/// CT-03: a client that was refused is served by the next datagram.
#[test]
fn ct_03_the_first_endpoint_gets_the_next_datagram() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &[]).unwrap();
    let driver = pods[0].driver().unwrap();
    let sock = driver.bound(Kind::Udp, pods[0].at(Family::V4, 12345)).unwrap();
    let to = vip(Family::V4, 10);
    assert_eq!(driver.send_to(sock, to, "hi\n").unwrap_err().name, "ECONNREFUSED");
    web.add(&pods[3]).unwrap();
    served.rewrite(&web).unwrap();
    assert_eq!(ask(&driver, sock, to), "pod-2-2");
}

/// CT-04: a backend is an address and a port.
#[test]
fn ct_04_a_changed_target_port_moves_the_client() {
    need_lab!();
    let served = Served::with(lab::Lab::builder().ports(&[8080, 8081]), |spec| spec).unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[2..3]).unwrap();
    let driver = pods[0].driver().unwrap();
    let sock = driver.open(Kind::Udp, Family::V4).unwrap();
    let to = vip(Family::V4, 10);
    ask(&driver, sock, to);
    for port in web.service.spec.as_mut().unwrap().ports.iter_mut().flatten() {
        port.target_port =
            Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(8081));
    }
    web.write().unwrap();
    wait::until(Duration::from_secs(10), "the new port", || {
        ask(&driver, sock, to);
        served.load().unwrap().contains_key(&format!("{}/UDP", pods[2].at(Family::V4, 8081)))
    })
    .unwrap();
    assert_eq!(served.total_load().unwrap(), 1);
}

/// PRT-03: what is long stays whole.
#[test]
fn prt_03_long_datagrams_and_requests_pass() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[2..]).unwrap();
    served.await_inside(&vip(Family::V6, 10).to_string(), "TCP", &json!(2)).unwrap();
    let driver = pods[0].driver().unwrap();
    let text = "x".repeat(2000);
    for family in Family::BOTH {
        for kind in [Kind::Udp, Kind::Tcp] {
            let sock = driver.open(kind, family).unwrap();
            driver.connect(sock, vip(family, 10)).unwrap();
            driver.send(sock, &format!("{text}\n")).unwrap();
            let mut reply = String::new();
            while !reply.ends_with('\n') {
                reply.push_str(&driver.recv_from(sock).unwrap().0);
            }
            assert!(reply.contains(&text), "{kind:?} {family:?}");
            driver.close(sock).unwrap();
        }
    }
}

/// Asks on an unconnected socket; gives the pod. The reply's source is checked.
/// Asks until another pod answers. A backend that leaves its last set keeps what it has
/// until a grace period has passed, and is dead then: a second at most while changes go on.
fn await_answer(driver: &Driver, sock: Sock, to: SocketAddr, pod: &str) {
    let limit = Duration::from_secs(2);
    wait::until(limit, &format!("{pod} to answer"), || ask(driver, sock, to) == pod).unwrap();
}

fn ask(driver: &Driver, sock: Sock, to: SocketAddr) -> String {
    driver.send_to(sock, to, "who\n").unwrap();
    let (reply, from) = driver.recv_from(sock).unwrap();
    assert_eq!(from, Some(to), "{reply}");
    let reply: lab::wire::Echo = serde_json::from_str(&reply).unwrap();
    reply.pod
}
