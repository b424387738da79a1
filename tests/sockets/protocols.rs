// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kinds of sockets beside plain TCP and UDP.

use std::net::SocketAddr;

use lab::{
    need_lab,
    objects::{self, Port},
    served::{Served, cluster_ips, vip},
    wire::{AskSpec, Family, Kind, SocketSpec},
};

/// connect runs on the subflow, getpeername and release on the parent: nothing
/// may be counted that is never given back.
#[test]
fn mptcp_reaches_a_backend_and_is_not_counted() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods).unwrap();
    let driver = pods[0].driver().unwrap();
    for family in Family::BOTH {
        let before = served.agent.counter("translated_subflow").unwrap();
        let sock = driver.open(Kind::Mptcp, family).unwrap();
        driver.connect(sock, vip(family, 10)).unwrap();
        driver.send(sock, "hi\n").unwrap();
        assert!(driver.recv_from(sock).unwrap().0.contains("pod-"));
        assert_eq!(served.agent.counter("translated_subflow").unwrap(), before + 1);
        assert_eq!(served.total_load().unwrap(), 0);
        driver.close(sock).unwrap();
        served.await_idle().unwrap();
    }
}

#[test]
fn tcp_fast_open_is_translated_and_named() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods).unwrap();
    for pod in &pods {
        // Servers hand out cookies too, so that later rounds send data in the SYN.
        let setting = "echo 1027 > /proc/sys/net/ipv4/tcp_fastopen";
        pod.output("sh", ["-c", setting]).unwrap();
    }
    let driver = pods[0].driver().unwrap();
    for family in Family::BOTH {
        for _ in 0..20 {
            let to = vip(family, 10);
            let socket = SocketSpec { fast_open: true, ..SocketSpec::new(Kind::Tcp, family) };
            let answer = driver.ask(AskSpec { socket, ..AskSpec::tcp(to) }).unwrap();
            assert_eq!(answer.peer, Some(to));
            assert_eq!(answer.echo.client.ip(), pods[0].address(family));
        }
    }
    served.await_idle().unwrap();
}

/// accept4() with an address runs the getpeername hook on a socket of ours that
/// never dialled: the client's address must stay.
#[test]
fn cip_02_a_server_sees_the_client_in_accept_and_getpeername() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let service = objects::service("web", &cluster_ips(10), &Port::both(80, 4000));
    served.expose_as(service, &pods[1..2]).unwrap();
    let (client, listening) = (pods[0].driver().unwrap(), pods[1].driver().unwrap());
    for family in Family::BOTH {
        let listener = listening.bound(Kind::Tcp, pods[1].at(family, 4000)).unwrap();
        listening.listen(listener).unwrap();
        let sock = client.open(Kind::Tcp, family).unwrap();
        client.connect(sock, vip(family, 10)).unwrap();
        let (accepted, from) = listening.accept(listener).unwrap();
        assert_eq!(from, client.sock_name(sock).unwrap());
        assert_eq!(from.ip(), pods[0].address(family));
        assert_eq!(listening.peer_name(accepted).unwrap(), from);
        for (driver, sock) in [(&client, sock), (&listening, accepted), (&listening, listener)] {
            driver.close(sock).unwrap();
        }
    }
    served.await_idle().unwrap();
}

/// HPN-01: a pod that is picked itself.
#[test]
fn hpn_01_a_pod_reaches_itself_through_its_own_service() {
    need_lab!();
    let served = Served::start().unwrap();
    let pod = served.lab.pod("pod-1-1").unwrap();
    served.expose("own", 10, std::slice::from_ref(&pod)).unwrap();
    let driver = pod.driver().unwrap();
    for family in Family::BOTH {
        let to = vip(family, 10);
        for ask in [AskSpec::tcp(to), AskSpec::udp(to), AskSpec::udp_unconnected(to)] {
            let answer = driver.ask(ask).unwrap();
            assert_eq!(answer.echo.pod, "pod-1-1");
            assert_eq!(answer.echo.client.ip(), pod.address(family));
        }
    }
}

/// SOC-10: ICMP and raw sockets are neither TCP nor UDP, whatever their type.
#[test]
fn other_protocols_are_left_alone() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods).unwrap();
    let driver = pods[0].driver().unwrap();
    // The agent's self-test was one.
    let before = served.agent.counter("translated").unwrap();
    for family in Family::BOTH {
        for kind in [Kind::Ping, Kind::RawUdp] {
            let sock = driver.open(kind, family).unwrap();
            driver.connect(sock, vip(family, 10)).unwrap();
            assert_eq!(driver.peer_name(sock).unwrap().ip(), vip(family, 10).ip(), "{kind:?}");
            driver.close(sock).unwrap();
        }
    }
    assert_eq!(served.agent.counter("translated").unwrap(), before);
    served.await_idle().unwrap();
}

/// SVC-10: a port number belongs to a protocol.
#[test]
fn svc_10_one_number_in_two_protocols_leads_two_ways() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let tcp = Port { name: "tcp", protocol: "TCP", port: 53, target: 8080 };
    let udp = Port { name: "udp", protocol: "UDP", port: 53, target: 9 };
    let service = objects::service("dns", &cluster_ips(10), &[tcp, udp]);
    served.expose_as(service, &pods[1..2]).unwrap();
    let driver = pods[0].driver().unwrap();
    for family in Family::BOTH {
        let to = SocketAddr::new(vip(family, 10).ip(), 53);
        assert_eq!(driver.ask(AskSpec::tcp(to)).unwrap().echo.pod, "pod-1-2");
        let sock = driver.open(Kind::Udp, family).unwrap();
        driver.connect(sock, to).unwrap();
        driver.send(sock, "hi\n").unwrap();
        // The pod has no such port: its refusal reaches the socket that dialled.
        assert_eq!(driver.recv_from(sock).unwrap_err().name, "ECONNREFUSED");
        driver.close(sock).unwrap();
    }
}
