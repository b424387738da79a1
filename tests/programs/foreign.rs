// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Other balancers' programs at our cgroup or above it.

use std::{fs, path::Path};

use lb_agent::datapath::load::LoadError;

use crate::bed::Bed;

/// Attaches another node's connect4 to a cgroup, with bpftool's flags.
fn attach(other: &Bed, cgroup: &Path, flags: &str) {
    let program = other.pin("programs/connect4");
    let words = format!("cgroup attach {} cgroup_inet4_connect pinned", cgroup.display());
    Bed::bpftool(format!("{words} {} {flags}", program.display()).trim());
}

/// A node whose programs can be borrowed.
fn lender() -> Bed {
    let other = Bed::new();
    other.open().unwrap().attach().unwrap();
    other
}

#[test]
fn another_balancer_is_refused_by_name_unless_it_is_allowed() {
    let (mut bed, other) = (Bed::new(), lender());
    attach(&other, &bed.place.cgroup, "multi");
    let error = bed.open().unwrap_err();
    let LoadError::Foreign { first, .. } = &error else { panic!("{error}") };
    assert_eq!(first.name, "connect4");
    assert_eq!(first.cgroup.as_deref(), Some(bed.place.cgroup.as_path()));
    assert!(error.to_string().contains("--allow-foreign-programs"), "{error}");

    bed.options.allow_foreign = true;
    bed.open().unwrap().attach().unwrap();
}

#[test]
fn a_program_above_that_shuts_ours_out_is_named() {
    let (mut bed, other) = (Bed::new(), lender());
    attach(&other, &bed.place.cgroup, "");
    let below = bed.place.cgroup.join("below");
    fs::create_dir(&below).unwrap();
    bed.options.cgroup_root = below;
    bed.options.allow_foreign = true;
    let error = bed.open().unwrap().attach().unwrap_err();
    let LoadError::Blocked { program, blocker, .. } = &error else { panic!("{error}") };
    assert_eq!(*program, "connect4");
    assert_eq!(blocker.cgroup.as_deref(), Some(bed.place.cgroup.as_path()));
    let links = fs::read_dir(bed.pin("links")).unwrap();
    assert_eq!(links.count(), 0, "a failed start leaves no hook behind");
}

#[test]
fn our_own_programs_are_not_foreign() {
    let bed = Bed::new();
    bed.open().unwrap().attach().unwrap();
    bed.open().unwrap();
}
