// SPDX-License-Identifier: Apache-2.0 OR MIT
//! kube-proxy on a node of the lab: the baseline of benchmarks, and a second
//! opinion where behaviour is in doubt.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};

use crate::{address, http, node::Node, process::Process, tools::Tool, wait};

/// How kube-proxy programs the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// nftables.
    Nftables,
    /// iptables.
    Iptables,
}

/// A kube-proxy that runs on a node. Dropping it kills the process; its rules
/// stay in the node's namespace until [`KubeProxy::clean_up`] or the lab's end.
#[derive(Debug)]
pub struct KubeProxy {
    node: Node,
    mode: ProxyMode,
    process: Process,
}

impl ProxyMode {
    /// The value of `--proxy-mode`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

impl KubeProxy {
    /// Starts it on `node`, without waiting.
    pub fn spawn(node: &Node, kubeconfig: &Path, mode: ProxyMode) -> Result<Self> {
        Self::spawn_with(node, kubeconfig, mode, &[&Self::cluster_cidr()])
    }

    /// The flag that tells it which sources are pods.
    pub fn cluster_cidr() -> String {
        format!("--cluster-cidr={}", address::POD_RANGES)
    }

    /// Starts it with these flags beside the mode and who and where it is.
    pub fn spawn_with(
        node: &Node,
        kubeconfig: &Path,
        mode: ProxyMode,
        flags: &[&str],
    ) -> Result<Self> {
        let mut command = node.command(Tool::KubeProxy.path()?)?;
        command.arg("--kubeconfig").arg(kubeconfig).args([
            &format!("--proxy-mode={}", mode.name()),
            &format!("--hostname-override={}", node.name),
        ]);
        command.args([
            // What belongs to the whole machine is not this node's to set.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ]);
        command.args(flags);
        let process = node.spawn("kube-proxy", command)?;
        Ok(Self { node: node.clone(), mode, process })
    }

    /// Starts it and waits until its first sync is done.
    ///
    /// # Errors
    /// When it ends, or is not healthy within `limit`.
    pub fn start(node: &Node, kubeconfig: &Path, mode: ProxyMode, limit: Duration) -> Result<Self> {
        let mut proxy = Self::spawn(node, kubeconfig, mode)?;
        proxy.wait_healthy(limit)?;
        Ok(proxy)
    }

    /// Waits until its first sync is done.
    ///
    /// # Errors
    /// When it ends, or is not healthy within `limit`.
    pub fn wait_healthy(&mut self, limit: Duration) -> Result<()> {
        let what = format!("kube-proxy of {} to be healthy", self.node.name);
        let healthy = wait::for_value(limit, &what, || {
            if !self.process.is_running() {
                return Ok(false);
            }
            match self.node.run(|| http::get(([127, 0, 0, 1], 10256).into(), "/healthz"))?? {
                (200, _) => Ok(true),
                (status, body) => bail!("/healthz said {status}: {body}"),
            }
        });
        match healthy {
            Ok(true) => Ok(()),
            Ok(false) => bail!("kube-proxy ended; {}", self.process.log_tail()),
            Err(error) => Err(error.context(self.process.log_tail())),
        }
    }

    /// Its process: pid, memory, signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it and removes its rules from the node.
    pub fn clean_up(mut self) -> Result<()> {
        self.process.kill()?;
        let mode = format!("--proxy-mode={}", self.mode.name());
        let program = Tool::KubeProxy.path()?;
        self.node.output(&program.to_string_lossy(), [mode.as_str(), "--cleanup"]).map(drop)
    }
}
