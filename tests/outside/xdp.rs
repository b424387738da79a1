// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames that are sent back in front of the stack.

use std::{process::Command, time::Duration};

use lab::{agent::AgentSpec, need_lab, netns::Netns, node::Node, wait, wire::Family};
use lb_agent::datapath::{device::Device, syscall};

use crate::{
    bed::{Bed, Way},
    devices::layout,
    reach, restart,
};

/// TRP-12, MSQ-04: with XDP in the drivers clients outside are served as without, and frames of
/// known flows to pods of the other node do not reach the stack.
#[test]
fn trp_12_xdp_serves_clients_outside_as_tc_does() {
    need_lab!();
    let bed = native();
    reach::reaches_every_pod(&bed);
    reach::carries_large_requests(&bed);
    assert_eq!(kind(&bed).as_deref(), Some("xdp native"));
}

/// A killed agent, one without XDP, and one with it again cost no connection; `unload` leaves
/// nothing at the device.
#[test]
fn xdp_comes_and_goes_and_costs_no_connection() {
    need_lab!();
    let mut bed = native();
    bed.expose(&bed.pods()[2..], |_| {});
    let with = bed.served.spec().arg("--xdp").arg("native");
    restart::survives(&mut bed, &with);
    assert_eq!(kind(&bed).as_deref(), Some("xdp native"));
    let without = bed.served.spec();
    restart::survives(&mut bed, &without);
    assert_eq!(kind(&bed), None);
    restart::survives(&mut bed, &with);
    assert_eq!(kind(&bed).as_deref(), Some("xdp native"));
    bed.served.agent.stop().unwrap();
    assert_eq!(bed.agent(1).verb(&["unload"]).unwrap().code, Some(0));
    assert_eq!(xdp(bed.node(1)), None);
}

/// Somebody else's XDP program stays, is shown, and the device is served by tc; `auto` leaves a
/// veth device alone.
#[test]
fn an_xdp_program_of_others_is_left_alone_and_shown() {
    need_lab!();
    let mut bed = native();
    let exposed = bed.expose(&bed.pods()[2..], |_| {});
    let path = bed.node(2).bpf_root.join(layout()).join("programs/xdp_ingress");
    let other = syscall::object_get(&path).unwrap();
    let id = syscall::describe_program(&other).unwrap().id;
    bed.served.agent.stop().unwrap();
    let auto = bed.served.spec().arg("--xdp").arg("auto");
    bed.served.agent = lab::agent::Agent::start(bed.node(1), &auto).unwrap();
    assert_eq!(xdp(bed.node(1)), None, "a veth device is left out");
    let shown = bed.agent(1).verb(&["show", "programs"]).unwrap().stdout;
    let row = shown.lines().find(|row| row.contains("xdp_ingress")).unwrap();
    assert!(
        row.contains("left out: what a veth device sends back") && row.contains("eth0"),
        "{row}"
    );
    let index = bed.node(1).run(|| nix::net::if_::if_nametoindex("eth0")).unwrap().unwrap();
    let attach = || syscall::link_create_xdp(&other, index);
    let link = bed.node(1).run(attach).unwrap().unwrap();
    bed.served.agent.stop().unwrap();
    let wanted = bed.served.spec().arg("--xdp").arg("native");
    bed.served.agent = lab::agent::Agent::start(bed.node(1), &wanted).unwrap();
    wait::until(Duration::from_secs(10), "the log to say so", || {
        bed.agent(1).log().contains("another XDP program is there")
    })
    .unwrap();
    let rows = bed.agent(1).programs().unwrap();
    let stranger = rows.iter().find(|row| !row.ours).unwrap();
    assert_eq!((stranger.id, stranger.kind.as_deref()), (id, Some("xdp native")));
    bed.rewrite(&exposed);
    for family in Family::BOTH {
        bed.ask("TCP", Way::NodePort.at(bed.node(1), family)).unwrap();
    }
    drop(link);
}

/// Two nodes with XDP in their devices' drivers. What a veth device sends back is lost unless
/// its other end has GRO.
fn native() -> Bed {
    let bed = Bed::with(|spec: AgentSpec| spec.arg("--xdp").arg("native"));
    bed.served.lab.nodes().iter().for_each(receive);
    bed
}

/// Turns GRO on at the fabric's end of a node's device.
fn receive(node: &Node) {
    let prefix = node.netns.name().strip_suffix(&node.name).unwrap();
    let fabric = Netns::named(format!("{prefix}fabric"));
    let mut ethtool = Command::new("ethtool");
    let ethtool = ethtool.args(["-K", &node.name, "gro", "on"]);
    assert!(fabric.run(|| ethtool.status()).unwrap().unwrap().success());
}

/// How the first node's XDP program is attached.
fn kind(bed: &Bed) -> Option<String> {
    let rows = bed.agent(1).programs().unwrap();
    rows.into_iter().find(|row| row.program == "xdp_ingress").and_then(|row| row.kind)
}

/// The XDP program at a node's `eth0`.
fn xdp(node: &Node) -> Option<u32> {
    let device = || Device::read(nix::net::if_::if_nametoindex("eth0")?);
    node.run(device).unwrap().unwrap().xdp.map(|(id, _)| id)
}
