// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show flows`: a row for each flow of a client outside.

use std::{collections::BTreeMap, net::SocketAddr};

use lb_common::{
    addr::Addr,
    be::Be16,
    flow::{FlowEntry, FlowFlags, FlowKey, Phase},
};
use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::view::{self, View},
    plan::tables::Tables,
};

/// A flow.
#[derive(Debug, Serialize)]
struct FlowRow {
    /// Who dialled.
    client: String,
    /// TCP or UDP.
    protocol: String,
    /// What was dialled.
    frontend: String,
    /// Where it goes.
    backend: String,
    /// As whom the backend sees the client: itself, or this node.
    source: String,
    /// Whether the backend is on this node.
    local: bool,
    /// How far it has come.
    phase: &'static str,
    /// Seconds since the last packet.
    idle_secs: u64,
    /// Seconds without a packet after which it is forgotten.
    timeout_secs: u32,
    /// The service port.
    service: String,
}

/// Prints the flows.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    let now_ns = view::now_ns();
    let mut rows = rows(&view.tables()?, &view.flows()?, now_ns);
    rows.sort_by(|one, other| {
        (&one.frontend, &one.protocol, &one.client).cmp(&(
            &other.frontend,
            &other.protocol,
            &other.client,
        ))
    });
    output::print(&rows, format)
}

/// A row for each flow, whichever of its halves is there.
fn rows(tables: &Tables, halves: &[(FlowKey, FlowEntry)], now_ns: u64) -> Vec<FlowRow> {
    let by_key: BTreeMap<_, _> = halves.iter().map(|(key, half)| (key, half)).collect();
    let flows = halves.iter().filter_map(|(key, half)| {
        let other = by_key.get(&half.other_key()).copied();
        let is_reply = half.flags().contains(FlowFlags::REPLY);
        match (is_reply, other) {
            (false, _) => Some(row(tables, key, half, other, now_ns)),
            // Its other half has the row.
            (true, Some(_)) => None,
            (true, None) => {
                let forward = half.other(key);
                Some(row(tables, &half.other_key(), &forward, Some(half), now_ns))
            }
        }
    });
    flows.collect()
}

fn row(
    tables: &Tables,
    key: &FlowKey,
    forward: &FlowEntry,
    reply: Option<&FlowEntry>,
    now_ns: u64,
) -> FlowRow {
    let seen = reply.map(FlowEntry::seen).unwrap_or_default();
    let phase = Phase::of(key.protocol, forward.seen(), seen);
    let last = forward.last_seen_ns.max(reply.map_or(0, |reply| reply.last_seen_ns));
    let service = tables.names.get(&forward.service_id);
    FlowRow {
        client: text(key.source, key.source_port),
        protocol: key.protocol.to_string(),
        frontend: text(key.destination, key.destination_port),
        backend: text(forward.to.destination, forward.to.destination_port),
        source: text(forward.to.source, forward.to.source_port),
        local: forward.flags().contains(FlowFlags::LOCAL),
        phase: phase.name(),
        idle_secs: now_ns.saturating_sub(last) / 1_000_000_000,
        timeout_secs: phase.timeout_secs(),
        service: service.map_or_else(|| forward.service_id.to_string(), ToString::to_string),
    }
}

fn text(address: Addr, port: Be16) -> String {
    SocketAddr::new(address.to_ip(), port.to_host()).to_string()
}

impl Row for FlowRow {
    const TITLES: &'static [&'static str] =
        &["CLIENT", "PROTOCOL", "FRONTEND", "BACKEND", "SEEN AS", "PHASE", "IDLE", "SERVICE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.client.clone(),
            self.protocol.clone(),
            self.frontend.clone(),
            self.backend.clone(),
            self.source.clone(),
            self.phase.to_owned(),
            format!("{} of {} s", self.idle_secs, self.timeout_secs),
            self.service.clone(),
        ]
    }
}
