// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cluster in which scenarios play: a lab with a control plane, nodes whose proxies have
//! different settings, clients and servers on each.
//!
//! ```text
//! node-1  zone-a            pod-1 (client)  a1 b1 (servers)  host-1 (host processes: both)
//! node-2  zone-b            pod-2           a2 b2            host-2
//! node-3  no cluster CIDR   pod-3           a3               host-3       no zone label
//! node-4  masquerade all    pod-4           a4               host-4
//! node-5  node port CIDRs   pod-5           a5               host-5
//! outside (client)      world (answers for service addresses that nobody translates)
//! ```

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node as NodeObject;
use lab::{
    Lab, address,
    cluster::Cluster,
    driver::Driver,
    netns::{Batch, Netns},
    node::Node,
    place::Place,
    process::Process,
    server::ServeSpec,
    wire::Family,
};
use serde_json::{Value, json};

use crate::{
    address::{ranges_behind, second_address, third_address},
    topic::{Endpoint, Net},
};

/// The lab and everything in it that scenarios name.
#[derive(Debug)]
pub(crate) struct Bed {
    /// Where scenarios start, by name.
    pub(crate) clients: BTreeMap<String, Client>,
    /// Who can be an endpoint.
    pub(crate) servers: Servers,
    /// Processes that serve on nodes.
    processes: Vec<Process>,
    /// The control plane.
    pub(crate) cluster: Cluster,
    /// Last, so that it outlives what runs in it.
    pub(crate) lab: Lab,
}

/// A place where clients run.
#[derive(Debug)]
pub(crate) struct Client {
    /// The place.
    pub(crate) place: Place,
    /// Its node; that of nobody for the outside.
    pub(crate) node: String,
    /// The process that dials.
    pub(crate) driver: Driver,
}

/// Who can be an endpoint, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers(BTreeMap<String, Server>);

/// One of them.
#[derive(Clone, Debug)]
struct Server {
    place: Place,
    node: String,
}

impl Bed {
    /// Makes the lab, its pods and the control plane.
    pub(crate) fn make() -> Result<Self> {
        let lab = Lab::builder().nodes(NODES).pods(0).start()?;
        let mut servers = Servers::default();
        let mut clients = BTreeMap::new();
        let mut processes = Vec::new();
        let pods = lab.nodes().iter().flat_map(|node| {
            let second = (node.index <= 2).then_some("b");
            ["a", "pod-"].into_iter().chain(second).map(move |name| (node, name))
        });
        for (node, name) in pods {
            let pod = lab.add_pod(node, &format!("{name}{}", node.index))?;
            if name == "pod-" {
                let client = Client::start(&pod.name, &pod.place, &node.name)?;
                clients.insert(pod.name.clone(), client);
            } else {
                pod.serve(&POD_PORTS)?;
                clients.insert(pod.name.clone(), Client::start(&pod.name, &pod.place, &node.name)?);
                servers.add(&pod.name, &pod.place, node);
            }
        }
        for node in lab.nodes() {
            let name = format!("host-{}", node.index);
            let spec =
                ServeSpec { name: name.clone(), ports: vec![HOST_PORT], ..ServeSpec::default() };
            processes.push(node.serve(&spec)?);
            clients.insert(name.clone(), Client::start(&name, &node.place, &node.name)?);
            servers.add(&name, &node.place, node);
        }
        clients.insert("outside".to_owned(), Client::start("outside", lab.client(), "node-1")?);
        processes.push(wire(&lab)?);
        let cluster = Cluster::start(&lab)?;
        let bed = Self { clients, servers, processes, cluster, lab };
        bed.lab.nodes().iter().try_for_each(|node| bed.label_zone(node, zone_of(node)))?;
        Ok(bed)
    }

    /// Moves every node to another zone and back: each proxy evaluates everything again.
    pub(crate) fn stir(&self) -> Result<()> {
        for node in self.lab.nodes() {
            self.label_zone(node, Some("elsewhere"))?;
            self.label_zone(node, zone_of(node))?;
        }
        Ok(())
    }

