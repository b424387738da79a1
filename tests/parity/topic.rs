// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files of `tests/parity/scenarios`, as they are written.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::outcome::Outcome;

/// One file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topic {
    /// Heading of its table.
    pub(crate) title: String,
    /// What the cases have in common.
    #[serde(default)]
    pub(crate) about: String,
    /// Services.
    pub(crate) cases: Vec<Case>,
}

/// A Service, its endpoints, and who meets what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Case {
    /// Name of the Service; no other case has it.
    pub(crate) name: String,
    /// What is special about it.
    pub(crate) about: String,
    /// The objects at first.
    #[serde(flatten)]
    pub(crate) objects: Objects,
    /// What holds at first.
    #[serde(default)]
    pub(crate) rows: Vec<Row>,
    /// Changes, one after another.
    #[serde(default)]
    pub(crate) then: Vec<Step>,
}

/// What a case asks the API server to hold. In a change, what is not named stays.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Objects {
    /// Fields of the Service's spec, in place of or beside [`crate::objects`]' own.
    pub(crate) service: Option<Map<String, Value>>,
    /// Labels of the Service; null takes one away.
    pub(crate) labels: Option<Map<String, Value>>,
    /// Families that it has; both unless said.
    pub(crate) families: Option<Vec<Net>>,
    /// Load balancer addresses in its status.
    pub(crate) ingress: Option<Vec<Ingress>>,
    /// Names of addresses ([`crate::address`]) in its spec.
    pub(crate) external_ips: Option<Vec<String>>,
    /// Its endpoints.
    pub(crate) endpoints: Option<Vec<Listed>>,
    /// Ports of its slices: as the Service's unless said.
    pub(crate) slice_ports: Option<Vec<Value>>,
    /// Labels of its slices; null takes one away.
    pub(crate) slice_labels: Option<Map<String, Value>>,
    /// Processes of node-1 that listen on the Service's node port.
    #[serde(default)]
    pub(crate) listener: bool,
    /// Names of addresses that a device of node-1 has as well.
    #[serde(default)]
    pub(crate) on_node: Vec<String>,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Net {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// A load balancer address.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Ingress {
    /// A name, ipMode unset.
    Plain(String),
    /// With a mode, or a host name alone.
    Full {
        /// A name; none: a host name is all there is.
        at: Option<String>,
        /// `ipMode`.
        mode: Option<String>,
    },
}

/// An endpoint: a ready one by its name, or with all that can be said of one.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Listed {
    /// A server that is ready.
    Ready(String),
    /// Anything else.
    Full(Box<Endpoint>),
}

/// An endpoint with its conditions. What is null or absent is so in the slice.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    /// The server.
    pub(crate) pod: String,
    /// `conditions.ready`
    pub(crate) ready: Option<bool>,
    /// `conditions.serving`
    pub(crate) serving: Option<bool>,
    /// `conditions.terminating`
    pub(crate) terminating: Option<bool>,
    /// `hints.forZones`
    #[serde(default)]
    pub(crate) zones: Vec<String>,
    /// `hints.forNodes`
    #[serde(default)]
    pub(crate) nodes: Vec<String>,
    /// `nodeName`: the server's own node unless said; empty: none.
    pub(crate) node: Option<String>,
    /// Which of the Service's slices it is in.
    #[serde(default)]
    pub(crate) slice: u8,
    /// Port in place of the slice's number; such endpoints have a slice of their own.
    pub(crate) port: Option<u16>,
    /// Families in which it is listed; those of the Service unless said.
    pub(crate) families: Option<Vec<Net>>,
    /// Servers whose addresses follow the first in the same endpoint.
    #[serde(default)]
    pub(crate) more: Vec<String>,
}

/// Who meets what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Row {
    /// Rules that it proves of Sluice.
    #[serde(default)]
    pub(crate) rules: Vec<String>,
    /// Rules that Sluice will keep when it has the packet path.
    #[serde(default)]
    pub(crate) waiting: Vec<String>,
    /// Rules that Sluice should keep today, and does not.
    #[serde(default)]
    pub(crate) missing: Vec<String>,
    /// Client places: `pod-1`, `host-2`, `outside`, or a server.
    pub(crate) from: Vec<String>,
    /// What each of them dials; `a + b` dials both in turn.
    pub(crate) dial: Vec<String>,
    /// Families to dial in: all of the Service unless said.
    pub(crate) families: Option<Vec<Net>>,
    /// Kinds of socket: TCP and connected UDP unless said.
    pub(crate) sockets: Option<Vec<Socket>>,
    /// Milliseconds that a client is idle between two exchanges; none unless said.
    #[serde(default)]
    pub(crate) idle_ms: u64,
    /// Whether a connection that is made now goes on answering through all later changes.
    #[serde(default)]
    pub(crate) kept: bool,
    /// The pod that answers a UDP socket that exchanges datagrams through all later changes, in
    /// place of the one that did at first.
    pub(crate) moves_to: Option<String>,
    /// What they meet.
    pub(crate) expect: Outcome,
    /// What they meet with kube-proxy, where that differs.
    pub(crate) kube_proxy: Option<Outcome>,
    /// What they meet with kube-proxy in nftables mode, where that differs.
    pub(crate) nftables: Option<Outcome>,
    /// What they meet with kube-proxy in iptables mode, where that differs.
    pub(crate) iptables: Option<Outcome>,
    /// Lines of docs/deviations.md that explain the difference.
    #[serde(default)]
    pub(crate) because: Vec<String>,
    /// What is to be noticed.
    #[serde(default)]
    pub(crate) about: String,
}

/// A kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Socket {
    /// TCP.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP, connected.
    #[serde(rename = "UDP")]
    Udp,
    /// UDP, each datagram with its destination.
    #[serde(rename = "UDP-sendto")]
    SendTo,
    /// TCP of an IPv6 socket that dials an IPv4 address as `::ffff:a.b.c.d`.
    #[serde(rename = "TCP-mapped")]
    TcpMapped,
    /// UDP, connected, likewise.
    #[serde(rename = "UDP-mapped")]
    UdpMapped,
    /// TCP, and a `GET /` over it, to a port that answers with its node's health.
    #[serde(rename = "HTTP")]
    Http,
}

/// A change, and what holds after it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Step {
    /// What changes.
    pub(crate) about: String,
    /// The objects that change.
    #[serde(flatten)]
    pub(crate) objects: Objects,
    /// Removes the Service and its slices instead.
    #[serde(default)]
    pub(crate) delete: bool,
    /// Nodes that get the address `node-N-third` (true) or lose it; then every proxy
    /// evaluates everything again.
    #[serde(default)]
    pub(crate) third_address: BTreeMap<String, bool>,
    /// Labels of nodes, by node; null takes one away.
    #[serde(default)]
    pub(crate) node_labels: BTreeMap<String, Map<String, Value>>,
    /// What holds then.
    #[serde(default)]
    pub(crate) rows: Vec<Row>,
}

/// Reads all files of a directory, by name.
///
/// # Errors
/// Names the file that is not in order.
pub(crate) fn read(dir: &Path) -> Result<Vec<Topic>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file)?;
            serde_saphyr::from_str(&text)
                .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
        })
        .collect()
}
