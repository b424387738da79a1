// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Filters of the clsact qdisc, as on kernels without tcx: all that links do.

use lab::{
    agent::AgentSpec,
    need_lab,
    node::Node,
    shown::ProgramRow,
    wire::{AskSpec, Family},
};
use lb_agent::datapath::{
    filters::{Direction, Filters},
    syscall,
};

use crate::{
    bed::{Bed, Way},
    devices::layout,
    reach, restart,
};

/// TRP-12, MSQ-04: clients outside are served as by links.
#[test]
fn trp_12_filters_serve_clients_outside() {
    need_lab!();
    let bed = Bed::with(without_tcx);
    reach::reaches_every_pod(&bed);
    reach::carries_large_requests(&bed);
    assert_eq!(kinds(&bed), ["clsact", "clsact"]);
}

/// An agent that is killed leaves its filters; the next one takes them over, or puts links in
/// their place, and then filters in the links' place: no connection breaks.
#[test]
fn filters_outlive_the_agent_and_give_way_to_links_and_back() {
    need_lab!();
    let mut bed = Bed::with(without_tcx);
    bed.expose(&bed.pods(), |_| {});
    let before = bed.agent(1).programs().unwrap();
    let spec = without_tcx(bed.served.spec());
    restart::survives(&mut bed, &spec);
    assert_eq!(bed.agent(1).programs().unwrap(), before, "nothing was attached anew");
    let tcx = bed.served.spec();
    restart::survives(&mut bed, &tcx);
    assert_eq!(kinds(&bed), ["tcx", "tcx"]);
    assert!(filters(bed.node(1), Direction::Ingress).is_empty());
    restart::survives(&mut bed, &spec);
    assert_eq!(kinds(&bed), ["clsact", "clsact"]);
    let index = bed.node(1).run(|| nix::net::if_::if_nametoindex("eth0")).unwrap().unwrap();
    let links = bed.node(1).run(|| syscall::attached_to_device(index, 46)).unwrap().unwrap();
    assert_eq!(links, [], "no packet meets two of our programs");
}

/// A filter of somebody else runs on, and is shown with its turn: before ours on the way out,
/// after it on the way in. `unload` leaves it and its qdisc; a qdisc of ours goes.
#[test]
fn filters_of_others_are_left_alone_and_shown() {
    need_lab!();
    let mut bed = Bed::with(without_tcx);
    let path = bed.node(2).bpf_root.join(layout()).join("programs/tc_egress");
    let other = syscall::object_get(&path).unwrap();
    let id = syscall::describe_program(&other).unwrap().id;
    let pin = bed.node(2).bpf_root.join("other");
    syscall::object_pin(&other, &pin).unwrap();
    let node = bed.node(1);
    // The kernel shows filters of kind u32 in both directions where their priorities are equal.
    for (way, priority) in [("ingress", 50_000), ("egress", 50_001)] {
        let pinned = pin.to_str().unwrap();
        let filter = ["filter", "add", "dev", "eth0", way, "bpf", "da", "pinned", pinned];
        node.output("tc", filter).unwrap();
        let words =
            format!("filter add dev eth0 {way} pref {priority} u32 match u32 0 0 classid 1:1");
        node.output("tc", words.split(' ')).unwrap();
    }
    let rows = bed.agent(1).programs().unwrap();
    let turns = |way: &str| -> Vec<_> {
        let is_it = |row: &&ProgramRow| {
            if row.ours {
                row.device.is_some() && row.program == format!("tc_{way}")
            } else {
                row.program.ends_with(&format!("({way})"))
            }
        };
        let turn = |row: &ProgramRow| (row.position.unwrap(), row.of.unwrap(), row.ours, row.id);
        let mut turns: Vec<_> = rows.iter().filter(is_it).map(turn).collect();
        turns.sort_unstable();
        turns
    };
    let own = |name: &str| rows.iter().find(|row| row.program == name).unwrap().id;
    let ingress = [(1, 3, true, own("tc_ingress")), (2, 3, false, id), (3, 3, false, 0)];
    assert_eq!(turns("ingress"), ingress, "{rows:?}");
    let egress = [(1, 3, false, 0), (2, 3, false, id), (3, 3, true, own("tc_egress"))];
    assert_eq!(turns("egress"), egress, "{rows:?}");
    bed.served.agent.stop().unwrap();
    bed.second.stop().unwrap();
    for number in [1, 2] {
        assert_eq!(bed.agent(number).verb(&["unload"]).unwrap().code, Some(0));
    }
    assert_eq!(filters(bed.node(1), Direction::Ingress).len(), 2, "strangers stay");
    let qdiscs = |node: &Node| node.output("tc", ["qdisc", "show", "dev", "eth0"]).unwrap();
    assert!(qdiscs(bed.node(1)).contains("clsact"));
    assert!(!qdiscs(bed.node(2)).contains("clsact"), "a qdisc of ours is left");
    std::fs::remove_file(pin).ok();
}

/// A device that is let go loses our filters, and its qdisc if it was ours; one that had a
/// qdisc before keeps it.
#[test]
fn a_qdisc_that_was_there_before_is_left() {
    need_lab!();
    let bed = Bed::with(without_tcx);
    bed.expose(&bed.pods(), |_| {});
    let node = bed.node(1);
    node.ip("link add late type veth peer name later").unwrap();
    node.output("tc", ["qdisc", "add", "dev", "late", "clsact"]).unwrap();
    let Bed { mut served, client, second, .. } = bed;
    let spec = without_tcx(served.spec()).arg("--devices").arg("late");
    served.agent.stop().unwrap();
    served.agent = lab::agent::Agent::start(served.node().unwrap(), &spec).unwrap();
    crate::devices::at_devices(&served, &["late"]);
    let node = served.node().unwrap().clone();
    let node = &node;
    assert!(filters(node, Direction::Ingress).is_empty(), "eth0 is let go");
    let qdiscs = |name| node.output("tc", ["qdisc", "show", "dev", name]).unwrap();
    assert!(!qdiscs("eth0").contains("clsact"), "ours");
    served.agent.stop().unwrap();
    assert_eq!(served.agent.verb(&["unload"]).unwrap().code, Some(0));
    assert!(qdiscs("late").contains("clsact"), "not ours");
    let to = Way::NodePort.at(node, Family::V4);
    assert!(client.ask(AskSpec::tcp(to)).is_err(), "nothing serves any more");
    drop(second);
}

fn without_tcx(spec: AgentSpec) -> AgentSpec {
    spec.arg("--no-tcx")
}

/// How the first node's programs are attached to devices.
fn kinds(bed: &Bed) -> Vec<String> {
    let rows = bed.agent(1).programs().unwrap().into_iter();
    rows.filter(|row| row.device.is_some()).filter_map(|row| row.kind).collect()
}

/// The programs of the filters at a node's `eth0`.
fn filters(node: &Node, direction: Direction) -> Vec<u32> {
    let all = || -> std::io::Result<_> {
        let index = nix::net::if_::if_nametoindex("eth0")?;
        Filters::open()?.all(index, direction)
    };
    let all = node.run(all).unwrap().unwrap();
    all.into_iter().map(|filter| filter.program).collect()
}
