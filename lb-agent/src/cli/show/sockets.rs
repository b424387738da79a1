// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show sockets`: a row for each frontend that a socket dialled.

use std::net::SocketAddr;

use lb_common::{
    be::Be16,
    socket::{Dialled, Held, SocketRecord},
};
use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::view::View,
    plan::tables::Tables,
};

/// A socket, what it dialled and what it got.
#[derive(Debug, Serialize)]
struct SocketRow {
    /// The socket's cookie, as `ss --extended` shows it (there in hexadecimal).
    cookie: u64,
    /// connect() or sendto().
    call: &'static str,
    /// What was dialled.
    frontend: String,
    /// What it became.
    backend: String,
    /// The backend's state; "gone" if its index has passed to another.
    state: &'static str,
}

/// Prints the sockets.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    let tables = view.tables()?;
    let mut rows: Vec<_> =
        view.sockets()?.iter().flat_map(|record| rows(&tables, record)).collect();
    rows.sort_by_key(|row| row.cookie);
    output::print(&rows, format)
}

fn rows(tables: &Tables, record: &SocketRecord) -> impl Iterator<Item = SocketRow> {
    let SocketRecord { connected, connected_port, datagram, datagram_port, .. } = *record;
    let halves = [
        (Held::CONNECTED, "connect", connected, connected_port),
        (Held::DATAGRAM, "sendto", datagram, datagram_port),
    ];
    let held = halves.into_iter().filter(|(flag, ..)| record.held().contains(*flag));
    held.map(|(_, call, dialled, port)| row(tables, record.owner, call, dialled, port))
}

fn row(
    tables: &Tables,
    cookie: u64,
    call: &'static str,
    dialled: Dialled,
    port: Be16,
) -> SocketRow {
    let backend = tables.backends.at(dialled.backend);
    let gone = backend.life.generation != dialled.generation;
    SocketRow {
        cookie,
        call,
        frontend: SocketAddr::new(dialled.address.to_ip(), port.to_host()).to_string(),
        backend: SocketAddr::new(backend.address.to_ip(), backend.life.port.to_host()).to_string(),
        state: if gone { "gone" } else { backend.life.state().name() },
    }
}

impl Row for SocketRow {
    const TITLES: &'static [&'static str] = &["COOKIE", "CALL", "FRONTEND", "BACKEND", "STATE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.cookie.to_string(),
            self.call.to_owned(),
            self.frontend.clone(),
            self.backend.clone(),
            self.state.to_owned(),
        ]
    }
}
