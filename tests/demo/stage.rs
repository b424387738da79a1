// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the demo plays on: the lab, the objects (files, or a real API server's) and an
//! agent on each node.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab,
    agent::{Agent, AgentSpec},
    cluster::Cluster,
    driver::Driver,
    manifests::{Exposed, Manifests},
    objects::{self, Port},
    pod::Pod,
    wait,
    wire::Family,
};

use crate::screen::Screen;

mod kubectl;

/// The lab with everything that runs in it.
#[derive(Debug)]
pub(crate) struct Stage {
    lab: Lab,
    origin: Origin,
    agents: Vec<Agent>,
    keep: bool,
    /// ClusterIPs of Service `web`, by family.
    web: [IpAddr; 2],
    /// The IPv4 ClusterIP of Service `idle`, which has no endpoint.
    empty: IpAddr,
    /// A process in `pod-1-1` that opens sockets.
    driver: Driver,
}

/// Where the objects are.
#[derive(Debug)]
enum Origin {
    /// YAML files that the agents follow.
    Manifests(Box<Exposed>),
    /// A real API server.
    Cluster(Box<Cluster>),
}

impl Stage {
    /// Makes the lab, publishes two Services, starts the agents and waits until each node
    /// has all of `web`'s endpoints.
    pub(crate) fn set(screen: &mut Screen, cluster: bool, keep: bool) -> Result<Self> {
        let started = Instant::now();
        let lab = Lab::builder();
        let lab = if keep { lab.keep() } else { lab }.start()?;
        screen.say(&format!(
            "lab {} is up after {:.2} s: 2 nodes, 4 pods that answer HTTP and UDP on port {TARGET}, \
             a client outside; each is a network namespace and a cgroup",
            lab.id(),
            started.elapsed().as_secs_f64()
        ));
        screen.block(&places(&lab));
        let (origin, web, empty) =
            if cluster { Self::publish_by_kubectl(screen, &lab)? } else { publish_files(&lab)? };
        let driver = lab.pod(CLIENT)?.driver()?;
        let mut stage = Self { lab, origin, agents: Vec::new(), keep, web, empty, driver };
        let started = Instant::now();
        stage.start_agents()?;
        stage.await_endpoints()?;
        screen.say(&format!(
            "lb-agent runs on both nodes, reading {}; ready after {:.2} s",
            stage.source(),
            started.elapsed().as_secs_f64()
        ));
        Ok(stage)
    }

    /// A real control plane, and the same Services made by kubectl.
    fn publish_by_kubectl(screen: &mut Screen, lab: &Lab) -> Result<(Origin, [IpAddr; 2], IpAddr)> {
        let started = Instant::now();
        let cluster = Cluster::start(lab)?;
        screen.say(&format!(
            "etcd, kube-apiserver and kube-controller-manager are up after {:.1} s",
            started.elapsed().as_secs_f64()
        ));
        let (web, empty) = kubectl::publish(screen, &cluster, lab)?;
        Ok((Origin::Cluster(Box::new(cluster)), web, empty))
    }

    /// Takes everything down, or says how to enter what stays.
    pub(crate) fn strike(mut self, screen: &mut Screen) -> Result<()> {
        let id = self.lab.id();
        if !self.keep {
            // The agents first: their lab goes from under them.
            self.agents.clear();
            drop(self.origin);
            drop(self.lab);
            return kubectl::nothing_left(&id);
        }
        self.agents.iter_mut().for_each(|agent| agent.process().leave());
        if let Origin::Cluster(cluster) = self.origin {
            // Its processes run on, in the lab's cgroup: `lab down` ends them.
            std::mem::forget(cluster);
        }
        screen.say("");
        screen.say(&format!("lab {id} is left standing. Enter it:"));
        screen.block(&format!(
            "cargo xtask lab pods {id}\n\
             cargo xtask lab exec --id {id} {CLIENT} curl -s http://{}/\n\
             cargo xtask lab exec --id {id} node-1 bash\n\
             {} show services --bpf-root {}\n\
             cargo xtask lab down {id}",
            self.web[0],
            program()?.display(),
            self.lab.node("node-1")?.bpf_root.display(),
        ));
        Ok(())
    }

