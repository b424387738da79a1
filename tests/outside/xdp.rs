// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames that are sent back in front of the stack.

use std::time::Duration;

use aya::{
    Ebpf, EbpfLoader,
    programs::{Xdp, xdp::XdpMode},
};
use lab::{agent::AgentSpec, need_lab, node::Node, place, wait, wire::Family};
use lb_agent::datapath::{device::Device, maps::SHAPES, syscall};

use crate::{
    bed::{Bed, Way},
    devices::layout,
    policy, ranges, reach, refusal, restart, road,
};

/// TRP-12, TRP-13, NOEP-01, NOEP-03, LB-06, MSQ-04: with XDP in the drivers clients outside are
/// served, refused and left without an answer as without, and frames of known flows to pods of
/// the other node are sent back in front of the stack.
#[test]
fn trp_12_xdp_serves_clients_outside_as_tc_does() {
    need_lab!();
    let bed = native();
    reach::reaches_every_pod(&bed);
    reach::carries_large_requests(&bed);
    policy::keeps_to_policy_local(&bed);
    bed.through(bed.node(1));
    ranges::keeps_to_ranges(&bed);
    refusal::refuses_at_once(&bed);
    assert_eq!(kind(&bed).as_deref(), Some("xdp native"));
    assert!(sent_back(bed.node(1)) > 100, "XDP has had a part in it");
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

/// Two nodes with XDP in their devices' drivers. The client and the pods sum their packets
/// themselves, as what comes from other machines is summed: what a veth device leaves to the
/// next one goes on to the classifier.
pub(crate) fn native() -> Bed {
    let mut bed = Bed::with(|spec: AgentSpec| spec.arg("--xdp").arg("native"));
    bed.far_ends = Some(far_ends(&bed));
    let pods = bed.pods();
    let ends = pods.iter().map(|pod| &pod.place);
    for place in ends.chain([bed.served.lab.client()]) {
        place.output("ethtool", ["-K", "eth0", "tx", "off"]).unwrap();
    }
    bed
}

/// Frames that a node's XDP program has sent back by its device.
fn sent_back(node: &Node) -> u64 {
    let shown = node.output("ethtool", ["-S", "eth0"]).unwrap();
    let row = |line: &str| line.trim().strip_prefix("rx_queue_0_xdp_tx: ")?.parse().ok();
    shown.lines().find_map(row).unwrap()
}

/// A program that lets all pass, at the fabric's ends of the nodes' devices, for as long as
/// this is kept: without one what a veth device sends back waits for the next packet that the
/// stack sends.
fn far_ends(bed: &Bed) -> Ebpf {
    let object = place::binary("../bpf/bpfel-unknown-none/release/probe", "LB_PROBE").unwrap();
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    let maps = bed.node(1).bpf_root.join(layout()).join("maps");
    for shape in SHAPES {
        loader.map_pin_path(shape.name, maps.join(shape.name));
    }
    let mut ebpf = loader.load_file(object).unwrap();
    let program: &mut Xdp = ebpf.program_mut("probe_pass").unwrap().try_into().unwrap();
    program.load().unwrap();
    for node in bed.served.lab.nodes() {
        let attach = || program.attach(&node.name, XdpMode::Driver);
        road::fabric(node).run(attach).unwrap().unwrap();
    }
    ebpf
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
