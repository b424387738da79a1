// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A lab: built, extended by pods, and removed when dropped.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    address, bpffs, cgroup, fabric,
    id::RunId,
    netns::{Batch, Netns},
    node::Node,
    place::{Place, PlaceKind},
    pod::Pod,
    server::ServeSpec,
    state::{self, State},
};

/// What a lab should hold.
#[derive(Clone, Debug)]
#[must_use = "a lab is made by `start`"]
pub struct LabBuilder {
    nodes: u8,
    pods: u8,
    ports: Vec<u16>,
    keep: bool,
}

/// A cluster of namespaces, cgroups and real processes. Dropping it removes
/// everything; killing its process leaves that to `lab down`.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    cgroup: PathBuf,
    nodes: Vec<Node>,
    client: Place,
    control: Place,
    pods: Mutex<Vec<Pod>>,
    state: Mutex<State>,
}

impl LabBuilder {
    /// Number of nodes (default 2, at most 200).
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// Number of pods on each node at the start (default 2).
    pub fn pods(mut self, pods: u8) -> Self {
        self.pods = pods;
        self
    }

    /// Ports that every first pod serves on (default 8080); none: no server.
    pub fn ports(mut self, ports: &[u16]) -> Self {
        self.ports = ports.to_vec();
        self
    }

    /// Leaves the lab standing when it is dropped (`lab up`).
    pub fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Makes the lab and waits until its servers listen.
    ///
    /// # Errors
    /// Without root, iproute2, cgroup2 or IPv6; what was made is removed.
    pub fn start(self) -> Result<Lab> {
        ensure!((1..=200).contains(&self.nodes), "a lab has 1 to 200 nodes, not {}", self.nodes);
        let lab = Lab::named(State::claim(self.keep)?, self.nodes)?;
        lab.wire()?;
        let mut pods = Vec::new();
        for node in &lab.nodes {
            for index in 1..=self.pods {
                let name = format!("pod-{}-{index}", node.index);
                pods.push(lab.new_pod(node, &name, index, node.cgroup_root.join(&name))?);
            }
        }
        lab.wire_pods(&pods)?;
        lab.serve_all(&pods, &self.ports)?;
        lab.save()?;
        Ok(lab)
    }
}

impl Lab {
    /// Two nodes with two pods each, all serving on port 8080.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// To ask for another shape.
    pub fn builder() -> LabBuilder {
        LabBuilder { nodes: 2, pods: 2, ports: vec![8080], keep: false }
    }

    /// Its run id.
    pub fn id(&self) -> RunId {
        self.state().id.clone()
    }