    /// Where the agents read from, in words.
    pub(crate) const fn source(&self) -> &'static str {
        match self.origin {
            Origin::Manifests(_) => "a directory of YAML files",
            Origin::Cluster(_) => "the API server",
        }
    }

    /// The lab.
    pub(crate) const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Sockets of the pod that asks.
    pub(crate) const fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The agent of `node-1`, where the asking pod is.
    pub(crate) fn agent(&self) -> Result<&Agent> {
        self.agents.first().context("no agent runs")
    }

    /// The frontend of `web`.
    pub(crate) fn web(&self, family: Family) -> SocketAddr {
        let [v4, v6] = self.web;
        SocketAddr::new(if family == Family::V4 { v4 } else { v6 }, PORT)
    }

    /// The frontend of the Service without endpoints.
    pub(crate) const fn empty(&self) -> SocketAddr {
        SocketAddr::new(self.empty, PORT)
    }

    /// Begins to take a pod out of service: it is terminating and still serves. Says what
    /// was done.
    pub(crate) fn drain(&mut self, pod: &Pod) -> Result<String> {
        match &mut self.origin {
            Origin::Manifests(web) => {
                web.drain(pod)?;
                web.write()?;
                Ok(format!("its endpoints in service-web.yaml become terminating: {}", pod.name))
            }
            Origin::Cluster(cluster) => kubectl::terminate(cluster, pod),
        }
    }

    /// Removes a drained pod: its server ends, its endpoint is gone.
    pub(crate) fn remove(&mut self, pod: &Pod) -> Result<()> {
        pod.stop_serving()?;
        match &mut self.origin {
            Origin::Manifests(web) => {
                web.take_out(pod);
                web.write()
            }
            Origin::Cluster(cluster) => kubectl::forget(cluster, pod),
        }
    }

    /// The rows of `lb-agent show WHAT -o json` on `node-1`.
    pub(crate) fn rows(&self, what: &str) -> Result<Vec<serde_json::Value>> {
        rows(self.agent()?, what)
    }

    fn start_agents(&mut self) -> Result<()> {
        for node in self.lab.nodes() {
            let spec = match &self.origin {
                Origin::Manifests(_) => AgentSpec::manifests(Manifests::of(&self.lab)?.dir()),
                Origin::Cluster(cluster) => AgentSpec::kubeconfig(&cluster.agent_kubeconfig()?),
            };
            self.agents.push(Agent::spawn(node, &spec)?);
        }
        self.agents.iter_mut().try_for_each(|agent| agent.wait_ready(READY_LIMIT))
    }

    /// Waits until every agent serves `web` with all pods.
    fn await_endpoints(&self) -> Result<()> {
        let pods = self.lab.pods().len();
        for agent in &self.agents {
            wait::for_value(READY_LIMIT, "every endpoint of web", || {
                let rows = rows(agent, "services")?;
                for family in Family::BOTH {
                    let frontend = self.web(family).to_string();
                    let found = rows.iter().filter(|row| {
                        row["frontend"] == frontend.as_str() && row["inside"] == pods
                    });
                    ensure!(
                        found.count() == 2,
                        "{frontend} has not {pods} backends for TCP and UDP"
                    );
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Writes both Services as YAML files.
fn publish_files(lab: &Lab) -> Result<(Origin, [IpAddr; 2], IpAddr)> {
    let manifests = Manifests::of(lab)?;
    let [web4, web6, empty4] = FILE_ADDRESSES;
    let (web, empty): ([IpAddr; 2], IpAddr) =
        ([web4.parse::<IpAddr>()?, web6.parse::<IpAddr>()?], empty4.parse()?);
    let ports = Port::both(PORT, TARGET);
    let exposed = manifests.expose(lab, objects::service("web", &web, &ports), &lab.pods())?;
    manifests.expose(lab, objects::service("idle", &[empty], &ports), &[])?;
    Ok((Origin::Manifests(Box::new(exposed)), web, empty))
}

/// The lab's places as a table.
fn places(lab: &Lab) -> String {
    let nodes = lab.nodes().iter().map(|node| (&node.place, node.zone.to_owned()));
    let pods = lab.pods();
    let pods = pods.iter().map(|pod| (&pod.place, format!("on {}", pod.node)));
    let client = [(lab.client(), "outside".to_owned())];
    let lines = nodes.chain(pods).chain(client).map(|(place, note)| {
        format!("{:8} {:15} {:20} {note}", place.name, place.v4.to_string(), place.v6.to_string())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// JSON rows, one a line.
fn rows(agent: &Agent, what: &str) -> Result<Vec<serde_json::Value>> {
    let printed = agent.verb(&["show", what, "-o", "json"])?;
    ensure!(printed.code == Some(0), "show {what}: {}", printed.stderr.trim());
    let rows = printed.stdout.lines().map(|line| {
        serde_json::from_str(line).with_context(|| format!("show {what} printed {line:?}"))
    });
    rows.collect()
}

/// The agent's program, for commands that a person types.
fn program() -> Result<std::path::PathBuf> {
    lab::place::binary("lb-agent", "LB_AGENT")
}

/// Where requests come from.
pub(crate) const CLIENT: &str = "pod-1-1";
/// The frontends' port.
const PORT: u16 = 80;
/// The pods' port.
const TARGET: u16 = 8080;
/// ClusterIPs in files: of `web` in both families, of the Service without endpoints.
const FILE_ADDRESSES: [&str; 3] = ["10.96.0.80", "fd00:10:96::80", "10.96.0.81"];
/// How long agents may take until they serve everything.
const READY_LIMIT: Duration = Duration::from_secs(20);