    /// Writes a node's zone.
    fn label_zone(&self, node: &Node, zone: Option<&str>) -> Result<()> {
        let labels = json!({ "metadata": { "labels": { ZONE: zone } } });
        self.cluster.api().merge::<NodeObject>(None, &node.name, &labels).map(drop)
    }

    /// Starts a process on node-1 that listens on a port.
    pub(crate) fn listen(&mut self, port: u16) -> Result<()> {
        let spec =
            ServeSpec { name: "listener".to_owned(), ports: vec![port], ..ServeSpec::default() };
        self.processes.push(self.lab.node("node-1")?.serve(&spec)?);
        Ok(())
    }

    /// Gives a device of node-1 an address.
    pub(crate) fn add_to_node(&self, address: IpAddr) -> Result<()> {
        // Of scope host, or packets that are masqueraded would come from it.
        let length = if address.is_ipv4() { "32 scope host" } else { "128 nodad" };
        self.lab.node("node-1")?.ip(&format!("addr add {address}/{length} dev lo"))
    }

    /// Gives a node its third address of each family, or takes it away.
    pub(crate) fn third_address(&self, name: &str, is_there: bool) -> Result<()> {
        let node = self.lab.node(name)?;
        let (v4, v6) = third_address(node.index);
        if is_there {
            node.ip(&format!("addr add {v4}/24 dev eth0"))?;
            // Deprecated, as the second is.
            return node.ip(&format!("addr add {v6}/64 dev eth0 nodad preferred_lft 0"));
        }
        node.ip(&format!("addr del {v4}/24 dev eth0"))?;
        node.ip(&format!("addr del {v6}/64 dev eth0"))
    }

    /// The client of that name.
    pub(crate) fn client(&self, name: &str) -> Result<&Client> {
        self.clients.get(name).with_context(|| format!("no client is called {name}"))
    }

    /// What a server takes a client for, in the words of an outcome.
    pub(crate) fn sees(&self, client: &Client, seen: IpAddr) -> String {
        let family = if seen.is_ipv4() { Family::V4 } else { Family::V6 };
        let of_node = |node: &Node| {
            let (v4, v6) = second_address(node.index);
            let (third4, third6) = third_address(node.index);
            let gateway = address::pod_gateway4(node.index);
            let own = [node.place.v4, v4, third4, gateway].map(IpAddr::from);
            own.contains(&seen) || [node.place.v6, v6, third6].map(IpAddr::from).contains(&seen)
        };
        match self.lab.nodes().iter().find(|node| of_node(node)) {
            _ if client.place.address(family) == seen => "own".to_owned(),
            // A host process is its node.
            Some(node) if node.place.netns == client.place.netns => "own".to_owned(),
            Some(_) => "node".to_owned(),
            None => seen.to_string(),
        }
    }
}

impl Client {
    /// Starts the process that dials.
    fn start(name: &str, place: &Place, node: &str) -> Result<Self> {
        let driver = place.driver().with_context(|| format!("a driver for {name}"))?;
        Ok(Self { place: place.clone(), node: node.to_owned(), driver })
    }
}

impl Servers {
    /// One more.
    fn add(&mut self, name: &str, place: &Place, node: &Node) {
        let server = Server { place: place.clone(), node: node.name.clone() };
        self.0.insert(name.to_owned(), server);
    }

