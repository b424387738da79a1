// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices: which ones are served, and what becomes of them when they come and go.

use std::time::Duration;

use lab::{
    Lab,
    agent::{Agent, AgentSpec},
    need_lab,
    node::Node,
    served::Served,
    shown::ProgramRow,
    wait,
};
use lb_agent::datapath::{load, syscall};

use crate::bed::Bed;

/// The devices of the default routes are served, in both directions, before all others on the
/// way in; pods' interfaces are not.
#[test]
fn the_device_of_the_default_routes_is_served() {
    need_lab!();
    let served = Served::with(Lab::builder().nodes(1), |spec| spec).unwrap();
    let rows = at_devices(&served, &["eth0"]);
    let names: Vec<_> = rows.iter().map(|row| row.program.as_str()).collect();
    assert_eq!(names, ["tc_egress", "tc_ingress"]);
    assert!(rows.iter().all(|row| (row.position, row.of, row.ours) == (Some(1), Some(1), true)));
    assert!(rows.iter().all(|row| row.link.is_some()));
    // From another network namespace the number may be another device's, with other programs.
    let seen = load::pinned_programs(&served.node().unwrap().bpf_root).unwrap();
    let seen: Vec<_> = seen.iter().filter_map(|program| program.device.as_ref()).collect();
    assert_eq!(seen.len(), 2);
    for turn in seen {
        assert!(turn.device.ends_with("not in this network namespace"), "{turn:?}");
        assert_eq!(turn.place, None);
    }
}

/// A device that is named and appears later is taken in, one that vanishes is let go, and its
/// successor of the same name is taken in again.
#[test]
fn a_device_that_appears_later_is_taken_in_and_let_go() {
    need_lab!();
    let builder = Lab::builder().nodes(1).pods(0);
    let served = Served::with(builder, |spec| spec.arg("--devices").arg("eth0,late.7")).unwrap();
    let node = served.node().unwrap();
    at_devices(&served, &["eth0"]);
    for _ in 0..2 {
        node.ip("link add late.7 type veth peer name late.8").unwrap();
        at_devices(&served, &["eth0", "late.7"]);
        node.ip("link del late.7").unwrap();
        at_devices(&served, &["eth0"]);
        let pins = std::fs::read_dir(node.bpf_root.join(layout()).join("links")).unwrap();
        let pins = pins
            .filter(|pin| pin.as_ref().unwrap().file_name().to_str().unwrap().starts_with("tc_"));
        assert_eq!(pins.count(), 2, "the pins of a device that is gone are removed");
    }
    assert!(!served.agent.log().contains("ERROR"), "{}", served.agent.log());
}

/// A device that is renamed, one that is moved to another network namespace, and one that comes
/// and goes while programs are attached: it is served while it has its name, and leaves nothing
/// behind.
#[test]
fn a_device_that_is_renamed_moved_or_flaps_leaves_nothing_behind() {
    need_lab!();
    let builder = Lab::builder().nodes(1).pods(0);
    let spec = |spec: AgentSpec| spec.arg("--devices").arg("eth0,odd.1").arg("--xdp").arg("native");
    let mut served = Served::with(builder, spec).unwrap();
    let node = served.node().unwrap().clone();
    let told = |served: &Served| served.agent.verb(&["show", "issues"]).unwrap().stdout;
    let absent = "there is no odd.1, which --devices names";
    wait::until(LIMIT, "the absent device to be told of", || told(&served).contains(absent))
        .unwrap();
    node.ip("link add odd.1 type veth peer name odd.2").unwrap();
    at_devices(&served, &["eth0", "odd.1"]);
    wait::until(LIMIT, "it to be told of no more", || !told(&served).contains(absent)).unwrap();
    node.ip("link set odd.1 name other").unwrap();
    at_devices(&served, &["eth0"]);
    node.ip("link set other name odd.1").unwrap();
    at_devices(&served, &["eth0", "odd.1"]);
    // A device takes its programs along.
    let client = served.lab.client();
    let elsewhere = client.netns.name();
    node.ip(&format!("link set odd.1 netns {elsewhere}")).unwrap();
    at_devices(&served, &["eth0"]);
    let left = client.output("bpftool", ["net", "show"]).unwrap();
    assert!(!left.contains("tc_") && !left.contains("xdp_ingress"), "{left}");
    client.ip("link del odd.1").unwrap();
    for _ in 0..40 {
        node.ip("link add odd.1 type veth peer name odd.2").unwrap();
        node.ip("link del odd.1").unwrap();
    }
    node.ip("link add odd.1 type veth peer name odd.2").unwrap();
    at_devices(&served, &["eth0", "odd.1"]);
    assert_eq!(pinned(&node), 6, "two devices, three programs each");
    assert_eq!(served.agent.readyz().unwrap().0, 200);
    let log = served.agent.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    served.agent.stop().unwrap();
    assert_eq!(served.agent.verb(&["unload"]).unwrap().code, Some(0));
    assert!(!node.bpf_root.exists());
}

