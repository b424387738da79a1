// SPDX-License-Identifier: Apache-2.0 OR MIT
//! More than one call on one socket.

use lab::{
    need_lab,
    objects::{self, Port},
    served::{Served, cluster_ips, vip},
    wire::{Family, Kind},
};

use crate::two::{self, exchange};

/// A failed connect counts until the socket dials again or is closed.
#[test]
fn tcp_connects_again_after_a_refused_connect() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let closed = objects::service("closed", &cluster_ips(11), &Port::both(80, 9));
    served.expose_as(closed, &pods).unwrap();
    served.expose("open", 10, &pods).unwrap();
    let driver = pods[0].driver().unwrap();
    for family in Family::BOTH {
        let sock = driver.open(Kind::Tcp, family).unwrap();
        let refused = driver.connect(sock, vip(family, 11)).unwrap_err();
        assert_eq!(refused.name, "ECONNREFUSED", "by the pod");
        driver.connect(sock, vip(family, 10)).unwrap();
        assert_eq!(driver.peer_name(sock).unwrap(), vip(family, 10));
        exchange(&driver, sock);
        assert_eq!(served.total_load().unwrap(), 1, "the first backend's count is given back");
        let second = driver.connect(sock, vip(family, 11)).unwrap_err();
        assert_eq!(second.name, "EISCONN");
        driver.close(sock).unwrap();
        served.await_idle().unwrap();
    }
}

/// EISCONN must not change what the socket has.
#[test]
fn a_connected_tcp_socket_that_dials_again_keeps_its_name() {
    need_lab!();
    let (served, driver) = two::services();
    let sock = driver.open(Kind::Tcp, Family::V4).unwrap();
    driver.connect(sock, vip(Family::V4, 10)).unwrap();
    assert_eq!(driver.connect(sock, vip(Family::V4, 11)).unwrap_err().name, "EISCONN");
    assert_eq!(driver.peer_name(sock).unwrap(), vip(Family::V4, 10));
    exchange(&driver, sock);
    driver.close(sock).unwrap();
    served.await_idle().unwrap();
}

#[test]
fn udp_connects_to_another_service_and_to_none() {
    need_lab!();
    let (served, driver) = two::services();
    for family in Family::BOTH {
        let sock = driver.open(Kind::Udp, family).unwrap();
        for (number, pod) in [(10, "pod-1-2"), (11, "pod-2-1"), (10, "pod-1-2")] {
            driver.connect(sock, vip(family, number)).unwrap();
            assert_eq!(driver.peer_name(sock).unwrap(), vip(family, number));
            let (reply, from) = exchange(&driver, sock);
            assert!(reply.contains(pod), "{reply}");
            assert_eq!(from, Some(vip(family, number)));
            assert_eq!(served.total_load().unwrap(), 1);
        }
        // A pod's own address is no Service: nothing of the Service may show.
        let direct = served.lab.pods()[1].at(family, 8080);
        driver.connect(sock, direct).unwrap();
        assert_eq!(driver.peer_name(sock).unwrap(), direct);
        assert_eq!(exchange(&driver, sock).1, Some(direct));
        assert_eq!(served.total_load().unwrap(), 0);
        driver.connect(sock, vip(family, 11)).unwrap();
        assert_eq!(exchange(&driver, sock).1, Some(vip(family, 11)));
        driver.close(sock).unwrap();
    }
    served.await_idle().unwrap();
}

/// connect(AF_UNSPEC) runs no hook: what the socket dials next must be right.
#[test]
fn a_dissolved_udp_socket_dials_anew() {
    need_lab!();
    let (served, driver) = two::services();
    for family in Family::BOTH {
        let sock = driver.open(Kind::Udp, family).unwrap();
        driver.connect(sock, vip(family, 10)).unwrap();
        driver.dissolve(sock).unwrap();
        assert_eq!(driver.peer_name(sock).unwrap_err().name, "ENOTCONN");
        driver.send_to(sock, vip(family, 11), "hi\n").unwrap();
        if family == Family::V4 {
            // An IPv6 socket goes on dropping what its old peer did not send: the
            // kernel forgets the peer's port and keeps its address, Service or not.
            let (reply, from) = driver.recv_from(sock).unwrap();
            assert!(reply.contains("pod-2-1"), "{reply}");
            assert_eq!(from, Some(vip(family, 11)));
        }
        driver.connect(sock, vip(family, 11)).unwrap();
        assert_eq!(driver.peer_name(sock).unwrap(), vip(family, 11));
        exchange(&driver, sock);
        driver.close(sock).unwrap();
    }
    served.await_idle().unwrap();
}
