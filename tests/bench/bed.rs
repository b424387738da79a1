// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The test bed: a node for each column, each with rules or programs of its own.
//!
//! A column's packets pass its own node's namespace only, and its sockets see its own
//! cgroup's programs only, so that all columns can stand side by side and take turns.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;
use lab::{
    Lab,
    agent::Agent,
    cluster::Cluster,
    netns::Netns,
    node::Node,
    objects::NAMESPACE,
    place::Place,
    pod::Pod,
    process::Process,
    proxy::{Proxy, Running},
};
use nix::sys::signal::Signal;

use crate::{
    bulk::{Exposed, MANY_PODS},
    machine::Memory,
    outside,
    probe::{self, PORT, Probe, Task},
    proxy::{self, START_LIMIT},
    rounds::{Scale, say},
};

/// The lab with its columns.
#[derive(Debug)]
pub(crate) struct Bed {
    /// How much to measure.
    pub(crate) scale: Scale,
    /// Bare first, then control, then every proxy with few and with many Services.
    pub(crate) columns: Vec<Column>,
    /// The control plane, until [`Bed::quiet`].
    cluster: Option<Cluster>,
    /// The pod that stands for all endpoints of the many Services, and its server.
    far: (Pod, Process),
    /// Last, so that it outlives what runs in it.
    lab: Lab,
}

/// One way from a pod to two others on its node.
#[derive(Debug)]
pub(crate) struct Column {
    /// What stands in the way; none: nothing.
    pub(crate) proxy: Option<Proxy>,
    /// Services that it knows, apart from the API server's own.
    pub(crate) services: u32,
    /// The proxy, while it runs.
    pub(crate) running: Option<Running>,
    /// What it is charged for.
    pub(crate) memory: Memory,
    /// Where the measuring is done.
    pub(crate) probe: Probe,
    /// The node.
    pub(crate) node: Node,
    client: Pod,
    servers: [Pod; 2],
    _partners: [Process; 2],
}

impl Bed {
    /// Makes the lab and its pods, and starts the control plane.
    pub(crate) fn make(scale: Scale, without: &[Proxy]) -> Result<Self> {
        let started = Instant::now();
        let mut kinds = vec![(None, 0), (None, 0)];
        for proxy in Proxy::ALL.into_iter().filter(|proxy| !without.contains(proxy)) {
            kinds.extend([(Some(proxy), 1), (Some(proxy), scale.services)]);
        }
        let nodes = u8::try_from(kinds.len() + 1).context("few columns")?;
        let lab = Lab::builder().nodes(nodes).pods(0).start()?;
        let mut nodes = lab.nodes().iter();
        let columns = kinds
            .into_iter()
            .zip(&mut nodes)
            .map(|((proxy, services), node)| Column::make(&lab, node, proxy, services));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let far = far_pod(&lab, nodes.next().context("a node more than columns")?)?;
        let cluster = Cluster::start(&lab)?;
        let seconds = started.elapsed().as_secs_f64();
        say(&format!("lab {} with {} columns is up, {seconds:.1} s", lab.id(), columns.len()));
        Ok(Self { scale, columns, cluster: Some(cluster), far, lab })
    }

    /// Lets each proxy program a node while there is one Service in the cluster. The proxies
    /// are stopped then: what they programmed stays.
    pub(crate) fn program_small(&mut self) -> Result<()> {
        for index in 0..self.columns.len() {
            let (Some(column), Some(cluster)) = (self.columns.get_mut(index), &self.cluster) else {
                continue;
            };
            let Some(proxy) = column.proxy.filter(|_| column.services == 1) else {
                continue;
            };
            let own = column.own();
            cluster.api().create_all(vec![own.service()])?;
            cluster.api().create_all(vec![own.slice()])?;
            column.running = Some(proxy::spawn(proxy, &column.node, cluster, &column.memory)?);
            column.await_service(own.frontend())?;
            column.running = None;
            cluster.api().delete::<Service>(Some(NAMESPACE), &own.name, None)?;
            await_empty(cluster)?;
        }
        Ok(())
    }