/// Pins of attachments to devices.
fn pinned(node: &Node) -> usize {
    let pins = std::fs::read_dir(node.bpf_root.join(layout()).join("links")).unwrap();
    let names = pins.map(|pin| pin.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("tc_") || name.starts_with("xdp_")).count()
}

/// A program of somebody else at the same device runs on and is shown, with its turn.
#[test]
fn a_program_of_others_is_left_alone_and_shown() {
    need_lab!();
    let mut bed = Bed::start();
    // The other node's program is a stranger here.
    let path = bed.node(2).bpf_root.join(layout()).join("programs/tc_egress");
    let other = syscall::object_get(&path).unwrap();
    let id = syscall::describe_program(&other).unwrap().id;
    let index = bed.node(1).run(|| nix::net::if_::if_nametoindex("eth0")).unwrap().unwrap();
    let attach = || syscall::link_create_device(&other, index, load::TCX_INGRESS, false);
    let link = bed.node(1).run(attach).unwrap().unwrap();
    for _ in 0..2 {
        let rows = bed.agent(1).programs().unwrap();
        let turn = |ours| {
            let mut rows = rows.iter().filter(|row| row.device.is_some());
            let row = rows.find(|row| row.ours == ours && !row.program.contains("egress"));
            row.map(|row| (row.position, row.of))
        };
        let stranger = rows.iter().find(|row| !row.ours).unwrap();
        assert_eq!((stranger.id, stranger.program.as_str()), (id, "tc_egress (ingress)"));
        assert_eq!((stranger.position, stranger.of), (Some(2), Some(2)));
        assert_eq!(turn(true), Some((Some(1), Some(2))), "{rows:?}");
        bed.served.agent.kill().unwrap();
        let spec = bed.served.spec();
        bed.served.agent = Agent::start(bed.node(1), &spec).unwrap();
    }
    bed.served.agent.stop().unwrap();
    assert_eq!(bed.agent(1).verb(&["unload"]).unwrap().code, Some(0));
    let left = bed.node(1).run(|| syscall::attached_to_device(index, load::TCX_INGRESS)).unwrap();
    let left: Vec<_> = left.unwrap().into_iter().map(|one| one.program).collect();
    assert_eq!(left, [id], "a stranger is not detached");
    drop(link);
}

/// The rows of `show programs` that are at devices, once they are at exactly these.
pub(crate) fn at_devices(served: &Served, devices: &[&str]) -> Vec<ProgramRow> {
    let wanted: std::collections::BTreeSet<_> = devices.iter().copied().collect();
    wait::for_value(LIMIT, &format!("programs at {wanted:?}"), || {
        let mut rows = served.agent.programs()?;
        rows.retain(|row| row.device.is_some());
        let has: std::collections::BTreeSet<_> =
            rows.iter().filter_map(|row| row.device.as_deref()).collect();
        let classifiers = rows.iter().filter(|row| row.program.starts_with("tc_")).count();
        anyhow::ensure!(has == wanted && classifiers == 2 * wanted.len(), "{rows:?}");
        Ok(rows)
    })
    .unwrap()
}

pub(crate) fn layout() -> String {
    format!("v{}", lb_common::maps::LAYOUT_VERSION)
}

/// How long the agent may take to follow.
const LIMIT: Duration = Duration::from_secs(10);
