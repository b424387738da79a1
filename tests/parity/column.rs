// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A column: what serves on every node, and how each node's proxy is set.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use lab::{
    agent::{Agent, AgentSpec},
    cluster::User,
    kube_proxy::{KubeProxy, ProxyMode},
    node::Node,
};

use crate::bed::Bed;

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Column {
    /// lb-agent.
    Sluice,
    /// kube-proxy in nftables mode.
    Nftables,
    /// kube-proxy in iptables mode.
    Iptables,
}

/// What runs on one node. Dropping it kills the process.
#[derive(Debug)]
pub(crate) enum Running {
    /// lb-agent.
    Sluice(Agent),
    /// kube-proxy.
    KubeProxy(KubeProxy),
}

impl Column {
    /// All.
    pub(crate) const ALL: [Self; 3] = [Self::Sluice, Self::Nftables, Self::Iptables];

    /// What the page calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sluice => "Sluice",
            Self::Nftables => "kube-proxy nftables",
            Self::Iptables => "kube-proxy iptables",
        }
    }

    /// How long a change may take to be in force. kube-proxy gathers changes for a second.
    pub(crate) const fn patience(self) -> Duration {
        match self {
            Self::Sluice => Duration::from_secs(5),
            Self::Nftables | Self::Iptables => Duration::from_secs(12),
        }
    }

    /// Starts it on every node and waits until each says that it is healthy.
    pub(crate) fn start(self, bed: &Bed) -> Result<Vec<Running>> {
        let nodes = bed.lab.nodes().iter();
        let mut running =
            nodes.map(|node| self.spawn(bed, node)).collect::<Result<Vec<Running>>>()?;
        for proxy in &mut running {
            match proxy {
                Running::Sluice(agent) => agent.wait_ready(START_LIMIT)?,
                Running::KubeProxy(proxy) => proxy.wait_healthy(START_LIMIT)?,
            }
        }
        Ok(running)
    }

    /// Starts it on one.
    fn spawn(self, bed: &Bed, node: &Node) -> Result<Running> {
        let kubeconfig = bed.cluster.kubeconfig(User::Admin);
        let mode = match self {
            Self::Sluice => {
                let spec = AgentSpec::kubeconfig(&kubeconfig);
                let spec = agent_flags(node.index).iter().fold(spec, AgentSpec::arg);
                return Ok(Running::Sluice(Agent::spawn(node, &spec)?));
            }
            Self::Nftables => ProxyMode::Nftables,
            Self::Iptables => ProxyMode::Iptables,
        };
        let cluster_cidr = KubeProxy::cluster_cidr();
        let flags: Vec<_> =
            kube_proxy_flags(node.index).iter().map(|flag| flag.unwrap_or(&cluster_cidr)).collect();
        Ok(Running::KubeProxy(KubeProxy::spawn_with(node, &kubeconfig, mode, &flags)?))
    }
}

impl Running {
    /// The end of its log, for an error message.
    pub(crate) fn tail(&mut self) -> String {
        match self {
            Self::Sluice(agent) => agent.process().log_tail(),
            Self::KubeProxy(proxy) => proxy.process().log_tail(),
        }
    }
}

/// How kube-proxy of that node is set; none: the flag with the cluster's CIDRs.
const fn kube_proxy_flags(node: u8) -> &'static [Option<&'static str>] {
    match node {
        3 => &[],
        4 => &[None, Some("--masquerade-all")],
        5 => &[
            None,
            Some(
                "--nodeport-addresses=192.168.50.115/32,fd00:50::73/128,192.168.50.125/32,fd00:50::7d/128",
            ),
            Some("--iptables-localhost-nodeports=false"),
            Some("--feature-gates=AllowServiceExternalIPs=false"),
        ],
        _ => &[None],
    }
}

/// The same for the agent. Nothing at a socket is masqueraded, and whoever opens one on the node
/// is of the node: it has no flags for what kube-proxy of node-3 and node-4 is
/// told.
const fn agent_flags(node: u8) -> &'static [&'static str] {
    match node {
        4 => &["--guard-cluster-ips=false"],
        5 => &[
            "--nodeport-addresses=192.168.50.115/32,fd00:50::73/128,192.168.50.125/32,fd00:50::7d/128",
            "--localhost-nodeports=false",
            "--external-ips=false",
        ],
        _ => &[],
    }
}

/// How long a proxy may take to start.
const START_LIMIT: Duration = Duration::from_mins(1);
