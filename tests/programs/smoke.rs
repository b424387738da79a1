// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One connection through hand-written maps.

use std::{net::Ipv4Addr, time::Duration};

use lab::{
    wait,
    wire::{Family, Kind},
};
use lb_agent::datapath::{Datapath as _, kernel, load::Outcome};
use lb_common::{counter::Counter, protocol::Protocol};

use crate::bed::{Bed, apply, cluster_ip};

#[test]
fn a_connection_to_a_cluster_ip_reaches_the_backend_and_is_forgotten_when_closed() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Fresh);
    let vip = (Ipv4Addr::new(10, 96, 0, 1), 80);
    apply(&mut agent, &cluster_ip(1, vip, (Ipv4Addr::LOCALHOST, 8080), Protocol::TCP));
    agent.attach().unwrap();

    let pod = bed.driver();
    let listener = pod.bound(Kind::Tcp, bed.place.at(Family::V4, 8080)).unwrap();
    pod.listen(listener).unwrap();
    let client = pod.open(Kind::Tcp, Family::V4).unwrap();
    pod.connect(client, vip.into()).unwrap();
    assert_eq!(pod.peer_name(client).unwrap(), vip.into());
    let (accepted, from) = pod.accept(listener).unwrap();
    assert_eq!(pod.sock_name(client).unwrap(), from);
    assert_eq!(agent.load(1), 1);

    let records = kernel::sockets(agent.maps()).unwrap();
    assert_eq!(records.len(), 1, "the accepted socket has dialled nothing");
    assert_eq!(records[0].owner, pod.cookie(client).unwrap());
    assert_eq!(records[0].connected.address.to_ip(), vip.0);
    assert_eq!(records[0].connected.backend, 1);

    pod.close(client).unwrap();
    pod.close(accepted).unwrap();
    wait::until(Duration::from_secs(5), "the socket to be forgotten", || agent.load(1) == 0)
        .unwrap();
    assert!(kernel::sockets(agent.maps()).unwrap().is_empty());
    let counters = kernel::counters(agent.maps()).unwrap();
    let of = |wanted| counters.iter().find(|(counter, _)| *counter == wanted).unwrap().1;
    assert_eq!(of(Counter::Translated), 1);
    assert_eq!(of(Counter::Released), 1);
}

#[test]
fn a_service_without_endpoints_refuses_and_others_pass() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    let vip = (Ipv4Addr::new(10, 96, 0, 2), 80);
    apply(&mut agent, &cluster_ip(1, vip, (Ipv4Addr::LOCALHOST, 8080), Protocol::TCP));
    let empty = lb_common::service::SetWord::REFUSE;
    apply(&mut agent, &[lb_agent::plan::op::Op::Inside { index: 1, set: empty }]);
    agent.attach().unwrap();

    let pod = bed.driver();
    let client = pod.open(Kind::Tcp, Family::V4).unwrap();
    assert_eq!(pod.connect(client, vip.into()).unwrap_err().name, "ECONNREFUSED");
    let counters = kernel::counters(agent.maps()).unwrap();
    assert!(counters.contains(&(Counter::RefusedNoEndpoints, 1)));
    assert_eq!(agent.load(1), 0);
}
