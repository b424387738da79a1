// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An agent that is killed at any moment of loading, replacing or growing: connections are
//! translated all the time, and the next start goes on from what is left.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lab::{driver::Driver, wire::Sock};
use lb_agent::datapath::{
    Datapath as _,
    kernel::Kernel,
    load::{Options, Outcome, XdpChoice},
};
use lb_common::maps::{Capacities, LAYOUT_VERSION};

use crate::bed::{Bed, SMALL, VIP, await_load, connect};

const ROOT: &str = "SLUICE_TEST_BPF_ROOT";
const CGROUP: &str = "SLUICE_TEST_CGROUP";

/// Replaces the programs again and again, and lets the maps grow, until it is killed.
#[test]
fn child_that_replaces_until_it_is_killed() {
    let (Some(root), Some(cgroup)) = (env::var_os(ROOT), env::var_os(CGROUP)) else {
        println!("SKIP only as a child of killed_at_any_moment_the_next_start_goes_on");
        return;
    };
    let options = Options {
        bpf_root: PathBuf::from(root),
        cgroup_root: cgroup.into(),
        allow_foreign: false,
        no_tcx: false,
        xdp: XdpChoice::default(),
        limits: Capacities::MAXIMUM,
    };
    let build = options.bpf_root.join(format!("v{LAYOUT_VERSION}/build"));
    for _ in 0..1000 {
        let mut agent = Kernel::open(&options, &SMALL).unwrap();
        agent.attach().unwrap();
        let Capacities { services, .. } = agent.sizes();
        if services < 1 << 14 {
            agent.grow(&Capacities { services: services * 2, ..SMALL }).unwrap();
        }
        drop(agent);
        fs::remove_file(&build).unwrap();
        symlink("another-build", &build).unwrap();
    }
}

/// Starts the child, connects all the while, and kills it after a time. The number of
/// connections; each must be translated, whoever is at work on the programs.
fn disturb(bed: &Bed, pod: &Driver, listener: Sock, time: Duration) -> u32 {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["killed::child_that_replaces_until_it_is_killed", "--exact"])
        .env(ROOT, &bed.options.bpf_root)
        .env(CGROUP, &bed.options.cgroup_root)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = bed.place.run(|| command.spawn()).unwrap().unwrap();
    let end = Instant::now() + time;
    let mut connections = 0;
    while Instant::now() < end {
        ask(pod, listener);
        connections += 1;
    }
    assert!(child.try_wait().unwrap().is_none(), "the child failed by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    connections
}

fn ask(pod: &Driver, listener: Sock) {
    let client = connect(pod, VIP);
    pod.close(client).unwrap();
    let (accepted, _) = pod.accept(listener).unwrap();
    pod.close(accepted).unwrap();
}

#[test]
fn killed_at_any_moment_the_next_start_goes_on() {
    let bed = Bed::new();
    let (mut agent, pod, listener) = bed.serving();
    let tables = agent.dump().unwrap();
    drop(agent);

    // Another moment in each round, spread evenly by the golden ratio.
    let moments = (0..20_u64).map(|round| Duration::from_millis(20 + round * 618 % 1000));
    let connections: u32 = moments.map(|moment| disturb(&bed, &pod, listener, moment)).sum();
    assert!(connections > 100, "{connections}");

    let mut agent = bed.open().unwrap();
    assert!(!matches!(agent.outcome(), Outcome::Fresh | Outcome::Rebuilt(_)), "{agent:?}");
    assert_eq!(agent.dump().unwrap(), tables);
    agent.attach().unwrap();
    ask(&pod, listener);
    assert!(!bed.pin("next").exists() && !bed.pin("building").exists());
    drop(agent);
    let agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Unchanged);
    await_load(&agent, 0);
}
