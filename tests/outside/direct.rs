// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Direct forwarding (SVC-12): packets go on unchanged to the node of their endpoint, so that a
//! connection outlives the node that it came through.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lab::{
    driver::Driver,
    manifests::Exposed,
    need_lab,
    pod::Pod,
    server::ServeSpec,
    wait,
    wire::{CrowdReport, CrowdSpec, Echo, Family, Kind, Sock},
};
use nix::sys::signal::Signal;

use crate::bed::{ALGORITHM, Bed, FORWARDING, Way};

/// `default/web` by Maglev over these pods, and direct; TCP leads to a port of theirs.
fn expose(bed: &Bed, pods: &[Pod], port: u16) -> Exposed {
    let mut exposed = bed.expose(pods, |spec| {
        for it in spec.ports.iter_mut().flatten().filter(|it| it.name.as_deref() == Some("tcp")) {
            it.target_port = Some(IntOrString::Int(port.into()));
        }
    });
    let annotations = [(ALGORITHM, "maglev"), (FORWARDING, "direct")];
    exposed.service.metadata.annotations =
        Some(annotations.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    bed.rewrite(&exposed);
    exposed
}

/// A line on a socket that is connected already, and its answer.
fn exchange(client: &Driver, sock: Sock, line: &str) -> Echo {
    client.send(sock, &format!("{line}\n")).unwrap();
    let (text, _) = client.recv_from(sock).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The client reaches pods of nodes 2 and 3 through node 1, which is cut off. All go on through
/// node 2, at the same pods, which see the client's own address throughout.
#[test]
fn svc_12_connections_and_datagrams_outlive_their_node() {
    need_lab!();
    let bed = Bed::of_three();
    let _exposed = expose(&bed, &bed.pods()[2..], ECHO);
    let mut held = Vec::new();
    for family in Family::BOTH {
        for (way, kind) in [
            (Way::Vip, Kind::Tcp),
            (Way::ExternalIp, Kind::Tcp),
            (Way::Vip, Kind::Udp),
            (Way::ExternalIp, Kind::Udp),
        ] {
            for _ in 0..SOCKETS {
                let sock = bed.client.open(kind, family).unwrap();
                bed.client.connect(sock, way.at(bed.node(1), family)).unwrap();
                let before = exchange(&bed.client, sock, "before");
                assert_eq!(before.client, bed.client.sock_name(sock).unwrap(), "{way:?} {kind:?}");
                held.push((sock, before));
            }
        }
    }
    let flows = held.len();
    let pods: std::collections::BTreeSet<_> = held.iter().map(|(_, it)| it.pod.clone()).collect();
    assert_eq!(pods.len(), 4, "both nodes' pods have some: {pods:?}");
    let shown = bed.agent(1).verb(&["show", "flows", "-o", "json"]).unwrap().stdout;
    assert_eq!(shown.matches("\"direct\":true").count(), flows);
    bed.node(1).place.ip("link set eth0 down").unwrap();
    bed.through(bed.node(2));
    for (sock, before) in held {
        let after = exchange(&bed.client, sock, "after");
        assert_eq!((after.pod, after.client), (before.pod, before.client));
        assert_eq!(after.text, "after");
    }
    let taken_over = bed.agent(2).counter("flow_taken_over").unwrap();
    println!("{flows} flows went on, {taken_over} of another node's pods' connections");
    assert!(taken_over > 0);
    let explained =
        bed.agent(2).verb(&["explain", &format!("{}/TCP", Way::Vip.at(bed.node(2), Family::V4))]);
    assert!(explained.unwrap().stdout.contains("(SVC-12)"));
}

/// A thousand connections through node 1 to pods of the other two. Endpoints join, drain, leave
/// and come back, and none breaks; then node 1 is cut off, and none breaks.
#[test]
fn svc_12_a_thousand_connections_outlive_changes_of_endpoints_and_their_node() {
    need_lab!();
    let bed = Bed::of_three();
    let pods = bed.pods();
    let spec = ServeSpec { crowd_ports: vec![CROWD], ..ServeSpec::default() };
    let serving = pods.iter().map(|pod| pod.place.serve(&spec).unwrap()).collect::<Vec<_>>();
    let mut web = expose(&bed, &pods[2..], CROWD);
    let at = |way: Way, family| way.at(bed.node(1), family);
    let to =
        Family::BOTH.map(|family| [at(Way::Vip, family), at(Way::ExternalIp, family)]).concat();
    let (crowd, opened) = bed.client.crowd(CrowdSpec { to, connections: CONNECTIONS }).unwrap();
    let whole = CrowdReport { answered: CONNECTIONS, ..CrowdReport::default() };
    assert_eq!(opened, whole);
    let changes: [fn(&mut Exposed, &[Pod]); 5] = [
        |web, pods| web.drain(&pods[2]).unwrap(),
        |web, pods| web.take_out(&pods[4]),
        |web, pods| web.take_out(&pods[2]),
        |web, pods| web.add(&pods[2]).unwrap(),
        |web, pods| web.add(&pods[4]).unwrap(),
    ];
    for (turn, change) in changes.into_iter().enumerate() {
        change(&mut web, &pods);
        bed.rewrite(&web);
        assert_eq!(bed.client.crowd_echo(crowd).unwrap(), whole, "after change {turn}");
    }
    bed.node(1).place.ip("link set eth0 down").unwrap();
    bed.through(bed.node(2));
    assert_eq!(bed.client.crowd_echo(crowd).unwrap(), whole, "through the other node");
    drop(serving);
}

/// Three nodes, each of which believes that another one has the endpoint. A packet goes round
/// until it has no more hops, which is counted; when they have learned better, it is served.
#[test]
fn svc_12_a_packet_that_goes_round_ends() {
    need_lab!();
    let mut bed = Bed::of_three();
    let pods = bed.pods();
    let mut web = expose(&bed, &pods[2..3], ECHO);
    bed.served.agent.process().signal(Signal::SIGSTOP).unwrap();
    for (node, leaves, joins) in [(2, 2, 4), (3, 4, 0)] {
        web.take_out(&pods[leaves]);
        web.add(&pods[joins]).unwrap();
        web.write().unwrap();
        let learn = node..=3;
        wait_for_backend(&bed, learn, &pods[joins]);
        if node == 2 {
            bed.second.process().signal(Signal::SIGSTOP).unwrap();
        }
    }
    let to = Way::Vip.at(bed.node(1), Family::V4);
    let counted =
        |name| [1, 2, 3].map(|it| bed.agent(it).counter(name).unwrap()).iter().sum::<u64>();
    let before = counted("flow_direct");
    bed.is_silent("UDP", to);
    wait::for_value(LIMIT, "the packet to end", || {
        anyhow::ensure!(counted("ttl_expired") == 1);
        Ok(())
    })
    .unwrap();
    assert_eq!(counted("flow_direct") - before, 63, "one for each hop of 64 but the last");
    bed.served.agent.process().signal(Signal::SIGCONT).unwrap();
    bed.second.process().signal(Signal::SIGCONT).unwrap();
    for number in [1, 2] {
        wait_for_backend(&bed, number..=number, &pods[0]);
    }
    for protocol in ["TCP", "UDP"] {
        assert_eq!(bed.ask(protocol, to).unwrap().pod, pods[0].name);
    }
}

/// Waits until nodes have this pod and no other.
fn wait_for_backend(bed: &Bed, nodes: std::ops::RangeInclusive<usize>, pod: &Pod) {
    let wanted = format!("{}:{ECHO}", pod.v4);
    for number in nodes {
        wait::for_value(LIMIT, &format!("node-{number} to have {wanted}"), || {
            let rows = bed.agent(number).backends()?;
            let active =
                rows.iter().filter(|row| row.state == "active" && !row.services.is_empty());
            let active: Vec<_> = active.filter(|row| !row.backend.starts_with('[')).collect();
            anyhow::ensure!(active.iter().all(|row| row.backend == wanted), "{active:?}");
            anyhow::ensure!(!active.is_empty(), "it has none");
            Ok(())
        })
        .unwrap();
    }
}

/// The pods' port for lines.
const ECHO: u16 = 8080;
/// And the one for a crowd.
const CROWD: u16 = 9001;
const CONNECTIONS: u32 = 1000;
/// Sockets of each family, frontend and protocol.
const SOCKETS: usize = 8;
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
