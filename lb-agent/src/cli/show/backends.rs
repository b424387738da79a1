// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show backends`: a row for each backend in use.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use lb_common::backend::{Backend, BackendFlags, State};
use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::view::View,
    plan::tables::Tables,
};

/// A backend, what it may be used for, and by whom.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct BackendRow {
    /// Address and port.
    backend: String,
    /// TCP, UDP or SCTP.
    protocol: String,
    /// active, terminating or dead.
    state: &'static str,
    /// On this node.
    local: bool,
    /// Sockets that use it now.
    sockets: u64,
    /// Service ports whose sets hold it.
    services: Vec<String>,
    /// Index into BACKENDS.
    index: u32,
    /// The index's generation.
    generation: u32,
}

/// Prints the backends.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    output::print(&rows(&view.tables()?, |index| view.load(index)), format)
}

/// A row for each backend whose index is in use, by address. `load` gives an index's
/// number of sockets.
pub(in crate::cli) fn rows(tables: &Tables, load: impl Fn(u32) -> u64) -> Vec<BackendRow> {
    let users = users(tables);
    let mut rows: Vec<_> = tables
        .backends
        .iter()
        .filter(|(index, backend)| is_shown(backend.life.state(), load(*index)))
        .map(|(index, backend)| {
            let services = users.get(&index).into_iter().flatten().map(ToString::to_string);
            (key(&backend), row(index, &backend, load(index), services.collect()))
        })
        .collect();
    rows.sort_by_key(|(address, _)| *address);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// A dead backend without sockets is a free index that remembers its generation.
const fn is_shown(state: State, sockets: u64) -> bool {
    match state {
        State::Free => false,
        State::Dead => sockets > 0,
        State::Active | State::Terminating => true,
    }
}

/// Names of the service ports in whose sets each backend is.
fn users(tables: &Tables) -> BTreeMap<u32, BTreeSet<&str>> {
    let mut users: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for (_, record) in tables.services.iter() {
        let Some(name) = tables.names.get(&record.id) else {
            continue;
        };
        for set in [record.inside, record.outside] {
            for slot in tables.members_of(set) {
                users.entry(slot.backend).or_default().insert(name);
            }
        }
    }
    users
}

fn row(index: u32, backend: &Backend, sockets: u64, services: Vec<String>) -> BackendRow {
    BackendRow {
        backend: key(backend).to_string(),
        protocol: backend.life.protocol.to_string(),
        state: backend.life.state().name(),
        local: backend.flags().contains(BackendFlags::LOCAL),
        sockets,
        services,
        index,
        generation: backend.life.generation,
    }
}

fn key(backend: &Backend) -> SocketAddr {
    SocketAddr::new(backend.address.to_ip(), backend.life.port.to_host())
}

impl Row for BackendRow {
    const TITLES: &'static [&'static str] =
        &["BACKEND", "PROTO", "STATE", "NODE", "SOCKETS", "SERVICES", "INDEX", "GENERATION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.backend.clone(),
            self.protocol.clone(),
            self.state.to_owned(),
            if self.local { "this" } else { "other" }.to_owned(),
            self.sockets.to_string(),
            self.services.join(","),
            self.index.to_string(),
            self.generation.to_string(),
        ]
    }
}
