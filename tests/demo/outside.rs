// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `--outside`: someone outside the cluster asks in every way, and one flow on each hop.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab,
    agent::Agent,
    node::Node,
    served::{Served, plain},
    sniff::{Sighting, Sniffer},
    wait,
    wire::{Echo, Family},
};
use serde_json::json;

use crate::screen::Screen;

/// Two nodes with an agent each, and a Service that clients outside may dial.
struct Outside {
    second: Agent,
    served: Served,
}

/// All of it.
///
/// # Errors
/// When the lab or an agent does not start.
pub(crate) fn show(screen: &mut Screen) -> Result<()> {
    let outside = Outside::start()?;
    for policy in ["Cluster", "Local"] {
        outside.expose(policy)?;
        screen.step(&format!("externalTrafficPolicy: {policy}"));
        let outcome = outside.ask_all(screen, policy);
        screen.verdict("a client outside is served by either node, in every way", &outcome);
        for (number, way, family) in [
            (1, "NodePort", Family::V4),
            (2, "VIP", Family::V6),
            (1, "externalIP", Family::V6),
            (2, "NodePort", Family::V4),
        ] {
            let node = outside.served.lab.node(&format!("node-{number}"))?;
            let dialled = outside.ways(node, family)?.into_iter().find(|(name, _)| *name == way);
            let (_, to) = dialled.context("the way is one of the three")?;
            screen.step(&format!("{policy}: one flow on each hop, {way} {to} by {}", node.name));
            let outcome = outside.trace(screen, node, to, policy == "Cluster");
            screen.verdict("what each hop sees of it is what the server saw", &outcome);
        }
    }
    Ok(())
}

impl Outside {
    fn start() -> Result<Self> {
        let served = Served::with(Lab::builder(), |spec| spec)?;
        let second = Agent::start(served.lab.node("node-2")?, &served.spec())?;
        Ok(Self { second, served })
    }

