// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A lab with a control plane, and an agent on each node that watches it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab,
    agent::{Agent, AgentSpec},
    cluster::{Cluster, User},
    kube_proxy::{KubeProxy, ProxyMode},
    node::Node,
    pod::Pod,
    wait,
    wire::Family,
};
use serde_json::Value;

/// A lab, its control plane and an agent a node, with the rights of the deployment.
pub(crate) struct Watched {
    /// By node.
    pub(crate) agents: Vec<Agent>,
    pub(crate) cluster: Cluster,
    pub(crate) lab: Lab,
}

/// A lab with a control plane, the real kube-proxy in nftables mode on its first node and an
/// agent on its second, with the same rights.
pub(crate) struct Beside {
    _proxy: KubeProxy,
    pub(crate) agent: Agent,
    pub(crate) cluster: Cluster,
    pub(crate) lab: Lab,
}

impl Beside {
    /// Starts all on a lab of two nodes.
    pub(crate) fn start(lab: Lab) -> Result<Self> {
        let cluster = Cluster::start(&lab)?;
        let admin = cluster.kubeconfig(User::Admin);
        let [theirs, ours] = both(&lab);
        let proxy = KubeProxy::start(theirs, &admin, ProxyMode::Nftables, PROXY_LIMIT)?;
        let agent = Agent::start(ours, &AgentSpec::kubeconfig(&admin))?;
        Ok(Self { _proxy: proxy, agent, cluster, lab })
    }

    /// kube-proxy's node and the agent's.
    pub(crate) fn nodes(&self) -> [&Node; 2] {
        both(&self.lab)
    }
}

/// The lab's two nodes.
fn both(lab: &Lab) -> [&Node; 2] {
    let [first, second] = lab.nodes() else { panic!("the lab has two nodes") };
    [first, second]
}

impl Watched {
    /// Two nodes with two pods each, all of `app: web`; the first pod of a node is of
    /// `half: left`, the second of `half: right`.
    pub(crate) fn start() -> Result<Self> {
        let lab = Lab::start()?;
        let cluster = Cluster::start(&lab)?;
        for pod in lab.pods() {
            let half = if pod.name.ends_with('1') { "left" } else { "right" };
            cluster.run_pod(&pod, &[("app", "web"), ("half", half)])?;
        }
        let spec = AgentSpec::kubeconfig(&cluster.agent_kubeconfig()?);
        let start = |node| Agent::start(node, &spec);
        let agents = lab.nodes().iter().map(start).collect::<Result<_>>()?;
        Ok(Self { agents, cluster, lab })
    }

    /// A pod of each node, from which to dial.
    pub(crate) fn clients(&self) -> Result<[Pod; 2]> {
        Ok([self.lab.pod("pod-1-1")?, self.lab.pod("pod-2-1")?])
    }

    /// Waits until a frontend has this set for clients inside, on both nodes.
    pub(crate) fn await_inside(&self, frontend: &impl ToString, set: impl Into<Value>) {
        let (frontend, set) = (frontend.to_string(), set.into());
        for agent in &self.agents {
            await_inside(agent, &frontend, &set);
        }
    }

    /// Waits until a frontend is gone from both nodes.
    pub(crate) fn await_gone(&self, frontend: &impl ToString) {
        let frontend = frontend.to_string();
        for agent in &self.agents {
            let gone = wait::for_value(LIMIT, &format!("{frontend} to be gone"), || {
                let rows = agent.services()?;
                ensure!(rows.iter().all(|row| row.frontend != frontend), "it is there");
                Ok(())
            });
            gone.unwrap();
        }
    }

    /// Runs kubectl as admin.
    #[track_caller]
    pub(crate) fn kubectl<const N: usize>(&self, args: [&str; N]) -> String {
        self.cluster.kubectl(args).unwrap()
    }

    /// `kubectl apply`.
    #[track_caller]
    pub(crate) fn apply(&self, yaml: &str) {
        self.cluster.kubectl_apply(yaml).unwrap();
    }
}

/// Waits until a frontend of an agent has this set.
#[track_caller]
pub(crate) fn await_inside(agent: &Agent, frontend: &str, set: &Value) {
    let has = wait::for_value(LIMIT, &format!("{frontend} to have {set}"), || {
        let rows = agent.services()?;
        let mut rows = rows.iter().filter(|row| row.frontend == frontend).peekable();
        rows.peek().context("it is not there")?;
        let other = rows.find(|row| row.inside != *set);
        ensure!(other.is_none(), "it is {other:?}");
        Ok(())
    });
    has.unwrap_or_else(|error| panic!("{error:#}; the agent says:\n{}", agent.log()));
}

/// Waits until an agent has said something.
#[track_caller]
pub(crate) fn await_log(agent: &Agent, part: &str) {
    let said = wait::until(LIMIT, &format!("the log to say {part}"), || agent.log().contains(part));
    said.unwrap_or_else(|error| panic!("{error}:\n{}", agent.log()));
}

/// Waits until an agent's health server answers, and says that it is alive.
#[track_caller]
pub(crate) fn await_alive(agent: &Agent) {
    wait::until(LIMIT, "the agent's server", || agent.livez().is_ok()).unwrap();
    assert_eq!(agent.livez().unwrap().0, 200);
}

/// Port 80 of the ClusterIP of a family that ends in `number`.
pub(crate) fn vip(family: Family, number: u8) -> SocketAddr {
    lab::served::vip(family, number)
}

/// A dual-stack Service, TCP and UDP 80 to 8080, over the pods with this label; `more` goes
/// into its spec.
pub(crate) fn service(name: &str, number: u8, selector: &str, more: &str) -> String {
    let [v4, v6] = Family::BOTH.map(|family| vip(family, number).ip());
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec:
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv4, IPv6]
  clusterIP: '{v4}'
  clusterIPs: ['{v4}', '{v6}']
  selector: {{ {selector} }}
  ports:
  - {{ name: tcp, port: 80, targetPort: 8080, protocol: TCP }}
  - {{ name: udp, port: 80, targetPort: 8080, protocol: UDP }}
{more}
"
    )
}

/// How long kube-proxy may take to its first rules.
const PROXY_LIMIT: Duration = Duration::from_secs(30);
/// How long controllers and agent may take together.
const LIMIT: Duration = Duration::from_secs(20);
