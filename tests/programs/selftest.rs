// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's own proof that its programs run.

use std::fs;

use lb_agent::datapath::{
    Datapath as _,
    kernel::Kernel,
    load,
    probe::{self, State},
    selftest::{self, SelfTestError},
};

use lb_agent::plan::op::Op;
use lb_common::service::{Service, ServiceFlags};

use crate::bed::{Bed, SMALL};

fn run(bed: &Bed, agent: &mut Kernel) -> Result<(), SelfTestError> {
    bed.place.run(|| selftest::run(agent)).unwrap()
}

#[test]
fn the_canary_is_reached_and_leaves_no_trace() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    let before = agent.dump().unwrap();
    agent.attach().unwrap();
    run(&bed, &mut agent).unwrap();
    assert_eq!(agent.dump().unwrap(), before);
    assert_eq!(agent.load(SMALL.backends - 1), 0);
    assert_eq!(agent.writes(), 0, "the canary is no change");
}

#[test]
fn the_canary_of_an_agent_that_was_killed_is_in_nobodys_way() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    agent.attach().unwrap();
    run(&bed, &mut agent).unwrap();
    let before = agent.dump().unwrap();
    let last = SMALL.services - 1;
    let left = Service { flags: ServiceFlags::LOCAL.bits(), ..Service::default() };
    agent.apply(&[Op::Service { index: last, record: Box::new(left) }]).unwrap();
    run(&bed, &mut agent).unwrap();
    assert_eq!(agent.dump().unwrap(), before);
}

#[test]
fn a_hook_that_was_detached_is_named() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    assert!(matches!(run(&bed, &mut agent), Err(SelfTestError::Idle { .. })), "not attached yet");
    agent.attach().unwrap();
    let link = bed.pin("links/getpeername4");
    Bed::bpftool(&format!("link detach pinned {}", link.display()));
    let error = run(&bed, &mut agent).unwrap_err();
    assert!(matches!(error, SelfTestError::Idle { hook: "getpeername4", .. }), "{error}");
    agent.attach().unwrap();
    run(&bed, &mut agent).unwrap();
}

#[test]
fn a_canary_that_cannot_be_translated_is_an_error_and_is_removed() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    agent.attach().unwrap();
    let before = agent.dump().unwrap();
    // Leave the namespace that the canary is dialled from alone.
    let cookie = bed.place.run(lb_agent::datapath::syscall::netns_cookie).unwrap().unwrap();
    agent.maps_mut().bypass.put(cookie, 1).unwrap();
    let config = lb_common::config::Config { bypassed_namespaces: 1, ..Default::default() };
    assert!(agent.maps_mut().config.write(0, &config));
    let error = run(&bed, &mut agent).unwrap_err();
    assert!(matches!(error, SelfTestError::Unreached { .. }), "{error}");
    assert_eq!(agent.dump().unwrap(), before);
}

#[test]
fn requirements_tell_this_node_from_a_broken_one() {
    let bed = Bed::new();
    let state = |name: &str| {
        let found = probe::requirements(&bed.options.bpf_root, Some(&bed.place.cgroup));
        let requirement = found.into_iter().find(|requirement| requirement.name == name).unwrap();
        (requirement.state, requirement.to_string())
    };
    for name in ["capabilities", "BPF file system", "cgroup2", "namespace cookie", "membarrier"] {
        assert_eq!(state(name).0, State::Ok, "{name}: {}", state(name).1);
    }
    let (nested, line) = state("cgroup root");
    assert_eq!(nested, State::Missing);
    assert!(line.contains(&bed.place.cgroup.display().to_string()), "{line}");
    assert_eq!(state("no other balancer").0, State::Ok);
    bed.open().unwrap().attach().unwrap();
    assert_eq!(state("no other balancer").0, State::Ok, "our own programs are no other balancer");

    let elsewhere = tempfile::tempdir().unwrap();
    let found = probe::requirements(elsewhere.path(), Some(elsewhere.path()));
    let missing: Vec<_> = found
        .iter()
        .filter(|requirement| requirement.state == State::Missing)
        .map(|requirement| requirement.name)
        .collect();
    assert_eq!(missing, ["BPF file system", "cgroup2"]);
}

#[test]
fn a_root_outside_of_a_bpf_file_system_or_with_a_dot_is_refused_with_the_reason() {
    let mut bed = Bed::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let inside = bed.options.bpf_root.clone();
    bed.options.bpf_root = elsewhere.path().join("pins");
    let error = bed.open().unwrap_err().to_string();
    assert!(error.contains("mount -t bpf"), "{error}");
    bed.options.bpf_root = inside.join("a.b");
    let error = bed.open().unwrap_err().to_string();
    assert!(error.contains("no dots"), "{error}");
    bed.options.bpf_root = inside;
    assert!(!fs::exists(&bed.options.bpf_root).unwrap());
    assert!(!load::unload(&bed.options.bpf_root).unwrap());
}
