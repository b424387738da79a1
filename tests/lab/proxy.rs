// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What balances on a node: Sluice, or kube-proxy in one of its modes.

use std::{path::Path, time::Duration};

use anyhow::Result;
use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::{
    agent::{Agent, AgentSpec},
    kube_proxy::{KubeProxy, ProxyMode},
    node::Node,
    process::Process,
};

/// A way to balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// lb-agent.
    Sluice,
    /// kube-proxy in nftables mode.
    Nftables,
    /// kube-proxy in iptables mode.
    Iptables,
}

/// A proxy that runs on a node. Dropping it kills the process.
#[derive(Debug)]
pub enum Running {
    /// lb-agent.
    Sluice(Box<Agent>),
    /// kube-proxy.
    KubeProxy(Box<KubeProxy>),
}

impl Proxy {
    /// All.
    pub const ALL: [Self; 3] = [Self::Sluice, Self::Nftables, Self::Iptables];

    /// What tables and pages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sluice => "Sluice",
            Self::Nftables => "kube-proxy nftables",
            Self::Iptables => "kube-proxy iptables",
        }
    }

    /// Starts it on a node with these flags beside who and where it is, without waiting.
    pub fn spawn(self, node: &Node, kubeconfig: &Path, flags: &[&str]) -> Result<Running> {
        let mode = match self {
            Self::Sluice => {
                let spec = AgentSpec::kubeconfig(kubeconfig);
                let spec = flags.iter().fold(spec, AgentSpec::arg);
                return Ok(Running::Sluice(Agent::spawn(node, &spec)?.into()));
            }
            Self::Nftables => ProxyMode::Nftables,
            Self::Iptables => ProxyMode::Iptables,
        };
        let proxy = KubeProxy::spawn_with(node, kubeconfig, mode, flags)?;
        Ok(Running::KubeProxy(proxy.into()))
    }
}

impl Running {
    /// Waits until what was there at its start is in force.
    ///
    /// # Errors
    /// When it ends, or `limit` has passed.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        match self {
            Self::Sluice(agent) => agent.wait_ready(limit),
            Self::KubeProxy(proxy) => proxy.wait_healthy(limit),
        }
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        match self {
            Self::Sluice(agent) => agent.process(),
            Self::KubeProxy(proxy) => proxy.process(),
        }
    }

    /// Stops it where it stands, so that it takes no time from another's measurement.
    pub fn sleep(&mut self) -> Result<()> {
        self.process().signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn wake(&mut self) -> Result<()> {
        self.process().signal(Signal::SIGCONT)
    }

    /// The end of its log, for an error message.
    pub fn tail(&mut self) -> String {
        self.process().log_tail()
    }
}
