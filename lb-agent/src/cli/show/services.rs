// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show services`: a row for each frontend.

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    be::Be16,
    maps::NodePort,
    protocol::Protocol,
    range::Admission,
    service::{Algorithm, Empty, Service, ServiceFlags, SetWord},
};
use serde::Serialize;

use super::issues;
use crate::{
    cli::output::{self, Format, Row},
    datapath::view::View,
    plan::tables::Tables,
};

/// A frontend and who serves it.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(in crate::cli) struct ServiceRow {
    /// Namespace, name, port and protocol of the service port.
    service: String,
    /// The kind of frontend.
    kind: &'static str,
    /// Address and port; `*` for the node's own addresses.
    frontend: String,
    /// TCP, UDP or SCTP.
    protocol: String,
    /// Backends for clients inside the cluster, or what they get instead.
    inside: Set,
    /// Backends for clients outside it.
    outside: Set,
    /// How one of several backends is picked.
    algorithm: &'static str,
    /// How packets of clients outside get to other nodes' backends: `snat` or `direct`.
    forwarding: &'static str,
    /// The traffic policy that governs this kind of frontend.
    policy: &'static str,
    /// The source ranges outside of which clients get no answer; none for all clients.
    source_ranges: Vec<String>,
    /// ClientIP affinity's timeout in seconds.
    affinity_secs: Option<u32>,
    /// Index into SERVICES.
    index: u32,
    /// The service port's id.
    id: u32,
}

/// How many backends a set has, or what an empty one does.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase", untagged)]
enum Set {
    /// Number of backends.
    Backends(u32),
    /// "refuse" or "silent".
    Empty(&'static str),
}

/// Prints the frontends, and below them what was ignored.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    let tables = view.tables()?;
    output::print(&rows(&tables), format)?;
    issues::print_below(view, format)
}

/// A row for each frontend key and node port, sorted.
pub(in crate::cli) fn rows(tables: &Tables) -> Vec<ServiceRow> {
    let four = tables.frontends4.iter().filter(|(key, _)| !key.is_any_port());
    let four = four.map(|(key, value)| {
        let address = IpAddr::from(key.address.bytes);
        row(tables, value.service, socket(address, key.port), key.protocol)
    });
    let six = tables.frontends6.iter().filter(|(key, _)| !key.is_any_port());
    let six = six.map(|(key, value)| {
        row(tables, value.service, socket(key.address.to_ip(), key.port), key.protocol)
    });
    let node_ports = tables.node_ports.iter().flat_map(|(index, entry)| {
        let (protocol, port) = node_port(*index);
        let NodePort { service4, service6 } = *entry;
        [service4, service6]
            .into_iter()
            .filter(|service| *service != 0)
            .map(move |service| row(tables, service, format!("*:{port}"), protocol))
    });
    let mut rows: Vec<_> = four.chain(six).chain(node_ports).collect();
    rows.sort();
    rows
}

/// Protocol and port of a place in NODEPORTS.
pub(in crate::cli) fn node_port(index: u32) -> (Protocol, u32) {
    let protocol = match index >> 16 {
        0 => Protocol::TCP,
        1 => Protocol::UDP,
        _ => Protocol::SCTP,
    };
    (protocol, index & 0xffff)
}

fn row(tables: &Tables, index: u32, frontend: String, protocol: Protocol) -> ServiceRow {
    let record: Service = tables.services.at(index);
    let affinity = record.flags().contains(ServiceFlags::AFFINITY);
    ServiceRow {
        service: tables.names.get(&record.id).map_or_else(|| "?".to_owned(), ToString::to_string),
        kind: record.flags().kind().name(),
        frontend,
        protocol: protocol.to_string(),
        inside: Set::of(tables, record.inside),
        outside: Set::of(tables, record.outside),
        algorithm: algorithm(&record).name(),
        forwarding: if record.is_direct() { DIRECT } else { SNAT },
        policy: if record.flags().contains(ServiceFlags::LOCAL) { "Local" } else { "Cluster" },
        source_ranges: source_ranges(tables, &record),
        affinity_secs: affinity.then_some(record.affinity_secs),
        index,
        id: record.id,
    }
}

/// The ranges of a record that asks for them, as the Service has them.
fn source_ranges(tables: &Tables, record: &Service) -> Vec<String> {
    let guarded = record.flags().contains(ServiceFlags::SOURCE_RANGES);
    let ranges =
        tables.ranges_of(record.id).filter(|(_, why)| guarded && *why == Admission::LISTED);
    ranges.map(|(range, _)| output::range(&range)).collect()
}

fn socket(address: IpAddr, port: Be16) -> String {
    SocketAddr::new(address, port.to_host()).to_string()
}

/// How one of several backends is picked, by clients outside at least.
pub(in crate::cli) const fn algorithm(record: &Service) -> Algorithm {
    let Service { inside, outside, .. } = *record;
    if outside.count() > 0 { outside.algorithm() } else { inside.algorithm() }
}

impl Set {
    fn of(tables: &Tables, set: SetWord) -> Self {
        match (set.count(), set.on_empty()) {
            (0, Empty::Refuse) => Self::Empty("refuse"),
            (0, Empty::Drop) => Self::Empty("silent"),
            (count, _) if set.algorithm() == Algorithm::Random => Self::Backends(count),
            _ => Self::Backends(u32::try_from(tables.members_of(set).len()).unwrap_or(u32::MAX)),
        }
    }
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Backends(count) => count.fmt(f),
            Self::Empty(what) => f.pad(what),
        }
    }
}

impl Row for ServiceRow {
    const TITLES: &'static [&'static str] = &[
        "SERVICE", "TYPE", "FRONTEND", "PROTO", "BACKENDS", "OUTSIDE", "POLICY", "SOURCES",
        "AFFINITY", "INDEX",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.service.clone(),
            self.kind.to_owned(),
            self.frontend.clone(),
            self.protocol.clone(),
            self.inside.to_string(),
            self.outside.to_string(),
            self.rules(),
            sources(&self.source_ranges),
            self.affinity_secs.map_or_else(|| "-".to_owned(), |secs| format!("{secs}s")),
            self.index.to_string(),
        ]
    }
}

impl ServiceRow {
    /// The policy, and what most Services do not have.
    fn rules(&self) -> String {
        let mut rules = self.policy.to_owned();
        for (rule, usual) in [(self.algorithm, RANDOM), (self.forwarding, SNAT)] {
            if rule != usual {
                rules = format!("{rules},{rule}");
            }
        }
        rules
    }
}

/// Source ranges as a table has them; all of them are in `-o json`.
fn sources(ranges: &[String]) -> String {
    match ranges {
        [] => "-".to_owned(),
        [first, .., last] if ranges.len() > FEW => {
            format!("{first},...,{last} ({} ranges)", ranges.len())
        }
        few => few.join(","),
    }
}

/// As many source ranges as can be read in a table.
const FEW: usize = 16;
const SNAT: &str = "snat";
const DIRECT: &str = "direct";
/// The algorithm that a table does not mention: nearly all have it.
const RANDOM: &str = Algorithm::Random.name();
