// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What balances on a node: nothing, Sluice, or kube-proxy in one of its modes.

use std::{path::Path, time::Duration};

use anyhow::Result;
use clap::ValueEnum;
use lab::{
    agent::{Agent, AgentSpec},
    cluster::{Cluster, User},
    kube_proxy::{KubeProxy, ProxyMode},
    node::Node,
    process::Process,
};
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::machine::Memory;

/// A way to balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Proxy {
    /// lb-agent.
    Sluice,
    /// kube-proxy in nftables mode.
    Nftables,
    /// kube-proxy in iptables mode.
    Iptables,
}

/// A proxy that runs on a node.
#[derive(Debug)]
pub(crate) enum Running {
    /// lb-agent.
    Sluice(Box<Agent>),
    /// kube-proxy.
    KubeProxy(Box<KubeProxy>),
}

impl Proxy {
    /// All.
    pub(crate) const ALL: [Self; 3] = [Self::Sluice, Self::Nftables, Self::Iptables];

    /// What tables call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sluice => "Sluice",
            Self::Nftables => "kube-proxy nftables",
            Self::Iptables => "kube-proxy iptables",
        }
    }

    /// Starts it on a node, without waiting. What it allocates is charged to `memory`: it
    /// has allocated nothing to speak of before it is there.
    pub(crate) fn spawn(self, node: &Node, cluster: &Cluster, memory: &Memory) -> Result<Running> {
        let kubeconfig = cluster.kubeconfig(User::Admin);
        match self {
            Self::Sluice => {
                let mut agent = Agent::spawn(node, &AgentSpec::kubeconfig(&kubeconfig))?;
                memory.take_in(agent.process().pid())?;
                Ok(Running::Sluice(Box::new(agent)))
            }
            Self::Nftables => kube_proxy(node, &kubeconfig, ProxyMode::Nftables, memory),
            Self::Iptables => kube_proxy(node, &kubeconfig, ProxyMode::Iptables, memory),
        }
    }
}

impl Running {
    /// Its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        match self {
            Self::Sluice(agent) => agent.process(),
            Self::KubeProxy(proxy) => proxy.process(),
        }
    }

    /// Stops it where it stands, so that it takes no time from another's measurement.
    pub(crate) fn sleep(&mut self) -> Result<()> {
        self.process().signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub(crate) fn wake(&mut self) -> Result<()> {
        self.process().signal(Signal::SIGCONT)
    }

    /// The end of its log, for an error message.
    pub(crate) fn tail(&mut self) -> String {
        self.process().log_tail()
    }
}

/// kube-proxy on a node.
fn kube_proxy(node: &Node, kubeconfig: &Path, mode: ProxyMode, memory: &Memory) -> Result<Running> {
    let mut proxy = KubeProxy::spawn(node, kubeconfig, mode)?;
    memory.take_in(proxy.process().pid())?;
    Ok(Running::KubeProxy(Box::new(proxy)))
}

/// How long a proxy may take to serve everything.
pub(crate) const START_LIMIT: Duration = Duration::from_mins(4);
