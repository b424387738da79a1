// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel remembers of a socket: several frontends on one, and two
//! sockets that belong in one place.

use std::{collections::BTreeMap, net::SocketAddr};

use lab::{
    Lab,
    driver::Driver,
    need_lab,
    objects::{self, Port},
    served::{Served, cluster_ips, vip},
    wire::{Family, Kind, Sock},
};

use crate::two;

/// SOC-08: getpeername keeps to what connect() dialled, whatever sendto() did.
#[test]
fn sendto_leaves_the_connected_frontend_alone() {
    need_lab!();
    let (served, driver) = two::services();
    for family in Family::BOTH {
        let [one, two] = [10, 11].map(|number| vip(family, number));
        let sock = driver.open(Kind::Udp, family).unwrap();
        driver.connect(sock, one).unwrap();
        driver.send_to(sock, two, "to two\n").unwrap();
        assert_eq!(driver.peer_name(sock).unwrap(), one);
        // What `two` answers never reaches a socket that is connected to another
        // address: that is UDP, not ours. What `one` answers does, in its name.
        driver.send(sock, "to one\n").unwrap();
        let (reply, from) = driver.recv_from(sock).unwrap();
        assert!(reply.contains("to one") && reply.contains("pod-1-2"), "{reply}");
        assert_eq!(from, Some(one));
        driver.send_to(sock, one, "to one by name\n").unwrap();
        let (reply, from) = driver.recv_from(sock).unwrap();
        assert!(reply.contains("to one by name") && reply.contains("pod-1-2"), "{reply}");
        assert_eq!(from, Some(one));
        let cookie = driver.cookie(sock).unwrap();
        let records = served.agent.sockets().unwrap();
        let mut held: Vec<_> = records
            .iter()
            .filter(|record| record.cookie == cookie)
            .map(|record| (record.call.clone(), record.frontend.clone()))
            .collect();
        held.sort();
        let expected =
            [("connect".to_owned(), one.to_string()), ("sendto".to_owned(), two.to_string())];
        assert_eq!(held, expected);
        assert_eq!(served.total_load().unwrap(), 2);
        driver.close(sock).unwrap();
    }
    served.await_idle().unwrap();
}

/// A resolver asks all its name servers from one socket and drops answers from
/// addresses that it did not ask. Eight is what one socket's records hold.
#[test]
fn replies_of_eight_frontends_on_one_socket_are_told_apart() {
    need_lab!();
    let served = Served::with(Lab::builder().ports(&[8080, 8081]), |spec| spec).unwrap();
    let pods = served.lab.pods();
    let mut answers: BTreeMap<u8, (String, u16)> = BTreeMap::new();
    for (number, (pod, port)) in
        (20..).zip(pods.iter().flat_map(|pod| [8080, 8081].map(|port| (pod, port))))
    {
        let service =
            objects::service(&format!("dns-{number}"), &cluster_ips(number), &Port::both(53, port));
        served.expose_as(service, std::slice::from_ref(pod)).unwrap();
        answers.insert(number, (pod.name.clone(), port));
    }
    assert_eq!(answers.len(), 8);
    let driver = pods[0].driver().unwrap();
    for family in Family::BOTH {
        let sock = driver.open(Kind::Udp, family).unwrap();
        for _ in 0..3 {
            for number in answers.keys() {
                let to = SocketAddr::new(vip(family, *number).ip(), 53);
                driver.send_to(sock, to, &format!("number {number}.\n")).unwrap();
            }
            for _ in &answers {
                let (reply, from) = driver.recv_from(sock).unwrap();
                let (number, (pod, _)) = answers
                    .iter()
                    .find(|(number, _)| reply.contains(&format!("number {number}.")))
                    .unwrap();
                assert_eq!(from, Some(SocketAddr::new(vip(family, *number).ip(), 53)), "{reply}");
                assert!(reply.contains(pod), "{reply}");
            }
        }
        assert_eq!(served.total_load().unwrap(), 8, "a record each");
        driver.close(sock).unwrap();
        served.await_idle().unwrap();
    }
}

/// SOCKETS is direct-mapped by cookie: a socket whose place is taken has its
/// record in SOCKETS_OVER.
#[test]
fn sockets_that_belong_in_one_place_keep_names_and_counts() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods).unwrap();
    let to = vip(Family::V4, 10);
    let driver = pods[0].driver().unwrap();
    // One socket in each sixteenth of the table, in whatever block the CPU has.
    let mut first = Vec::new();
    for _ in 0..HELD {
        let sock = driver.open(Kind::Udp, Family::V4).unwrap();
        driver.connect(sock, to).unwrap();
        first.push((sock, driver.cookie(sock).unwrap() & MASK));
        driver.burn_cookies((MASK + 1) / HELD).unwrap();
    }
    let places: Vec<u64> = first.iter().map(|(_, place)| *place).collect();
    let before = served.agent.counter("state_overflow").unwrap();
    let mut second = Vec::new();
    for kind in [Kind::Udp, Kind::Tcp, Kind::Udp, Kind::Tcp] {
        let sock = driver.open_at(kind, Family::V4, MASK, &places).unwrap();
        driver.connect(sock, to).unwrap();
        second.push(sock);
    }
    let datagrams = driver.open_at(Kind::Udp, Family::V4, MASK, &places).unwrap();
    driver.send_to(datagrams, to, "hi\n").unwrap();
    assert_eq!(driver.recv_from(datagrams).unwrap().1, Some(to));
    assert_eq!(served.agent.counter("state_overflow").unwrap() - before, 5);
    assert_eq!(served.total_load().unwrap(), HELD + 5);
    for sock in first.iter().map(|(sock, _)| sock).chain(&second) {
        check(&driver, *sock, to);
    }
    // The places are free again; those who found them taken must not lose theirs.
    for (sock, _) in &first {
        driver.close(*sock).unwrap();
    }
    assert_eq!(served.total_load().unwrap(), 5);
    for sock in &second {
        check(&driver, *sock, to);
        driver.close(*sock).unwrap();
    }
    driver.send_to(datagrams, to, "again\n").unwrap();
    assert_eq!(driver.recv_from(datagrams).unwrap().1, Some(to));
    driver.close(datagrams).unwrap();
    served.await_idle().unwrap();
}

/// The socket still believes to talk to the frontend, and does talk to a pod.
fn check(driver: &Driver, sock: Sock, to: SocketAddr) {
    assert_eq!(driver.peer_name(sock).unwrap(), to);
    assert!(two::exchange(driver, sock).0.contains("pod-"));
}

/// Places in SOCKETS, less one: `lb_common::maps::Capacities::MINIMUM`.
const MASK: u64 = (1 << 17) - 1;
/// Sockets that hold a place.
const HELD: u64 = 16;