    /// Its directory below `/run/sluice-lab`: logs, manifests, certificates.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The cgroup2 directory above all its nodes.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Its nodes, `node-1` first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .with_context(|| format!("the lab has no node {name}"))
    }

    /// Its pods now, in the order in which they were made.
    pub fn pods(&self) -> Vec<Pod> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The pod of that name.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        let found = self.pods().into_iter().find(|pod| pod.name == name);
        found.with_context(|| format!("the lab has no pod {name}"))
    }

    /// Someone outside the cluster, on the nodes' network.
    pub fn client(&self) -> &Place {
        &self.client
    }

    /// Where the control plane runs.
    pub fn control(&self) -> &Place {
        &self.control
    }

    /// Adds a pod without a server to a node.
    pub fn add_pod(&self, node: &Node, name: &str) -> Result<Pod> {
        self.add(node, name, node.cgroup_root.join(name))
    }

    /// The same with its processes outside of the node's cgroup: no hook of the node's agent
    /// ever sees their sockets, as behind another kernel.
    pub fn add_unseen_pod(&self, node: &Node, name: &str) -> Result<Pod> {
        self.add(node, name, self.cgroup.join("unseen").join(name))
    }

    fn add(&self, node: &Node, name: &str, cgroup: PathBuf) -> Result<Pod> {
        let pod = {
            let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            ensure!(pods.iter().all(|pod| pod.name != name), "the lab already has a pod {name}");
            let taken: Vec<_> = pods.iter().map(|pod| pod.v4).collect();
            let free = (1..=200).find(|index| !taken.contains(&address::pod(node.index, *index).0));
            let free = free.context("the node has 200 pods")?;
            let pod = self.new_pod(node, name, free, cgroup)?;
            pods.push(pod.clone());
            pod
        };
        self.wire_pods(std::slice::from_ref(&pod))?;
        self.save()?;
        Ok(pod)
    }

    /// Kills a pod's processes and removes it.
    pub fn remove_pod(&self, pod: &Pod) -> Result<()> {
        // Deleting a namespace takes its interfaces down later; the name must
        // be free for the next pod now.
        self.node(&pod.node)?.ip(&format!("link del {}", pod.veth))?;
        pod.destroy()?;
        self.pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| other.name != pod.name);
        self.save()
    }

    /// The lab with names and nothing behind them; from here on dropping it
    /// cleans up.
    fn named(state: State, nodes: u8) -> Result<Self> {
        let id = state.id.clone();
        let dir = state.dir();
        let cgroup = cgroup::mount_point()?.join(id.prefix());
        let place = |name: &str, kind, cgroup: PathBuf, (v4, v6)| Place {
            name: name.to_owned(),
            kind,
            netns: Netns::named(format!("{}-{name}", id.prefix())),
            cgroup,
            v4,
            v6,
            logs: dir.join("logs"),
        };
        let pins = bpffs::create_lab_dir(&id);
        let mut lab = Self {
            client: place("client", PlaceKind::Client, cgroup.join("client"), address::CLIENT),
            control: place("control", PlaceKind::Control, cgroup.join("control"), address::CONTROL),
            nodes: Vec::new(),
            pods: Mutex::default(),
            dir: dir.clone(),
            cgroup: cgroup.clone(),
            state: Mutex::new(state),
        };
        let pins = pins?;
        for index in 1..=nodes {
            let name = format!("node-{index}");
            let root = cgroup.join(&name);
            lab.nodes.push(Node {
                index,
                zone: if index % 2 == 1 { "zone-a" } else { "zone-b" },
                bpf_root: pins.join(&name),
                place: place(&name, PlaceKind::Node, root.join("host"), address::node(index)),
                cgroup_root: root,
            });
        }
        Ok(lab)
    }

    /// Namespaces and cgroups of all but the pods, joined by the bridge.
    fn wire(&self) -> Result<()> {
        std::fs::create_dir_all(self.dir.join("logs")).context("creating the log directory")?;
        let fabric_ns = Netns::named(format!("{}-fabric", self.id().prefix()));
        let places: Vec<&Place> = self.attached().collect();
        let mut create = Batch::default();
        create.line(format!("netns add {}", fabric_ns.name()));
        for place in &places {
            create.line(format!("netns add {}", place.netns.name()));
            cgroup::create(&place.cgroup)?;
        }
        create.run()?;
        fabric::configure(&fabric_ns, true)?;
        for place in &places {
            fabric::configure(&place.netns, place.kind == PlaceKind::Node)?;
        }
        fabric::bridge(places.iter().copied()).run_in(&fabric_ns)?;
        let batches = places.iter().map(|place| {
            let mut batch = fabric::attached(place);
            if place.kind != PlaceKind::Client {
                let others = self.nodes.iter().filter(|node| node.name != place.name);
                fabric::pod_routes(&mut batch, others);
            }
            (place.netns.clone(), batch)
        });
        Batch::run_all(&batches.collect::<Vec<_>>())
    }

    /// Places on the fabric.
    fn attached(&self) -> impl Iterator<Item = &Place> {
        [&self.control, &self.client].into_iter().chain(self.nodes.iter().map(|node| &node.place))
    }

    /// A pod that is only names and addresses yet.
    fn new_pod(&self, node: &Node, name: &str, index: u8, cgroup: PathBuf) -> Result<Pod> {
        cgroup::create(&cgroup)?;
        let (v4, v6) = address::pod(node.index, index);
        let place = Place {
            name: name.to_owned(),
            kind: PlaceKind::Pod,
            netns: Netns::named(format!("{}-{name}", self.id().prefix())),
            cgroup,
            v4,
            v6,
            logs: self.dir.join("logs"),
        };
        Ok(Pod::wired(node, format!("veth{index}"), place))
    }

    /// Namespaces and veth pairs of pods.
    fn wire_pods(&self, pods: &[Pod]) -> Result<()> {
        let mut create = Batch::default();
        for pod in pods {
            create.line(format!("netns add {}", pod.netns.name()));
        }
        create.run()?;
        pods.iter().try_for_each(|pod| fabric::configure(&pod.netns, false))?;
        let mut node_ends = Vec::new();
        let mut pod_ends = Vec::new();
        for node in &self.nodes {
            let mut batch = Batch::default();
            for pod in pods.iter().filter(|pod| pod.node == node.name) {
                fabric::node_end(&mut batch, node, &pod.veth, &pod.place);
                pod_ends.push((pod.netns.clone(), fabric::pod_end(node, (pod.v4, pod.v6))));
            }
            node_ends.push((node.netns.clone(), batch));
        }
        Batch::run_all(&node_ends)?;
        Batch::run_all(&pod_ends)
    }

    /// Starts all servers side by side, then waits for each.
    fn serve_all(&self, pods: &[Pod], ports: &[u16]) -> Result<()> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).extend(pods.iter().cloned());
        if ports.is_empty() {
            return Ok(());
        }
        let spec = ServeSpec::on(ports);
        let starting = pods.iter().map(|pod| pod.place.start_serving(&spec));
        let starting: Vec<_> = starting.collect::<Result<_>>()?;
        for (pod, server) in pods.iter().zip(starting) {
            pod.adopt_server(server.listening()?);
        }
        Ok(())
    }

    /// Tells the state file which places there are.
    fn save(&self) -> Result<()> {
        let pods = self.pods();
        let places = self.attached().chain(pods.iter().map(|pod| &pod.place));
        let mut state = self.state();
        state.places = places.cloned().collect();
        state.save()
    }

    /// The state, whatever a panicking test did to its lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.state().keep {
            self.pods().iter().for_each(Pod::leave);
            return;
        }
        if let Err(error) = state::remove(&self.id()) {
            eprintln!("{error:#}");
        }
    }
}
