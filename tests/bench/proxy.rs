// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts what balances on a node.

use std::time::Duration;

use anyhow::Result;
use lab::{
    cluster::{Cluster, User},
    kube_proxy::KubeProxy,
    node::Node,
    proxy::{Proxy, Running},
};

use crate::machine::Memory;

/// Starts a proxy on a node, without waiting. What it allocates is charged to `memory`: it
/// has allocated nothing to speak of before it is there.
pub(crate) fn spawn(
    proxy: Proxy,
    node: &Node,
    cluster: &Cluster,
    memory: &Memory,
) -> Result<Running> {
    let cluster_cidr = KubeProxy::cluster_cidr();
    let flags: &[&str] = match proxy {
        Proxy::Sluice => &[],
        Proxy::Nftables | Proxy::Iptables => &[&cluster_cidr],
    };
    let mut running = proxy.spawn(node, &cluster.kubeconfig(User::Admin), flags)?;
    memory.take_in(running.process().pid())?;
    Ok(running)
}

/// How long a proxy may take to serve everything.
pub(crate) const START_LIMIT: Duration = Duration::from_mins(4);
