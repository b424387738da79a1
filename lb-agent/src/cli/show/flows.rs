// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show flows`: a row for each flow of a client outside, or how many there are.
//!
//! FLOWS may hold a million: it is read piece by piece, and no more rows are kept than are
//! printed.

mod select;

use std::{collections::BTreeMap, io, net::SocketAddr};

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

pub(super) use self::select::Select;

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
    /// Whether packets go on unchanged to the backend's node, and replies another way.
    direct: bool,
    /// How far it has come.
    phase: &'static str,
    /// Seconds since the last packet.
    idle_secs: u64,
    /// Seconds without a packet after which it is forgotten.
    timeout_secs: u32,
    /// The service port.
    service: String,
}

/// How many flows a service port has in a phase.
#[derive(Debug, Serialize)]
struct TotalRow {
    /// The service port.
    service: String,
    /// How far they have come.
    phase: &'static str,
    /// How many.
    flows: u64,
}

/// A flow, from both its halves.
struct Flow<'a> {
    key: &'a FlowKey,
    forward: &'a FlowEntry,
    /// What the reply's half knows, if that is there.
    reply: Option<&'a FlowEntry>,
}

/// Prints the flows that are asked for, in the order of their frontends.
pub(super) fn print(view: &View, format: Format, select: &Select) -> anyhow::Result<()> {
    let (tables, now_ns) = (view.tables()?, view::now_ns());
    if select.totals {
        return output::print(&totals(view, &tables, select)?, format);
    }
    let (mut rows, mut more) = (Vec::new(), 0_u64);
    each(view, select, &tables, |flow| {
        if rows.len() < select.most() {
            rows.push(flow.row(&tables, now_ns));
        } else {
            more += 1;
        }
        Ok(())
    })?;
    rows.sort_by(|one, other| {
        (&one.frontend, &one.protocol, &one.client).cmp(&(
            &other.frontend,
            &other.protocol,
            &other.client,
        ))
    });
    output::print(&rows, format)?;
    if more > 0 {
        eprintln!("and {more} more: narrow them down, or give --limit 0 for all");
    }
    Ok(())
}

/// How many flows there are, by service port and phase.
fn totals(view: &View, tables: &Tables, select: &Select) -> anyhow::Result<Vec<TotalRow>> {
    let mut counts = BTreeMap::<_, u64>::new();
    each(view, select, tables, |flow| {
        *counts.entry((flow.forward.service_id, flow.phase())).or_default() += 1;
        Ok(())
    })?;
    let mut rows: Vec<_> = counts
        .into_iter()
        .map(|((service, phase), flows)| TotalRow {
            service: name(tables, service),
            phase: phase.name(),
            flows,
        })
        .collect();
    rows.sort_by(|one, other| (other.flows, &one.service).cmp(&(one.flows, &other.service)));
    Ok(rows)
}

/// Hands each flow that is asked for to a function, whichever of its halves is there.
fn each(
    view: &View,
    select: &Select,
    tables: &Tables,
    mut take: impl FnMut(&Flow<'_>) -> io::Result<()>,
) -> anyhow::Result<()> {
    view.each_half(|key, half, other| {
        let is_reply = half.flags().contains(FlowFlags::REPLY);
        let (forward_key, forward) =
            if is_reply { (half.other_key(), half.other(key)) } else { (*key, *half) };
        if !select.wants(&forward_key, &forward, tables) {
            return Ok(());
        }
        if half.flags().contains(FlowFlags::DIRECT) {
            return take(&Flow { key, forward: half, reply: None });
        }
        let other = other(&half.other_key())?;
        match (is_reply, &other) {
            // Its other half has the row.
            (true, Some(_)) => Ok(()),
            (true, None) => take(&Flow { key: &forward_key, forward: &forward, reply: Some(half) }),
            (false, other) => take(&Flow { key, forward: half, reply: other.as_ref() }),
        }
    })?;
    Ok(())
}

impl Flow<'_> {
    /// Whether packets go on unchanged, and replies another way.
    const fn is_direct(&self) -> bool {
        self.forward.flags().contains(FlowFlags::DIRECT)
    }

    fn phase(&self) -> Phase {
        if self.is_direct() {
            return Phase::one_way(self.key.protocol, self.forward.seen());
        }
        let seen = self.reply.map(FlowEntry::seen).unwrap_or_default();
        Phase::of(self.key.protocol, self.forward.seen(), seen)
    }

    fn row(&self, tables: &Tables, now_ns: u64) -> FlowRow {
        let Self { key, forward, reply } = self;
        let phase = self.phase();
        let last = forward.last_seen_ns.max(reply.map_or(0, |reply| reply.last_seen_ns));
        FlowRow {
            client: text(key.source, key.source_port),
            protocol: key.protocol.to_string(),
            frontend: text(key.destination, key.destination_port),
            backend: text(forward.to.destination, forward.to.destination_port),
            source: text(forward.to.source, forward.to.source_port),
            direct: self.is_direct(),
            local: forward.flags().contains(FlowFlags::LOCAL),
            phase: phase.name(),
            idle_secs: now_ns.saturating_sub(last) / 1_000_000_000,
            timeout_secs: phase.timeout_secs(),
            service: name(tables, forward.service_id),
        }
    }
}

/// The service port with an id, or the id.
fn name(tables: &Tables, service_id: u32) -> String {
    let name = tables.names.get(&service_id);
    name.map_or_else(|| service_id.to_string(), ToString::to_string)
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
            if self.direct { format!("{} direct", self.source) } else { self.source.clone() },
            self.phase.to_owned(),
            format!("{} of {} s", self.idle_secs, self.timeout_secs),
            self.service.clone(),
        ]
    }
}

impl Row for TotalRow {
    const TITLES: &'static [&'static str] = &["SERVICE", "PHASE", "FLOWS"];

    fn cells(&self) -> Vec<String> {
        vec![self.service.clone(), self.phase.to_owned(), self.flows.to_string()]
    }
}
