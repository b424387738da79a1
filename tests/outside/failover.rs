// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Maglev (SVC-11): the outside client's packets come to another node than before, as when a
//! router takes a dead node out of its routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use lab::{
    driver::Driver,
    manifests::Exposed,
    need_lab,
    pod::Pod,
    wire::{AskSpec, Echo, Family, Kind, Sock},
};

use crate::bed::{ALGORITHM, Bed, Way};

/// `default/web` by Maglev over these pods.
fn expose(bed: &Bed, pods: &[Pod]) -> Exposed {
    let mut exposed = bed.expose(pods, |_| {});
    let annotation = (ALGORITHM.to_owned(), "maglev".to_owned());
    exposed.service.metadata.annotations = Some([annotation].into());
    bed.rewrite(&exposed);
    exposed
}

/// A datagram on a socket that is connected already, and its answer.
fn exchange(client: &Driver, sock: Sock) -> Echo {
    client.send(sock, "again\n").unwrap();
    let (text, _) = client.recv_from(sock).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Each client port has one pod, through whichever node and by whichever frontend it comes; all
/// pods are some's.
#[test]
fn svc_11_a_client_gets_the_same_pod_through_every_node() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    let _exposed = expose(&bed, &pods);
    let outside = bed.served.lab.client();
    for family in Family::BOTH {
        let mut chosen: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
        for (number, way) in [1, 2].into_iter().flat_map(|it| Way::ALL.map(|way| (it, way))) {
            bed.through(bed.node(number));
            for port in PORTS {
                let mut ask = AskSpec::udp(way.at(bed.node(number), family));
                ask.socket.bind = Some(outside.at(family, port));
                let pod = bed.client.ask(ask).unwrap().echo.pod;
                chosen.entry(port).or_default().insert(pod);
            }
        }
        assert!(chosen.values().all(|pods| pods.len() == 1), "{chosen:?}");
        assert_eq!(chosen.into_values().flatten().collect::<BTreeSet<_>>().len(), pods.len());
    }
}

/// A node is cut off in the middle: datagrams go on at the same pods, through the other node;
/// connections, whose pods know them by the dead node's address, are reset at once.
#[test]
fn svc_11_when_a_node_dies_datagrams_go_on_and_connections_are_reset() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    let _exposed = expose(&bed, &pods[2..]);
    let mut held = Vec::new();
    let mut connections = Vec::new();
    for family in Family::BOTH {
        let to = Way::Vip.at(bed.node(1), family);
        for _ in 0..SOCKETS {
            let sock = bed.client.open(Kind::Udp, family).unwrap();
            bed.client.connect(sock, to).unwrap();
            held.push((sock, exchange(&bed.client, sock)));
        }
        let sock = bed.client.open(Kind::Tcp, family).unwrap();
        bed.client.connect(sock, to).unwrap();
        let echo = exchange(&bed.client, sock);
        assert_eq!(echo.client.ip(), bed.node(1).address(family));
        connections.push(sock);
    }
    bed.node(1).place.ip("link set eth0 down").unwrap();
    bed.through(bed.node(2));
    for (sock, before) in held {
        let after = exchange(&bed.client, sock);
        assert_eq!(after.pod, before.pod);
        assert_ne!(after.client.ip(), before.client.ip(), "it came the other way");
    }
    for sock in connections {
        let began = Instant::now();
        bed.client.send(sock, "again\n").unwrap();
        let error = bed.client.recv_from(sock).unwrap_err();
        assert_eq!(error.name, "ECONNRESET");
        assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
    }
    assert!(bed.agent(2).counter("flow_taken_over").unwrap() >= 2);
}

/// Client ports.
const PORTS: std::ops::Range<u16> = 41_000..41_024;
/// Sockets of each family that are open when the node dies.
const SOCKETS: usize = 16;
