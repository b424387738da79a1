// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show affinity`: a row for each ClientIP pin.

use std::net::SocketAddr;

use lb_common::affinity::{AffinityKey, AffinityPin};
use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::view::{self, View},
    plan::tables::Tables,
};

/// A client and the backend it is pinned to.
#[derive(Debug, Serialize)]
struct PinRow {
    /// The service port.
    service: String,
    /// The client's address, or its network namespace's cookie.
    client: String,
    /// The backend.
    backend: String,
    /// Seconds since the client last opened a connection.
    idle_secs: u64,
    /// Whether the backend still is what was pinned.
    live: bool,
}

/// Prints the pins.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    let tables = view.tables()?;
    let now_ns = view::now_ns();
    let mut rows: Vec<_> =
        view.pins()?.iter().map(|(key, pin)| row(&tables, key, pin, now_ns)).collect();
    rows.sort_by(|one, other| (&one.service, &one.client).cmp(&(&other.service, &other.client)));
    output::print(&rows, format)
}

fn row(tables: &Tables, key: &AffinityKey, pin: &AffinityPin, now_ns: u64) -> PinRow {
    let backend = tables.backends.at(pin.backend);
    let name = tables.names.get(&key.service_id);
    PinRow {
        service: name.map_or_else(|| key.service_id.to_string(), ToString::to_string),
        client: key
            .namespace_cookie()
            .map_or_else(|| key.client.to_string(), |cookie| format!("netns {cookie}")),
        backend: SocketAddr::new(backend.address.to_ip(), backend.life.port.to_host()).to_string(),
        idle_secs: now_ns.saturating_sub(pin.last_seen_ns) / 1_000_000_000,
        live: backend.life.keeps(pin.generation),
    }
}

impl Row for PinRow {
    const TITLES: &'static [&'static str] = &["SERVICE", "CLIENT", "BACKEND", "IDLE", "LIVE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.service.clone(),
            self.client.clone(),
            self.backend.clone(),
            format!("{}s", self.idle_secs),
            if self.live { "yes" } else { "no" }.to_owned(),
        ]
    }
}
