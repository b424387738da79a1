// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gigabytes through one flow, and tens of thousands of flows at a time.

use std::{
    env,
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::ServiceSpec, apimachinery::pkg::util::intstr::IntOrString};
use lab::{
    manifests::Exposed,
    need_lab,
    place::bounded_output,
    pod::Pod,
    server::ServeSpec,
    wire::{CrowdReport, CrowdSpec, Family},
};

use crate::bed::{Bed, Way};

/// A stream through a NodePort arrives as it was sent and comes back so, every byte compared,
/// from a pod of the node and from one of the other node; in segments larger than a packet.
/// `LAB_STREAM_MIB` says how much in each direction, 10240 for the whole story (with
/// `LAB_PATIENCE=8`): without optimisation, on two processors that a dozen builds wanted too, up
/// and down took 90 and 134 s to a pod of the node, 67 and 63 s to one of the other node.
#[test]
fn gigabytes_through_a_node_port_arrive_as_they_were_sent() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    let blocks = env::var("LAB_STREAM_MIB").unwrap_or_else(|_| "512".to_owned());
    let spec = ServeSpec { bulk_ports: vec![BULK], ..ServeSpec::default() };
    let serving = [&pods[0], &pods[2]].map(|pod| pod.place.serve(&spec).unwrap());
    for (pod, family) in [(&pods[0], Family::V4), (&pods[2], Family::V6)] {
        bed.expose(std::slice::from_ref(pod), |spec| target(spec, BULK));
        let to = Way::NodePort.at(bed.node(1), family);
        let mut command = bed.served.lab.client().inside("pour").unwrap();
        command.args([to.to_string(), blocks.clone()]);
        let (code, said, error) = bounded_output(command, STREAM_LIMIT).unwrap();
        assert_eq!(code, Some(0), "{} by {to}: {error}", pod.name);
        println!("{} by {to}: {}", pod.name, said.trim());
    }
    drop(serving);
}

/// 20 000 connections from outside, to pods of both nodes and by both families, outlive every
/// change of their Service's endpoints: pods that join, drain, leave and come back.
#[test]
fn twenty_thousand_flows_outlive_changes_of_endpoints() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    let spec = ServeSpec { crowd_ports: vec![CROWD], ..ServeSpec::default() };
    let serving = pods.iter().map(|pod| pod.place.serve(&spec).unwrap()).collect::<Vec<_>>();
    let mut web = bed.expose(&pods, |spec| target(spec, CROWD));
    let [v4, v6] = Family::BOTH.map(|family| Way::NodePort.at(bed.node(1), family));
    let vip = Way::Vip.at(bed.node(1), Family::V4);
    let began = Instant::now();
    let spec = CrowdSpec { to: vec![v4, v6, vip], connections: HALF };
    // A process has not enough descriptors.
    let others = bed.served.lab.client().driver().unwrap();
    let crowds = [&bed.client, &others].map(|client| {
        let (crowd, opened) = client.crowd(spec.clone()).unwrap();
        assert_eq!(opened, whole(), "opened within {:.1?}", began.elapsed());
        (client, crowd)
    });
    let since = Instant::now();
    println!("{} connections opened in {:.1?}", 2 * HALF, began.elapsed());
    let changes: [fn(&mut Exposed, &[Pod]); 6] = [
        |web, pods| web.drain(&pods[0]).unwrap(),
        |web, pods| web.take_out(&pods[2]),
        |web, pods| web.take_out(&pods[0]),
        |web, pods| web.add(&pods[2]).unwrap(),
        |web, pods| web.take_out(&pods[1]),
        |web, pods| web.add(&pods[0]).unwrap(),
    ];
    for (turn, change) in changes.into_iter().enumerate() {
        change(&mut web, &pods);
        bed.rewrite(&web);
        for (client, crowd) in crowds {
            assert_eq!(client.crowd_echo(crowd).unwrap(), whole(), "after change {turn}");
        }
    }
    println!("6 changes with an exchange on each of them in {:.1?}", since.elapsed());
    drop(serving);
}

/// Has a Service's TCP port lead to another port of its pods.
fn target(spec: &mut ServiceSpec, port: u16) {
    for it in spec.ports.iter_mut().flatten().filter(|it| it.name.as_deref() == Some("tcp")) {
        it.target_port = Some(IntOrString::Int(port.into()));
    }
}

/// Every connection of one process has answered.
fn whole() -> CrowdReport {
    CrowdReport { answered: HALF, ..CrowdReport::default() }
}

/// The pods' port for streams.
const BULK: u16 = 9000;
/// And the one for a crowd.
const CROWD: u16 = 9001;
/// Connections of each of two processes.
const HALF: u32 = 10_000;
/// Longest time for one stream.
const STREAM_LIMIT: Duration = Duration::from_mins(2);
