// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A lab whose first node runs an agent on a directory of manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::Value;

use crate::{
    Lab, LabBuilder,
    agent::{Agent, AgentSpec},
    manifests::{Exposed, Manifests},
    node::Node,
    objects::{self, Port},
    pod::Pod,
    wait,
    wire::Family,
};

/// A lab, its manifests and the agent of `node-1`. Dropping it ends all three.
#[derive(Debug)]
pub struct Served {
    /// The agent of `node-1`.
    pub agent: Agent,
    /// What the agent reads.
    pub manifests: Manifests,
    /// Where all this is.
    pub lab: Lab,
}

impl Served {
    /// Two nodes with two pods each, serving on port 8080.
    pub fn start() -> Result<Self> {
        Self::with(Lab::builder(), |spec| spec)
    }

    /// A lab of another shape, an agent with more arguments.
    pub fn with(builder: LabBuilder, change: impl FnOnce(AgentSpec) -> AgentSpec) -> Result<Self> {
        let lab = builder.start()?;
        let manifests = Manifests::of(&lab)?;
        let spec = change(AgentSpec::manifests(manifests.dir()));
        let agent = Agent::start(lab.node("node-1")?, &spec)?;
        Ok(Self { agent, manifests, lab })
    }

    /// How to run another agent on the same manifests.
    pub fn spec(&self) -> AgentSpec {
        AgentSpec::manifests(self.manifests.dir())
    }

    /// The node whose agent this is.
    pub fn node(&self) -> Result<&Node> {
        self.lab.node("node-1")
    }

    /// Writes a dual-stack ClusterIP Service, TCP and UDP 80 to 8080, over
    /// these pods, and waits until the kernel has it. Its addresses end in
    /// `number`: [`cluster_ips`].
    pub fn expose(&self, name: &str, number: u8, pods: &[Pod]) -> Result<Exposed> {
        self.expose_as(plain(name, number), pods)
    }

    /// Writes a Service over these pods and waits until the kernel has all its
    /// ClusterIPs.
    pub fn expose_as(&self, service: core::Service, pods: &[Pod]) -> Result<Exposed> {
        let exposed = self.manifests.expose(&self.lab, service, pods)?;
        self.await_all(std::slice::from_ref(&exposed))?;
        Ok(exposed)
    }

    /// Writes a changed Service and waits until the kernel has as many
    /// backends behind each of its ClusterIPs as it has ready endpoints.
    pub fn rewrite(&self, exposed: &Exposed) -> Result<()> {
        exposed.write()?;
        self.await_all(std::slice::from_ref(exposed))
    }

    /// Waits until the kernel has the ready endpoints of these Services, and no
    /// others, behind each of their ClusterIPs.
    pub fn await_all(&self, exposed: &[Exposed]) -> Result<()> {
        let (mut wanted, mut members) = (Inside::new(), Members::new());
        for exposed in exposed {
            wanted.extend(expected(exposed)?);
            members.extend(ready(exposed));
        }
        wait::for_value(LIMIT, "the kernel to have what the files say", || {
            let rows = self.agent.services()?.into_iter();
            let has: Inside = rows.map(|row| ((row.frontend, row.protocol), row.inside)).collect();
            let missing = wanted.iter().find(|(frontend, set)| has.get(*frontend) != Some(*set));
            ensure!(missing.is_none(), "{missing:?}; the agent says:\n{}", self.agent.log());
            let mut has = Members::new();
            for row in self.agent.backends()? {
                for name in row.services {
                    has.entry(name).or_default().insert(row.backend.clone());
                }
            }
            let other = members
                .iter()
                .find(|(name, set)| has.get(*name).unwrap_or(&BTreeSet::new()) != *set);
            ensure!(other.is_none(), "{other:?} is not yet so");
            Ok(())
        })
    }

    /// Waits until a frontend has this set for clients inside: a number of
    /// backends, `"refuse"` or `"silent"`. `frontend` is as `show services`
    /// prints it.
    pub fn await_inside(&self, frontend: &str, protocol: &str, set: &Value) -> Result<()> {
        wait::for_value(LIMIT, &format!("{frontend}/{protocol} to have {set}"), || {
            let rows = self.agent.services()?;
            let mut rows =
                rows.iter().filter(|row| row.frontend == frontend && row.protocol == protocol);
            ensure!(rows.any(|row| row.inside == *set), "{}", self.agent.log());
            Ok(())
        })
    }