    /// Makes the many Services with their slices, and what the columns and later
    /// measurements need.
    pub(crate) fn fill(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut exposed: Vec<_> = self.many().collect();
        let columns = self.columns.iter().filter(|column| column.services > 1);
        for column in columns {
            exposed.push(column.own());
            exposed.extend(column.at_home());
        }
        let (mut services, mut slices) = outside::objects(self);
        services.extend(exposed.iter().map(Exposed::service));
        slices.extend(exposed.iter().map(Exposed::slice));
        let api = self.cluster()?.api();
        api.create_all(services)?;
        api.create_all(slices)?;
        say(&format!(
            "{} Services with {} endpoints in the API server, {:.1} s",
            exposed.len(),
            exposed.iter().map(|exposed| exposed.endpoints.len()).sum::<usize>(),
            started.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Stops the control plane and every proxy: traffic is measured in peace.
    pub(crate) fn quiet(&mut self) -> Result<()> {
        for column in &mut self.columns {
            if let Some(Running::Sluice(agent)) = &mut column.running {
                // It was put to sleep when its Services were served: devices may come later.
                agent.process().signal(Signal::SIGCONT)?;
                await_devices(agent)?;
            }
            column.running = None;
        }
        self.cluster = None;
        for column in self.columns.iter_mut().filter(|column| column.proxy.is_some()) {
            column.await_service(column.own().frontend())?;
        }
        Ok(())
    }

    /// The control plane.
    pub(crate) fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().context("the control plane is stopped")
    }

    /// Columns with a proxy that knows the many Services, and the control plane.
    pub(crate) fn large(&mut self) -> Result<(&Cluster, impl Iterator<Item = &mut Column>)> {
        let cluster = self.cluster.as_ref().context("the control plane is stopped")?;
        Ok((cluster, self.columns.iter_mut().filter(|column| column.services > 1)))
    }

    /// Someone outside the cluster.
    pub(crate) fn client(&self) -> &Place {
        self.lab.client()
    }

    /// Where the nodes' links end.
    pub(crate) fn fabric(&self) -> Netns {
        Netns::named(format!("{}-fabric", self.lab.id().prefix()))
    }

    /// The Service of that pod, for clients outside.
    pub(crate) fn far_service(&self) -> Exposed {
        Exposed {
            name: "far".to_owned(),
            ip: Ipv4Addr::new(10, 96, 4, 1),
            endpoints: vec![self.far.0.v4],
            node: self.far.0.node.clone(),
            udp: true,
        }
    }

    /// The many Services.
    pub(crate) fn many(&self) -> impl Iterator<Item = Exposed> {
        let node = self.far.0.node.clone();
        (0..self.scale.services).map(move |index| Exposed::one_of_many(index, &node))
    }
}

impl Column {
    /// Three pods on a node, with a probe in one and partners in two.
    fn make(lab: &Lab, node: &Node, proxy: Option<Proxy>, services: u32) -> Result<Self> {
        // A refusal must come at once, however many have come before.
        node.netns.set_sysctls(&[("ipv4/icmp_ratelimit", "0")])?;
        let pod = |name| lab.add_pod(node, &format!("{name}-{}", node.index));
        let (client, servers) = (pod("client")?, [pod("one")?, pod("two")?]);
        let [one, two] = &servers;
        let partners = [probe::start_partner(one)?, probe::start_partner(two)?];
        Ok(Self {
            proxy,
            services,
            running: None,
            memory: Memory::new(&lab.id(), &node.name)?,
            probe: Probe::start(&client)?,
            node: node.clone(),
            client,
            servers,
            _partners: partners,
        })
    }

    /// What a table calls it: the second one without a proxy is there to be compared with
    /// the first.
    pub(crate) fn name(&self) -> String {
        match self.proxy {
            None if self.node.index == 1 => "bare".to_owned(),
            None => "bare, a second time".to_owned(),
            Some(proxy) if self.services == 1 => format!("{}, 1 Service", proxy.name()),
            Some(proxy) => format!("{}, {} Services", proxy.name(), self.services),
        }
    }

    /// Whom to dial in traffic: its own Service, or the servers themselves.
    pub(crate) fn targets(&self) -> Vec<SocketAddr> {
        match self.proxy {
            None => self.servers.iter().map(|pod| (pod.v4, PORT).into()).collect(),
            Some(_) => vec![self.own().frontend()],
        }
    }

    /// Whom to dial for the hook alone: two addresses that lead to the probe's own pod.
    pub(crate) fn home_targets(&self) -> Vec<SocketAddr> {
        match self.proxy {
            None => vec![(self.client.v4, PORT).into(); 2],
            Some(_) => self.at_home().iter().map(Exposed::frontend).collect(),
        }
    }

    /// Its Service: the two servers on its node.
    pub(crate) fn own(&self) -> Exposed {
        Exposed {
            name: format!("own-{}", self.node.index),
            ip: Ipv4Addr::new(10, 96, 1, self.node.index),
            endpoints: self.servers.iter().map(|pod| pod.v4).collect(),
            node: self.node.name.clone(),
            udp: true,
        }
    }

    /// Two Services whose endpoint is the probe's own pod.
    fn at_home(&self) -> [Exposed; 2] {
        [2, 3].map(|third| Exposed {
            name: format!("home-{}-{third}", self.node.index),
            ip: Ipv4Addr::new(10, 96, third, self.node.index),
            endpoints: vec![self.client.v4],
            node: self.node.name.clone(),
            udp: true,
        })
    }

    /// Waits until a frontend answers.
    pub(crate) fn await_service(&mut self, frontend: SocketAddr) -> Result<()> {
        let limit_ms = u64::try_from(START_LIMIT.as_millis()).unwrap_or(u64::MAX);
        self.probe.begin(&Task::Await { to: frontend, limit_ms })?;
        let answered = self.probe.happened().map(drop);
        let name = self.name();
        let log = self.running.as_mut().map(Running::tail).unwrap_or_default();
        answered.with_context(|| format!("{name} programs nothing; {log}"))
    }
}

/// The pod that stands for all endpoints of the many Services: a whole range of addresses
/// is its own, and every node knows the way.
fn far_pod(lab: &Lab, node: &Node) -> Result<(Pod, Process)> {
    let pod = lab.add_pod(node, "far")?;
    let range = format!("{MANY_PODS}/16");
    pod.ip(&format!("route add local {range} dev lo"))?;
    node.ip(&format!("route add {range} via {} dev {} onlink", pod.v4, pod.veth))?;
    for other in lab.nodes().iter().filter(|other| other.name != node.name) {
        other.ip(&format!("route add {range} via {}", node.place.v4))?;
    }
    let partner = probe::start_partner(&pod)?;
    Ok((pod, partner))
}

/// Waits until an agent's programs are at a device.
fn await_devices(agent: &Agent) -> Result<()> {
    lab::wait::for_value(START_LIMIT, "programs at a device", || {
        let rows = agent.programs()?;
        anyhow::ensure!(rows.iter().any(|row| row.device.is_some()), "there are none");
        Ok(())
    })
}

/// Waits until no slice of ours is left: the garbage collector removes those of a deleted
/// Service only when they have an owner, so they are deleted here.
fn await_empty(cluster: &Cluster) -> Result<()> {
    use k8s_openapi::api::discovery::v1::EndpointSlice;

    let labels = "endpointslice.kubernetes.io/managed-by=bench";
    for slice in cluster.api().list::<EndpointSlice>(Some(NAMESPACE), labels)? {
        let name = slice.metadata.name.unwrap_or_default();
        cluster.api().delete::<EndpointSlice>(Some(NAMESPACE), &name, None)?;
    }
    lab::wait::for_value(Duration::from_secs(10), "own Services to be gone", || {
        let left = cluster.api().list::<Service>(Some(NAMESPACE), "")?;
        anyhow::ensure!(left.len() <= 1, "{} are left", left.len());
        Ok(())
    })
}
