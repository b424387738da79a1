// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A router between the client and the nodes, and all that a wire does to packets on the way.

use std::net::SocketAddr;

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::util::intstr::IntOrString};
use lab::{
    address, need_lab,
    netns::{Batch, Netns},
    node::Node,
    pod::Pod,
    process::Process,
    server::ServeSpec,
    wire::Family,
};

use crate::{
    association,
    bed::{Bed, NODE_PORT, Way},
    big, narrow, offloads, trace, xdp,
};

/// A bed whose client is a router away from the nodes: the bridge's namespace.
pub(crate) struct Road {
    pub(crate) bed: Bed,
    /// Streams on [`BULK`], in a pod of the first node and one of the second.
    _serving: [Process; 2],
}

/// TRP-12, PRT-01: datagrams of 9000 bytes, whose pieces come in any order; links that are
/// narrower than their neighbours; packets at the end of their hops; SCTP; offloads and none.
#[test]
fn what_a_wire_does_to_packets() {
    need_lab!();
    Road::start(Bed::start()).travel();
}

/// The same with XDP.
#[test]
fn what_a_wire_does_to_packets_with_xdp() {
    need_lab!();
    Road::start(xdp::native()).travel();
}

impl Road {
    fn start(bed: Bed) -> Self {
        let pods = bed.pods();
        let spec = ServeSpec { bulk_ports: vec![BULK], ..ServeSpec::default() };
        let serving = [&pods[0], &pods[2]].map(|pod| pod.place.serve(&spec).unwrap());
        let road = Self { bed, _serving: serving };
        road.lead_by_the_router();
        road
    }

    /// All that there is to see, to a pod of the node that the client came through, and to one
    /// of the other.
    fn travel(&self) {
        let pods = self.bed.pods();
        for pod in [&pods[0], &pods[2]] {
            self.bed.expose(std::slice::from_ref(pod), all_protocols);
            offloads::echo_all(self, pod);
            big::datagrams_come_whole(self, pod);
            association::is_carried(self, pod);
            trace::hops_are_told(self, pod);
            offloads::make_no_difference(self, pod);
            narrow::links_are_found_out(self, pod);
        }
    }

    /// The client's packets to the first node and to external addresses, and those back.
    fn lead_by_the_router(&self) {
        let client = self.bed.served.lab.client();
        let node = self.bed.node(1);
        // Nobody shall be told of the shorter way that there is.
        let quiet =
            &[("ipv6/conf/eth0/accept_redirects", "0"), ("ipv4/conf/eth0/accept_redirects", "0")];
        client.netns.set_sysctls(quiet).unwrap();
        node.netns.set_sysctls(quiet).unwrap();
        let silent =
            &[("ipv4/conf/all/send_redirects", "0"), ("ipv4/conf/br0/send_redirects", "0")];
        self.router().set_sysctls(silent).unwrap();
        for family in Family::BOTH {
            let gateway = match family {
                Family::V4 => address::GATEWAY.0.to_string(),
                Family::V6 => address::GATEWAY.1.to_string(),
            };
            let vip = Way::Vip.at(node, family).ip();
            for to in [node.address(family), vip] {
                client.ip(&format!("route replace {to} via {gateway}")).unwrap();
            }
            let back = format!("route replace {} via {gateway}", client.address(family));
            node.ip(&back).unwrap();
            let on = format!("route replace {vip} via {}", node.address(family));
            Batch::default().line(on).run_in(&self.router()).unwrap();
        }
    }

    /// The bridge's namespace, which forwards.
    pub(crate) fn router(&self) -> Netns {
        fabric(self.bed.node(1))
    }

    /// Both families, dialled by the NodePort and the VIP.
    pub(crate) fn entries(&self) -> Vec<(Family, SocketAddr)> {
        let node = self.bed.node(1);
        let ways = [Way::NodePort, Way::Vip].into_iter();
        ways.flat_map(|way| Family::BOTH.map(|family| (family, way.at(node, family)))).collect()
    }

    /// One entry of each family.
    pub(crate) fn few_entries(&self) -> [(Family, SocketAddr); 2] {
        let node = self.bed.node(1);
        [
            (Family::V4, Way::NodePort.at(node, Family::V4)),
            (Family::V6, Way::Vip.at(node, Family::V6)),
        ]
    }

    /// Who a pod sees as its client: itself, or the first node.
    pub(crate) fn seen_by(&self, pod: &Pod, family: Family) -> std::net::IpAddr {
        let lab = &self.bed.served.lab;
        if is_local(pod) { lab.client().address(family) } else { self.bed.node(1).address(family) }
    }
}

/// Whether a pod is of the node that the client comes through.
pub(crate) fn is_local(pod: &Pod) -> bool {
    pod.node == "node-1"
}

/// The namespace of the bridge that a node is at.
pub(crate) fn fabric(node: &Node) -> Netns {
    let prefix = node.netns.name().strip_suffix(&node.name).unwrap();
    Netns::named(format!("{prefix}fabric"))
}

/// TCP to [`BULK`], UDP to [`DATAGRAMS`] and SCTP to [`ASSOCIATIONS`].
fn all_protocols(spec: &mut core::ServiceSpec) {
    let ports = spec.ports.as_mut().unwrap();
    for port in &mut *ports {
        let target = if port.protocol.as_deref() == Some("UDP") { DATAGRAMS } else { BULK };
        port.target_port = Some(IntOrString::Int(target.into()));
    }
    ports.push(core::ServicePort {
        name: Some("sctp".to_owned()),
        protocol: Some("SCTP".to_owned()),
        port: 80,
        node_port: Some(NODE_PORT.into()),
        target_port: Some(IntOrString::Int(ASSOCIATIONS.into())),
        ..core::ServicePort::default()
    });
}

/// The pods' ports: one for streams, one for datagrams, one for SCTP.
pub(crate) const BULK: u16 = 9000;
pub(crate) const DATAGRAMS: u16 = 9002;
pub(crate) const ASSOCIATIONS: u16 = 9132;
