// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two Services that one socket may dial in turn.

use std::net::SocketAddr;

use lab::{driver::Driver, served::Served, wire::Sock};

/// Service 10, served by pod-1-2 alone, and Service 11, by pod-2-1; pod-1-1 dials.
pub(crate) fn services() -> (Served, Driver) {
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("one", 10, &pods[1..2]).unwrap();
    served.expose("two", 11, &pods[2..3]).unwrap();
    let driver = pods[0].driver().unwrap();
    (served, driver)
}

/// One line there and back: the answer, and whom recvfrom() shows.
pub(crate) fn exchange(driver: &Driver, sock: Sock) -> (String, Option<SocketAddr>) {
    driver.send(sock, "hi\n").unwrap();
    let (reply, from) = driver.recv_from(sock).unwrap();
    assert!(reply.contains(r#""text":"hi""#), "{reply}");
    (reply, from)
}