    /// Writes the Service and waits until both nodes answer.
    fn expose(&self, policy: &str) -> Result<()> {
        let mut service = plain("web", 10);
        let spec = service.spec.as_mut().context("a Service has a spec")?;
        spec.type_ = Some("LoadBalancer".to_owned());
        spec.external_traffic_policy = Some(policy.to_owned());
        spec.external_ips = Some(EXTERNAL.map(str::to_owned).to_vec());
        spec.ports.iter_mut().flatten().for_each(|port| port.node_port = Some(NODE_PORT.into()));
        let ingress = VIP.map(|ip| json!({ "ip": ip }));
        service.status = serde_json::from_value(json!({ "loadBalancer": { "ingress": ingress } }))?;
        let lab = &self.served.lab;
        self.served.manifests.expose(lab, service, &lab.pods())?;
        for node in lab.nodes() {
            let agent = if node.index == 1 { &self.served.agent } else { &self.second };
            wait::for_value(LIMIT, "both nodes to have the Service", || {
                let rows = agent.services()?;
                let has = rows.iter().any(|row| {
                    row.kind == "NodePort" && row.outside == if policy == "Local" { 2 } else { 4 }
                });
                ensure!(has, "{rows:?}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Every way, family and node.
    fn ask_all(&self, screen: &Screen, policy: &str) -> Result<()> {
        for (node, family) in
            self.served.lab.nodes().iter().flat_map(|node| Family::BOTH.map(|it| (node, it)))
        {
            for (way, to) in self.ways(node, family)? {
                let echo = self.curl(to)?;
                let seen = echo.client.ip();
                screen.say(&format!(
                    "curl http://{to}/  {way} by {}: {} saw {seen}",
                    node.name, echo.pod
                ));
                let own = self.served.lab.client().address(family);
                let is_here = self.served.lab.pod(&echo.pod)?.node == node.name;
                ensure!(is_here || policy == "Cluster", "{} is not of {}", echo.pod, node.name);
                let expected = if is_here { own } else { node.address(family) };
                ensure!(seen == expected, "{} saw {seen}, not {expected}", echo.pod);
            }
        }
        Ok(())
    }

    /// What the client dials, with the way there made to go through `node`.
    fn ways(&self, node: &Node, family: Family) -> Result<[(&'static str, SocketAddr); 3]> {
        let pick = |pair: [&str; 2]| -> Result<IpAddr> {
            let [v4, v6] = pair;
            Ok(if family == Family::V4 { v4 } else { v6 }.parse()?)
        };
        let (external, vip) = (pick(EXTERNAL)?, pick(VIP)?);
        for ip in [external, vip] {
            let line = format!("route replace {ip} via {}", node.address(family));
            self.served.lab.client().ip(&line)?;
        }
        Ok([
            ("NodePort", node.at(family, NODE_PORT)),
            ("externalIP", SocketAddr::new(external, 80)),
            ("VIP", SocketAddr::new(vip, 80)),
        ])
    }

    /// Asks with the real curl, as someone outside.
    fn curl(&self, to: SocketAddr) -> Result<Echo> {
        let url = format!("http://{to}/");
        let args = ["--silent", "--show-error", "--globoff", "--max-time", "3", &url];
        let answer = self.served.lab.client().output("curl", args)?;
        serde_json::from_str(&answer).with_context(|| format!("{to} answered {answer:?}"))
    }

    /// The packets of one flow at each place that they pass, through a node to a pod of the
    /// other one, or to one of its own.
    fn trace(&self, screen: &Screen, node: &Node, to: SocketAddr, elsewhere: bool) -> Result<()> {
        let lab = &self.served.lab;
        let mut places = vec![lab.client().clone()];
        let (entry, others): (Vec<_>, Vec<_>) =
            lab.nodes().iter().partition(|other| other.name == node.name);
        places.extend(entry.into_iter().chain(others).map(|node| node.place.clone()));
        places.extend(lab.pods().iter().map(|pod| pod.place.clone()));
        for _ in 0..TRIES {
            let sniffers: Vec<_> = places.iter().map(Sniffer::start).collect::<Result<_>>()?;
            let echo = self.curl(to)?;
            let seen: Vec<_> = sniffers.into_iter().map(Sniffer::finish).collect();
            if (lab.pod(&echo.pod)?.node == node.name) == elsewhere {
                continue;
            }
            let mut met = false;
            for (place, sightings) in places.iter().zip(seen) {
                for hop in hops(&sightings) {
                    met |= place.name == echo.pod && hop.from == echo.client;
                    screen.say(&hop.line(&place.name));
                }
            }
            screen.say(&format!("{} answered, and saw {}", echo.pod, echo.client));
            ensure!(met, "{} did not get a packet of {}", echo.pod, echo.client);
            return Ok(());
        }
        anyhow::bail!("{TRIES} requests, and none went where it should")
    }
}

/// One direction of a flow at one interface.
struct Hop {
    device: String,
    came_in: bool,
    from: SocketAddr,
    to: SocketAddr,
    /// Flags of the first packet.
    flags: u8,
    packets: u32,
}

impl Hop {
    fn line(&self, place: &str) -> String {
        let Self { device, from, to, packets, .. } = self;
        let way = if self.came_in { "in " } else { "out" };
        let first = if self.flags & ACK == 0 { "SYN" } else { "SYN-ACK" };
        format!("{place:<8} {device:<6} {way} {from} > {to}  {first}, {packets} in all")
    }
}

/// What passed the interfaces of a place, in the order in which it began.
fn hops(sightings: &[Sighting]) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::new();
    for one in sightings {
        let Some(said) = one.said().filter(|said| said.protocol == "TCP") else { continue };
        let known = hops.iter_mut().find(|hop| {
            (&hop.device, hop.came_in, hop.from, hop.to)
                == (&one.device, one.came_in, said.from, said.to)
        });
        match known {
            Some(hop) => hop.packets += 1,
            // Of an earlier flow.
            None if said.flags & SYN == 0 => {}
            None => hops.push(Hop {
                device: one.device.clone(),
                came_in: one.came_in,
                from: said.from,
                to: said.to,
                flags: said.flags,
                packets: 1,
            }),
        }
    }
    hops
}

const NODE_PORT: u16 = 30_080;
const EXTERNAL: [&str; 2] = ["198.51.100.10", "2001:db8:51::10"];
const VIP: [&str; 2] = ["203.0.113.10", "2001:db8:113::10"];
/// A fair choice of four pods misses node-2 so often once in a billion.
const TRIES: u32 = 30;
/// TCP flags.
const SYN: u8 = 2;
const ACK: u8 = 16;
/// How long agents may take to follow a file.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
