// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A column: what serves on every node, and how each node's proxy is set.

use std::time::Duration;

use anyhow::Result;
pub(crate) use lab::proxy::{Proxy as Column, Running};
use lab::{cluster::User, kube_proxy::KubeProxy, node::Node};

use crate::bed::Bed;

/// How long a change may take to be in force. kube-proxy gathers changes for a second.
pub(crate) const fn patience(column: Column) -> Duration {
    match column {
        Column::Sluice => Duration::from_secs(5),
        Column::Nftables | Column::Iptables => Duration::from_secs(12),
    }
}

/// Starts it on every node and waits until each says that it is healthy.
pub(crate) fn start(column: Column, bed: &Bed) -> Result<Vec<Running>> {
    let nodes = bed.lab.nodes().iter();
    let mut running =
        nodes.map(|node| spawn(column, bed, node)).collect::<Result<Vec<Running>>>()?;
    for proxy in &mut running {
        proxy.wait_ready(START_LIMIT)?;
    }
    Ok(running)
}

/// Starts it on one.
fn spawn(column: Column, bed: &Bed, node: &Node) -> Result<Running> {
    let cluster_cidr = KubeProxy::cluster_cidr();
    let flags: Vec<_> = match column {
        Column::Sluice => agent_flags(node.index).to_vec(),
        Column::Nftables | Column::Iptables => {
            let flags = kube_proxy_flags(node.index).iter();
            flags.map(|flag| flag.unwrap_or(&cluster_cidr)).collect()
        }
    };
    column.spawn(node, &bed.cluster.kubeconfig(User::Admin), &flags)
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
