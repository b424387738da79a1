// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts over what earlier agents left: intact, older, damaged, of another layout.

use std::{fs, net::Ipv4Addr, os::unix::fs::symlink, time::Duration};

use lab::{
    cgroup,
    driver::Driver,
    wait,
    wire::{Family, Kind, Sock},
};
use lb_agent::datapath::{
    Datapath as _,
    cgroup::Cgroup,
    kernel::Kernel,
    load::{self, HOOKS, LoadError, Outcome},
    syscall,
};
use lb_common::{maps, protocol::Protocol};

use crate::bed::{Bed, apply, cluster_ip};

const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 1), 80);

/// An agent that serves one ClusterIP, and a pod with a listener behind it.
fn serving(bed: &Bed) -> (Kernel, Driver) {
    let mut agent = bed.open().unwrap();
    apply(&mut agent, &cluster_ip(1, VIP, (Ipv4Addr::LOCALHOST, 8080), Protocol::TCP));
    agent.attach().unwrap();
    let pod = bed.driver();
    let listener = pod.bound(Kind::Tcp, bed.place.at(Family::V4, 8080)).unwrap();
    pod.listen(listener).unwrap();
    (agent, pod)
}

/// A connection through the ClusterIP.
fn connect(pod: &Driver) -> Sock {
    let client = pod.open(Kind::Tcp, Family::V4).unwrap();
    pod.connect(client, VIP.into()).unwrap();
    assert_eq!(pod.peer_name(client).unwrap(), VIP.into());
    client
}

fn await_load(agent: &Kernel, sockets: u64) {
    let what = format!("a load of {sockets}");
    wait::until(Duration::from_secs(5), &what, || agent.load(1) == sockets).unwrap();
}

#[test]
fn a_restart_that_finds_no_change_writes_nothing() {
    let bed = Bed::new();
    let (mut agent, pod) = serving(&bed);
    let (links, tables) = (bed.links(), agent.dump().unwrap());
    let client = connect(&pod);
    assert!(agent.writes() > 0);
    drop(agent);

    connect(&pod);
    let mut agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Unchanged);
    agent.attach().unwrap();
    assert_eq!(agent.dump().unwrap(), tables);
    assert_eq!(bed.links(), links);
    assert_eq!(agent.writes(), 0);
    assert_eq!(agent.load(1), 2);
    pod.close(client).unwrap();
    await_load(&agent, 1);
}

#[test]
fn an_upgrade_replaces_programs_in_their_links_and_keeps_connections() {
    let bed = Bed::new();
    let (agent, pod) = serving(&bed);
    let before = bed.links();
    let client = connect(&pod);
    drop(agent);
    fs::remove_file(bed.pin("build")).unwrap();
    symlink("another-build", bed.pin("build")).unwrap();

    let mut agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Upgraded);
    assert_eq!(bed.links(), before, "what runs goes on running until the maps are filled");
    connect(&pod);
    agent.attach().unwrap();
    for ((name, before), (_, after)) in before.into_iter().zip(bed.links()) {
        assert_eq!(before.id, after.id, "{name} was attached anew");
        assert_ne!(before.program, after.program, "{name} was not replaced");
    }
    assert_eq!(pod.peer_name(client).unwrap(), VIP.into());
    connect(&pod);
    await_load(&agent, 3);
    pod.close(client).unwrap();
    await_load(&agent, 2);
    assert!(!bed.pin("next").exists());
}

#[test]
fn a_generation_that_an_agent_left_unattached_is_taken_up() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    apply(&mut agent, &cluster_ip(1, VIP, (Ipv4Addr::LOCALHOST, 8080), Protocol::TCP));
    let tables = agent.dump().unwrap();
    drop(agent);
    fs::create_dir_all(bed.pin("building/maps")).unwrap();

    let mut agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Unchanged);
    assert_eq!(agent.dump().unwrap(), tables);
    agent.attach().unwrap();
    assert!(!bed.pin("next").exists() && !bed.pin("building").exists());
    assert!(bed.pin("maps/SERVICES").exists());
}

