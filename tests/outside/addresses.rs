// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Nodes with several addresses, and an address that several devices have.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lab::{
    driver::Driver,
    need_lab, objects, wait,
    wire::{Echo, Family, Kind, Sock},
};

use crate::bed::{Bed, NODE_PORT, PROTOCOLS, Way};

/// MSQ-04, NP-03: of several addresses the Node's first one is what clients outside get to pods of
/// other nodes with. When another becomes the first, open flows keep theirs while the node has it,
/// and new ones get the new one; when it is gone, that is told, and what began with another goes
/// on.
#[test]
fn msq_04_the_nodes_first_address_is_followed_and_open_flows_keep_theirs() {
    need_lab!();
    let bed = Bed::start();
    bed.expose(&bed.pods()[2..], |_| {});
    let node = bed.node(1);
    for (family, (address, bits)) in Family::BOTH.into_iter().zip(MORE) {
        let more: IpAddr = address.parse().unwrap();
        let old = node.address(family);
        let to = Way::Vip.at(node, family);
        let ask = |protocol| bed.ask(protocol, to).unwrap().client.ip();
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        node.ip(&format!("addr add {address}/{bits} dev eth0{nodad}")).unwrap();
        assert_eq!(PROTOCOLS.map(ask), [old, old], "the Node does not say so");
        let before = opened(&bed.client, family, to);
        assert_eq!(exchange(&bed.client, before).client.ip(), old);
        name(&bed, &[more, old]);
        wait::until(LIMIT, "the new address", || PROTOCOLS.map(ask) == [more, more]).unwrap();
        bed.ask("TCP", SocketAddr::new(more, NODE_PORT)).unwrap();
        assert_eq!(exchange(&bed.client, before).client.ip(), old, "what is open goes on");
        let after = opened(&bed.client, family, to);
        assert_eq!(exchange(&bed.client, after).client.ip(), more);
        // The Node still names it.
        node.ip(&format!("addr del {address}/{bits} dev eth0")).unwrap();
        let line = format!("no device here has {more}, which is this node's own");
        let is_told = || bed.agent(1).verb(&["show", "issues"]).unwrap().stdout.contains(&line);
        wait::until(LIMIT, "show issues to say so", is_told).unwrap();
        name(&bed, &[old]);
        wait::until(LIMIT, "the old address", || PROTOCOLS.map(ask) == [old, old]).unwrap();
        assert_eq!(exchange(&bed.client, before).client.ip(), old, "what did not leave by it");
        wait::until(LIMIT, "nothing to be told", || !is_told()).unwrap();
    }
}

/// One address at two devices: clients are served through both, and answers go where the route to
/// them says.
#[test]
fn one_address_at_two_devices_serves_clients_of_both() {
    need_lab!();
    let bed = Bed::with(|spec| spec.arg("--devices").arg("eth0,twin"));
    let exposed = bed.expose(&bed.pods(), |_| {});
    let (node, client) = (bed.node(1), bed.served.lab.client());
    let own = node.address(Family::V4);
    let through = client.netns.name();
    node.ip(&format!("link add twin type veth peer name twin netns {through}")).unwrap();
    node.ip(&format!("addr add {own}/32 dev twin")).unwrap();
    node.ip("link set twin up").unwrap();
    client.ip("link set twin up").unwrap();
    client.ip("addr add 10.77.0.2/32 dev twin").unwrap();
    wait::until(LIMIT, "programs at the second device", || {
        let rows = bed.agent(1).programs().unwrap();
        rows.iter().filter(|row| row.device.as_deref() == Some("twin")).count() == 2
    })
    .unwrap();
    let to = Way::NodePort.at(node, Family::V4);
    let pods = || {
        let echoes = (0..24).flat_map(|_| PROTOCOLS).map(|it| bed.ask(it, to).unwrap());
        echoes.map(|echo| echo.pod).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(pods(), exposed.backings.len(), "through the first device");
    node.ip("route add 10.77.0.2/32 dev twin").unwrap();
    client.ip(&format!("route add {own}/32 dev twin src 10.77.0.2")).unwrap();
    assert_eq!(pods(), exposed.backings.len(), "through the second device");
    node.ip("link del twin").unwrap();
    assert_eq!(pods(), exposed.backings.len(), "through the first one again");
}

/// Has the first node's object name these addresses of their family.
fn name(bed: &Bed, addresses: &[IpAddr]) {
    let mut nodes: Vec<_> = bed.served.lab.nodes().iter().map(objects::node).collect();
    let status = nodes[0].status.as_mut().unwrap();
    let all = status.addresses.as_mut().unwrap();
    let mut template = all[0].clone();
    all.retain(|it| {
        let address = it.address.parse::<IpAddr>();
        address.map_or(true, |it| it.is_ipv6() != addresses[0].is_ipv6())
    });
    for address in addresses.iter().rev() {
        template.address = address.to_string();
        all.insert(0, template.clone());
    }
    bed.served.manifests.write("nodes", &nodes).unwrap();
}

/// A datagram socket that is connected.
fn opened(client: &Driver, family: Family, to: SocketAddr) -> Sock {
    let sock = client.open(Kind::Udp, family).unwrap();
    client.connect(sock, to).unwrap();
    sock
}

/// A datagram and its answer.
fn exchange(client: &Driver, sock: Sock) -> Echo {
    client.send(sock, "again\n").unwrap();
    echo(&client.recv_from(sock).unwrap().0)
}

fn echo(text: &str) -> Echo {
    serde_json::from_str(text).unwrap()
}

/// Further addresses of the first node, in the network of the fabric.
const MORE: [(&str, u8); 2] = [("192.168.50.77", 24), ("fd00:50::77", 64)];
/// How long an agent may take to follow.
const LIMIT: Duration = Duration::from_secs(10);
