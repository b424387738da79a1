// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts over what earlier agents left: intact, older, damaged, of another layout.

use std::{fs, os::unix::fs::symlink};

use lab::{
    cgroup,
    wire::{Family, Kind},
};
use lb_agent::datapath::{
    Datapath as _,
    cgroup::Cgroup,
    load::{self, LoadError, Outcome},
    syscall::{self, LinkTarget},
};
use lb_common::maps;

use crate::bed::{Bed, VIP, apply, await_load, connect, web};

#[test]
fn a_restart_that_finds_no_change_writes_nothing() {
    let bed = Bed::new();
    let (mut agent, pod, _listener) = bed.serving();
    let (links, tables) = (bed.links(), agent.dump().unwrap());
    let client = connect(&pod, VIP);
    assert!(agent.writes() > 0);
    drop(agent);

    connect(&pod, VIP);
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
    let (agent, pod, _listener) = bed.serving();
    let before = bed.links();
    let client = connect(&pod, VIP);
    drop(agent);
    fs::remove_file(bed.pin("build")).unwrap();
    symlink("another-build", bed.pin("build")).unwrap();

    let mut agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Upgraded);
    assert_eq!(bed.links(), before, "what runs goes on running until the maps are filled");
    connect(&pod, VIP);
    agent.attach().unwrap();
    for ((name, before), (_, after)) in before.into_iter().zip(bed.links()) {
        assert_eq!(before.id, after.id, "{name} was attached anew");
        assert_ne!(before.program, after.program, "{name} was not replaced");
    }
    assert_eq!(pod.peer_name(client).unwrap(), VIP.into());
    connect(&pod, VIP);
    await_load(&agent, 3);
    pod.close(client).unwrap();
    await_load(&agent, 2);
    assert!(!bed.pin("next").exists());
}

#[test]
fn a_generation_that_an_agent_left_unattached_is_taken_up() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    apply(&mut agent, &web());
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
    let (agent, pod, _listener) = bed.serving();
    drop(agent);
    let slots = bed.pin("maps/SLOTS");
    fs::remove_file(&slots).unwrap();
    let create = "type array key 4 value 24 entries 8 name SLOTS";
    Bed::bpftool(&format!("map create {} {create}", slots.display()));

    let mut agent = bed.open().unwrap();
    let Outcome::Rebuilt(misfits) = agent.outcome() else { panic!("{:?}", agent.outcome()) };
    assert_eq!(misfits.len(), 1);
    assert_eq!(misfits[0].map, maps::SLOTS);
    assert_eq!(misfits[0].to_string(), "SLOTS has value size 24 instead of 16");
    assert!(agent.dump().unwrap().frontends4.is_empty(), "its indexes mean nothing now");
    let before = connect(&pod, VIP);
    apply(&mut agent, &web());
    agent.attach().unwrap();
    let after = connect(&pod, VIP);
    assert_eq!(pod.peer_name(before).unwrap(), VIP.into(), "records name backends alone");
    await_load(&agent, 2);
    pod.close(before).unwrap();
    pod.close(after).unwrap();
    await_load(&agent, 0);
}

#[test]
fn half_a_directory_and_junk_are_rebuilt() {
    let bed = Bed::new();
    let (agent, pod, _listener) = bed.serving();
    drop(agent);
    fs::remove_file(bed.pin("maps/MEMBERS")).unwrap();
    fs::rename(bed.pin("programs/recvmsg4"), bed.pin("maps/COUNTERS")).unwrap();
    fs::remove_file(bed.pin("links/connect4")).unwrap();

    let mut agent = bed.open().unwrap();
    let Outcome::Rebuilt(misfits) = agent.outcome() else { panic!("{:?}", agent.outcome()) };
    let names: Vec<_> = misfits.iter().map(|misfit| misfit.map).collect();
    assert_eq!(names, [maps::MEMBERS, maps::COUNTERS]);
    assert_eq!(misfits[0].to_string(), "MEMBERS is missing");
    assert_eq!(misfits[1].to_string(), "COUNTERS is no map");
    apply(&mut agent, &web());
    agent.attach().unwrap();
    connect(&pod, VIP);
    drop(agent);
    assert_eq!(*bed.open().unwrap().outcome(), Outcome::Unchanged);
}

#[test]
fn pins_of_another_layout_serve_until_ours_are_attached_and_then_go() {
    let bed = Bed::new();
    let (agent, pod, _listener) = bed.serving();
    let before = bed.links();
    drop(agent);
    let newer = bed.options.bpf_root.join("v4000");
    fs::rename(bed.pin(""), &newer).unwrap();

    let mut agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Fresh);
    connect(&pod, VIP);
    apply(&mut agent, &web());
    agent.attach().unwrap();
    assert!(!newer.exists());
    let ids = |links: Vec<(_, syscall::LinkDescription)>| -> Vec<_> {
        links.into_iter().map(|(_, link)| link.id).collect()
    };
    assert_eq!(ids(bed.links()), ids(before), "the links were taken over");
    connect(&pod, VIP);
    await_load(&agent, 1);
}

#[test]
fn a_cgroup_that_was_made_anew_is_attached_again() {
    let bed = Bed::new();
    let (agent, pod, _listener) = bed.serving();
    drop((agent, pod));
    cgroup::remove(&bed.place.cgroup).unwrap();
    cgroup::create(&bed.place.cgroup).unwrap();

    let (agent, pod, _listener) = bed.serving();
    assert_eq!(*agent.outcome(), Outcome::Unchanged);
    connect(&pod, VIP);
    let cgroup = Cgroup::open(&bed.place.cgroup).unwrap();
    let is_here = |target| matches!(target, LinkTarget::Cgroup { id, .. } if id == cgroup.id());
    assert!(bed.links().iter().all(|(_, link)| is_here(link.target)));
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
    let (agent, pod, _listener) = bed.serving();
    drop(agent);
    // Somebody looks at a link: it lives on, its attachment must not.
    let _held = syscall::object_get(&bed.pin("links/connect4")).unwrap();
    assert!(load::unload(&bed.options.bpf_root).unwrap());
    assert!(!bed.options.bpf_root.exists());
    let cgroup = Cgroup::open(&bed.place.cgroup).unwrap();
    for hook in load::socket_hooks() {
        let attached = syscall::attached(&cgroup, hook.attach_type, true).unwrap();
        assert_eq!(attached.programs, [0; 0], "{}", hook.name);
    }
    let client = pod.open(Kind::Tcp, Family::V4).unwrap();
    assert_eq!(pod.connect(client, VIP.into()).unwrap_err().name, "ENETUNREACH");
    assert!(!load::unload(&bed.options.bpf_root).unwrap());
}
