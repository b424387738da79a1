// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Larger maps under running connections, and maps that are full.

use std::{net::Ipv4Addr, time::Duration};

use lab::wait;
use lb_agent::{
    datapath::{Datapath as _, Growth, load::Outcome},
    plan::op::Op,
};
use lb_common::{
    be::{Be16, Be32},
    key::{FrontendKey4, FrontendValue},
    maps::Capacities,
    protocol::Protocol,
    slot::Slot,
};

use crate::bed::{BACKEND, Bed, SMALL, VIP, apply, cluster_ip, connect, listen, web};

#[test]
fn maps_grow_under_connections_and_every_count_stays_exact() {
    let bed = Bed::new();
    let (mut agent, pod, _listener) = bed.serving();
    let (first, second) = (connect(&pod, VIP), connect(&pod, VIP));
    assert_eq!(agent.load(1), 2);
    let (tables, links) = (agent.dump().unwrap(), bed.links());

    let wanted = Capacities { backends: 5000, slots: 1 << 14, services: 5000, ..SMALL };
    assert_eq!(agent.grow(&wanted).unwrap(), Growth::Grown);
    assert_eq!(*agent.outcome(), Outcome::Grown);
    assert_eq!(agent.sizes().backends, 8192);
    assert_eq!(agent.sizes().slots, 1 << 14);
    assert_eq!(agent.dump().unwrap(), tables);
    for ((name, before), (_, after)) in links.into_iter().zip(bed.links()) {
        assert_eq!(before.id, after.id, "{name}");
        assert_ne!(before.program, after.program, "{name}");
    }
    assert_eq!(agent.load(1), 2, "what the old programs counted is handed over");
    assert_eq!(pod.peer_name(first).unwrap(), VIP.into());

    let beyond = (Ipv4Addr::new(10, 96, 0, 2), 80);
    apply(&mut agent, &cluster_ip(5000, beyond, BACKEND, Protocol::TCP));
    let third = connect(&pod, beyond);
    for socket in [first, second, third] {
        pod.close(socket).unwrap();
    }
    wait::until(Duration::from_secs(5), "the counts to return to zero", || {
        agent.load(1) == 0 && agent.load(5000) == 0
    })
    .unwrap();
    assert_eq!(agent.grow(&wanted).unwrap(), Growth::AtLimit, "there is room already");
    drop(agent);
    let agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Unchanged);
    assert_eq!(agent.sizes().backends, 8192, "maps never shrink");
}

#[test]
fn maps_grow_before_they_were_ever_attached() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    apply(&mut agent, &web());
    let tables = agent.dump().unwrap();
    let wanted = Capacities { services: 4096, ..SMALL };
    assert_eq!(agent.grow(&wanted).unwrap(), Growth::Grown);
    assert!(bed.pin("next").exists() && !bed.pin("links/connect4").exists());
    assert_eq!(agent.dump().unwrap(), tables);
    agent.attach().unwrap();
    let pod = bed.driver();
    listen(&pod);
    connect(&pod, VIP);
    assert_eq!(agent.load(1), 1);
}

#[test]
fn maps_that_the_kernel_does_not_make_leave_all_as_it_was() {
    let bed = Bed::new();
    let (mut agent, pod, _listener) = bed.serving();
    let (tables, links) = (agent.dump().unwrap(), bed.links());
    // More buckets than a hash can have: E2BIG, however much memory there is.
    let wanted = Capacities { frontends: 1 << 30, ..SMALL };
    assert_eq!(agent.grow(&wanted).unwrap(), Growth::Refused);
    assert_eq!((agent.sizes(), agent.dump().unwrap()), (SMALL, tables));
    assert_eq!(bed.links(), links);
    assert!(!bed.pin("building").exists() && !bed.pin("next").exists());
    connect(&pod, VIP);
    let wanted = Capacities { services: 1 << 12, ..SMALL };
    assert_eq!(agent.grow(&wanted).unwrap(), Growth::Grown);
    connect(&pod, VIP);
    assert_eq!(agent.load(1), 2);
}

#[test]
fn a_larger_size_at_the_start_grows_the_pinned_maps() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    apply(&mut agent, &web());
    agent.attach().unwrap();
    let tables = agent.dump().unwrap();
    drop(agent);
    let mut agent = bed.open_with(&Capacities { frontends: 1 << 12, ..SMALL }).unwrap();
    assert_eq!(*agent.outcome(), Outcome::Grown);
    assert_eq!(agent.dump().unwrap(), tables);
    agent.attach().unwrap();
    assert_eq!(agent.sizes().frontends, 1 << 12);
}

#[test]
fn a_full_map_says_so_and_how_far_it_came() {
    let bed = Bed::new();
    let mut agent = bed.open_with(&Capacities { frontends: 64, ..SMALL }).unwrap();
    let frontend = |number: u16| {
        let address = Be32::from_host(0x0a60_0001);
        let key = FrontendKey4::new(address, Be16::from_host(number), Protocol::TCP);
        Op::Frontend4 { key, value: Some(FrontendValue { service: 1, tag: key.tag() }) }
    };
    let ops: Vec<_> = (1..=100).map(frontend).collect();
    let failed = agent.apply(&ops).unwrap_err();
    assert_eq!(failed.done, 64);
    assert!(failed.source.is_full());
    assert_eq!(
        failed.to_string(),
        "cannot update map FRONTENDS4: Argument list too long (os error 7); 64 ops were executed before"
    );
    let tables = agent.dump().unwrap();
    assert_eq!(tables.frontends4.len(), 64);

    let remove = |number: u16| match frontend(number) {
        Op::Frontend4 { key, .. } => Op::Frontend4 { key, value: None },
        other => other,
    };
    // One of them is not there: no error.
    agent.apply(&(60..=70).map(remove).collect::<Vec<_>>()).unwrap();
    assert_eq!(agent.dump().unwrap().frontends4.len(), 59);
    agent.apply(&ops[..64]).unwrap();
    let past = Op::Slots { base: SMALL.slots - 1, slots: vec![Slot::default(); 2].into() };
    assert!(agent.apply(&[past]).unwrap_err().source.is_full());
}