#[test]
fn a_map_of_another_shape_is_never_reused() {
    let bed = Bed::new();
    let (agent, pod) = serving(&bed);
    drop(agent);
    let slots = bed.pin("maps/SLOTS");
    fs::remove_file(&slots).unwrap();
    let create = "type array key 4 value 24 entries 8 name SLOTS";
    Bed::bpftool(&format!("map create {} {create}", slots.display()));

    let mut agent = bed.open().unwrap();
    let Outcome::Rebuilt(misfits) = agent.outcome() else { panic!("{:?}", agent.outcome()) };
    assert_eq!(misfits.len(), 1);
    assert_eq!(misfits[0].map, maps::SLOTS);
    assert_eq!(misfits[0].found.unwrap().value_size, 24);
    assert!(agent.dump().unwrap().frontends4.is_empty(), "its indexes mean nothing now");
    connect(&pod);
    apply(&mut agent, &cluster_ip(1, VIP, (Ipv4Addr::LOCALHOST, 8080), Protocol::TCP));
    agent.attach().unwrap();
    let client = connect(&pod);
    await_load(&agent, 1);
    pod.close(client).unwrap();
    await_load(&agent, 0);
}

#[test]
fn half_a_directory_and_junk_are_rebuilt() {
    let bed = Bed::new();
    let (agent, pod) = serving(&bed);
    drop(agent);
    fs::remove_file(bed.pin("maps/MEMBERS")).unwrap();
    fs::rename(bed.pin("programs/recvmsg4"), bed.pin("maps/COUNTERS")).unwrap();
    fs::remove_file(bed.pin("links/connect4")).unwrap();

    let mut agent = bed.open().unwrap();
    let Outcome::Rebuilt(misfits) = agent.outcome() else { panic!("{:?}", agent.outcome()) };
    let names: Vec<_> = misfits.iter().map(|misfit| misfit.map).collect();
    assert_eq!(names, [maps::MEMBERS, maps::COUNTERS]);
    assert!(misfits.iter().all(|misfit| misfit.found.is_none()));
    apply(&mut agent, &cluster_ip(1, VIP, (Ipv4Addr::LOCALHOST, 8080), Protocol::TCP));
    agent.attach().unwrap();
    connect(&pod);
    drop(agent);
    assert_eq!(*bed.open().unwrap().outcome(), Outcome::Unchanged);
}

#[test]
fn pins_of_another_layout_serve_until_ours_are_attached_and_then_go() {
    let bed = Bed::new();
    let (agent, pod) = serving(&bed);
    let before = bed.links();
    drop(agent);
    let newer = bed.options.bpf_root.join("v4000");
    fs::rename(bed.pin(""), &newer).unwrap();

    let mut agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Fresh);
    connect(&pod);
    apply(&mut agent, &cluster_ip(1, VIP, (Ipv4Addr::LOCALHOST, 8080), Protocol::TCP));
    agent.attach().unwrap();
    assert!(!newer.exists());
    let ids = |links: Vec<(_, syscall::LinkDescription)>| -> Vec<_> {
        links.into_iter().map(|(_, link)| link.id).collect()
    };
    assert_eq!(ids(bed.links()), ids(before), "the links were taken over");
    connect(&pod);
    await_load(&agent, 1);
}

#[test]
fn a_cgroup_that_was_made_anew_is_attached_again() {
    let bed = Bed::new();
    let (agent, pod) = serving(&bed);
    drop((agent, pod));
    cgroup::remove(&bed.place.cgroup).unwrap();
    cgroup::create(&bed.place.cgroup).unwrap();

    let (agent, pod) = serving(&bed);
    assert_eq!(*agent.outcome(), Outcome::Unchanged);
    connect(&pod);
    let cgroup = Cgroup::open(&bed.place.cgroup).unwrap();
    assert!(bed.links().iter().all(|(_, link)| link.cgroup == cgroup.id()));
}

#[test]
fn a_second_agent_is_told_who_has_the_pins() {
    let bed = Bed::new();
    let agent = bed.open().unwrap();
    let Err(LoadError::Locked { pid, .. }) = bed.open() else { panic!("two agents run") };
    assert_eq!(pid, Some(std::process::id()));
    assert!(matches!(load::unload(&bed.options.bpf_root), Err(LoadError::Locked { .. })));
    drop(agent);
    bed.open().unwrap();
}

#[test]
fn unload_leaves_nothing() {
    let bed = Bed::new();
    let (agent, pod) = serving(&bed);
    drop(agent);
    assert!(load::unload(&bed.options.bpf_root).unwrap());
    assert!(!bed.options.bpf_root.exists());
    let cgroup = Cgroup::open(&bed.place.cgroup).unwrap();
    wait::until(Duration::from_secs(5), "the hooks to be empty", || {
        HOOKS.iter().all(|hook| {
            syscall::attached(&cgroup, hook.attach_type, true).unwrap().programs.is_empty()
        })
    })
    .unwrap();
    let client = pod.open(Kind::Tcp, Family::V4).unwrap();
    assert_eq!(pod.connect(client, VIP.into()).unwrap_err().name, "ENETUNREACH");
    assert!(!load::unload(&bed.options.bpf_root).unwrap());
}