    /// The endpoint of a slice that lists a server.
    ///
    /// # Errors
    /// When there is no such server.
    pub(crate) fn listed(&self, endpoint: &Endpoint, net: Net) -> Result<Value> {
        let name = &endpoint.pod;
        let server = self.0.get(name).with_context(|| format!("no server is called {name}"))?;
        let node = endpoint.node.as_ref().unwrap_or(&server.node);
        let named = |names: &[String]| -> Vec<Value> {
            names.iter().map(|name| json!({ "name": name })).collect()
        };
        let mut conditions = json!({});
        let said = [
            ("ready", endpoint.ready),
            ("serving", endpoint.serving),
            ("terminating", endpoint.terminating),
        ];
        for (name, value) in said {
            if let (Some(value), Value::Object(conditions)) = (value, &mut conditions) {
                conditions.insert(name.to_owned(), value.into());
            }
        }
        let mut addresses = vec![server.place.address(net.family())];
        for name in &endpoint.more {
            let server = self.0.get(name).with_context(|| format!("no server is called {name}"))?;
            addresses.push(server.place.address(net.family()));
        }
        let mut listed = json!({
            "addresses": addresses,
            "conditions": conditions,
        });
        if let Value::Object(fields) = &mut listed {
            if !node.is_empty() {
                fields.insert("nodeName".to_owned(), json!(node));
            }
            let mut hints = serde_json::Map::new();
            for (key, names) in [("forZones", &endpoint.zones), ("forNodes", &endpoint.nodes)] {
                if !names.is_empty() {
                    hints.insert(key.to_owned(), named(names).into());
                }
            }
            if !hints.is_empty() {
                fields.insert("hints".to_owned(), hints.into());
            }
        }
        Ok(listed)
    }
}

/// The zone of a node at first.
fn zone_of(node: &Node) -> Option<&'static str> {
    (node.index != 3).then_some(node.zone)
}

/// Second addresses of nodes, the outsider's routes, no limit on how often somebody may be told
/// that a port is unreachable, and the world: who answers on the nodes' gateway for all service
/// addresses, when a packet gets there that nobody has translated.
fn wire(lab: &Lab) -> Result<Process> {
    let mut outsider = Batch::default();
    let mut gateway = Batch::default();
    for node in lab.nodes() {
        let (v4, v6) = second_address(node.index);
        node.ip(&format!("addr add {v4}/24 dev eth0"))?;
        // Deprecated: host processes have one IPv6 address to dial from, as they have one IPv4.
        node.ip(&format!("addr add {v6}/64 dev eth0 nodad preferred_lft 0"))?;
        let via = |range: &str| node.place.address(family_of(range)).to_string();
        for range in ranges_behind(node.index) {
            outsider.line(format!("route add {range} via {}", via(range)));
            gateway.line(format!("route add local {range} dev lo"));
        }
        let (pods4, pods6) = address::pod_ranges(node.index);
        for range in [pods4, pods6] {
            gateway.line(format!("route add {range} via {}", via(&range)));
        }
        unlimited(&node.netns)?;
    }
    let fabric = Netns::named(format!("{}-fabric", lab.id().prefix()));
    // A packet that a node did not translate is no reason to go around the node.
    lab.client().netns.set_sysctls(&[
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/eth0/accept_redirects", "0"),
        ("ipv6/conf/eth0/accept_redirects", "0"),
    ])?;
    // The world's answers come from addresses that are no interface's.
    fabric.set_sysctls(&[("ipv6/ip_nonlocal_bind", "1")])?;
    outsider.run_in(&lab.client().netns)?;
    gateway.run_in(&fabric)?;
    let world = Place { name: "world".to_owned(), netns: fabric, ..lab.client().clone() };
    world.serve(&ServeSpec::on(&WORLD_PORTS))
}

/// The family of a range.
fn family_of(range: &str) -> Family {
    if range.contains(':') { Family::V6 } else { Family::V4 }
}

/// Lets a namespace send every ICMP error that it has to send.
fn unlimited(netns: &Netns) -> Result<()> {
    netns.set_sysctls(&[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")])?;
    // Older kernels have one limit for the whole machine: a refusal may come late there.
    let own = [("ipv4/icmp_msgs_per_sec", "1000000"), ("ipv4/icmp_msgs_burst", "1000000")];
    drop(netns.set_sysctls(&own));
    Ok(())
}

/// Nodes, each with settings of its own: [`crate::column`].
pub(crate) const NODES: u8 = 5;
/// Ports that servers in pods listen on.
const POD_PORTS: [u16; 3] = [8080, 8081, 8082];
/// Ports on which the world answers.
const WORLD_PORTS: [u16; 2] = [80, 81];
/// Port that servers on nodes listen on.
const HOST_PORT: u16 = 8080;
/// The zone's label.
const ZONE: &str = "topology.kubernetes.io/zone";