    /// Waits until a frontend is gone.
    pub fn await_gone(&self, frontend: &str) -> Result<()> {
        wait::for_value(LIMIT, &format!("{frontend} to be gone"), || {
            let rows = self.agent.services()?;
            ensure!(rows.iter().all(|row| row.frontend != frontend), "it is there");
            Ok(())
        })
    }

    /// Sockets by backend, where there are any: BACKEND_LOAD.
    pub fn load(&self) -> Result<BTreeMap<String, u64>> {
        let rows = self.agent.backends()?.into_iter().filter(|row| row.sockets != 0);
        Ok(rows.map(|row| (format!("{}/{}", row.backend, row.protocol), row.sockets)).collect())
    }

    /// Sockets of all backends together.
    pub fn total_load(&self) -> Result<u64> {
        Ok(self.load()?.values().sum())
    }

    /// Waits until no backend counts a socket and no socket has a record. A
    /// closed socket is released by its last holder, which may be a process
    /// that is still ending.
    pub fn await_idle(&self) -> Result<()> {
        wait::for_value(LIMIT, "every BACKEND_LOAD to be 0", || {
            let load = self.load()?;
            ensure!(load.is_empty(), "it is {load:?}");
            let sockets = self.agent.sockets()?;
            ensure!(sockets.is_empty(), "records are left: {sockets:?}");
            Ok(())
        })
    }
}

/// What a frontend has for clients inside: `show services` of (address, protocol).
type Inside = BTreeMap<(String, String), Value>;

/// Addresses and ports behind the service ports of both families, by name.
type Members = BTreeMap<String, BTreeSet<String>>;

/// The ready endpoints of each service port.
fn ready(exposed: &Exposed) -> Members {
    let spec = exposed.service.spec.clone().unwrap_or_default();
    let name = exposed.service.metadata.name.clone().unwrap_or_default();
    let families = spec.ip_families.unwrap_or_default();
    let ports = spec.ports.into_iter().flatten().filter_map(|port| {
        let Some(IntOrString::Int(target)) = port.target_port else { return None };
        let backings = exposed.backings.iter().filter(|backing| backing.ready);
        let addresses = backings
            .flat_map(|backing| backing.addresses)
            .filter(|ip| families.iter().any(|family| (family == "IPv4") == ip.is_ipv4()));
        let target = u16::try_from(target).ok()?;
        let members = addresses.map(|ip| SocketAddr::new(ip, target).to_string());
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let port = port.name.unwrap_or_default();
        let port = format!("{}/{name}:{port}/{protocol}", objects::NAMESPACE);
        Some((port, members.collect()))
    });
    ports.collect()
}

/// Each ClusterIP frontend of a Service, with the set that its ready endpoints make.
fn expected(exposed: &Exposed) -> Result<Inside> {
    let ready = exposed.backings.iter().filter(|backing| backing.ready).count();
    let set = if ready == 0 { Value::from("refuse") } else { Value::from(ready) };
    let spec = exposed.service.spec.clone().unwrap_or_default();
    let mut frontends = Inside::new();
    for ip in spec.cluster_ips.iter().flatten() {
        let ip: IpAddr = ip.parse()?;
        for port in spec.ports.iter().flatten() {
            let frontend = SocketAddr::new(ip, u16::try_from(port.port)?);
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            frontends.insert((frontend.to_string(), protocol), set.clone());
        }
    }
    Ok(frontends)
}

/// A dual-stack ClusterIP Service, TCP and UDP 80 to 8080.
pub fn plain(name: &str, number: u8) -> core::Service {
    objects::service(name, &cluster_ips(number), &Port::both(80, 8080))
}

/// The ClusterIPs of a Service of [`Served::expose`].
pub fn cluster_ips(number: u8) -> [IpAddr; 2] {
    [
        IpAddr::from([10, 96, 0, number]),
        IpAddr::from([0xfd00, 0x10, 0x96, 0, 0, 0, 0, u16::from(number)]),
    ]
}

/// Port 80 of the ClusterIP `number` of a family.
pub fn vip(family: Family, number: u8) -> SocketAddr {
    let [v4, v6] = cluster_ips(number);
    SocketAddr::new(if family == Family::V4 { v4 } else { v6 }, 80)
}

/// How long the agent may take to follow a change.
const LIMIT: Duration = Duration::from_secs(10);
