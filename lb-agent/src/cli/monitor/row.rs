// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An event as a person reads it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use lb_common::{
    addr::Addr,
    be::Be16,
    counter::Counter,
    event::{Event, EventKind},
    key::{FrontendKey4, FrontendKey6},
    translate::Destination,
};
use serde::Serialize;

use crate::{
    cli::output::Row,
    datapath::{
        syscall,
        view::{self, View, ViewError},
    },
    plan::tables::Tables,
};

/// One event.
#[derive(Debug, Serialize)]
pub(super) struct EventRow {
    /// When, in UTC.
    time: String,
    /// `new`, `dropped`, `refused` or `answered`.
    what: &'static str,
    /// The counter that was counted.
    reason: &'static str,
    /// Who sent it: an address and port; of a socket `host` or `pod`.
    from: String,
    /// What was dialled.
    frontend: String,
    /// TCP, UDP or SCTP.
    protocol: String,
    /// A new flow's backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    /// The service port, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// The device that a packet was on.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

/// What numbers of events mean.
#[derive(Debug)]
pub(super) struct Names {
    view: View,
    tables: Tables,
    read: Instant,
    devices: BTreeMap<u32, String>,
    /// Cookie of the node's own network namespace.
    host: u64,
    /// What CLOCK_MONOTONIC is behind the time of day.
    behind: Duration,
}

impl Names {
    /// From the maps as they are now.
    pub(super) fn new(view: View) -> Result<Self, ViewError> {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let up = Duration::from_nanos(view::now_ns());
        Ok(Self {
            tables: view.tables()?,
            view,
            read: Instant::now(),
            devices: BTreeMap::new(),
            host: syscall::netns_cookie().unwrap_or_default(),
            behind: since_epoch.unwrap_or_default().saturating_sub(up),
        })
    }

    /// Follows an agent that made its maps anew.
    pub(super) fn reopen(&mut self) -> Result<(), ViewError> {
        self.view = View::open(self.view.root())?;
        self.tables = self.view.tables()?;
        Ok(())
    }

    fn time(&self, time_ns: u64) -> String {
        let time = SystemTime::UNIX_EPOCH + self.behind + Duration::from_nanos(time_ns);
        humantime::format_rfc3339_millis(time).to_string()
    }

    /// The service port of an event. What the maps did not have is looked for again after a
    /// while: a Service may be newer than the last look.
    fn service(&mut self, event: &Event) -> Option<String> {
        if let Some(name) = service(&self.tables, event) {
            return Some(name);
        }
        if self.read.elapsed() > STALE {
            self.read = Instant::now();
            self.tables = self.view.tables().ok()?;
        }
        service(&self.tables, event)
    }

    fn device(&mut self, index: u32) -> Option<String> {
        if index == 0 {
            return None;
        }
        let name = self.devices.entry(index);
        let name = name
            .or_insert_with(|| syscall::device_name(index).unwrap_or_else(|_| index.to_string()));
        Some(name.clone())
    }
}

/// The service port that the program named, or else the one whose frontend was dialled.
fn service(tables: &Tables, event: &Event) -> Option<String> {
    if let Some(name) = tables.names.get(&event.service_id) {
        return Some(name.to_string());
    }
    let (address, port, protocol) =
        (event.key.destination, event.key.destination_port, event.key.protocol);
    let destination = match address.to_v4() {
        Some(address) => Destination::V4(FrontendKey4::new(address, port, protocol)),
        None => Destination::V6(FrontendKey6::new(address, port, protocol)),
    };
    let record = tables.services.at(tables.service_at(&destination)?);
    tables.names.get(&record.id).map(ToString::to_string)
}

impl EventRow {
    /// Of an event; a number that no program of this version writes is shown as `unknown`.
    pub(super) fn new(event: &Event, names: &mut Names) -> Self {
        let kind = EventKind::from_number(event.kind);
        let reason = Counter::ALL.get(event.counter as usize);
        let from = match kind {
            Some(kind) if kind.is_socket() && event.netns == names.host => "host".to_owned(),
            Some(kind) if kind.is_socket() => "pod".to_owned(),
            _ => text(event.key.source, event.key.source_port),
        };
        let backend = (event.target != Addr::ZERO).then(|| text(event.target, event.target_port));
        Self {
            time: names.time(event.time_ns),
            what: kind.map_or(UNKNOWN, EventKind::name),
            reason: reason.map_or(UNKNOWN, |reason| reason.name()),
            from,
            frontend: text(event.key.destination, event.key.destination_port),
            protocol: event.key.protocol.to_string(),
            backend,
            service: names.service(event),
            device: names.device(event.device),
        }
    }

    /// The service port.
    pub(super) fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// The titles, as wide as rows.
    pub(super) fn header() -> String {
        columns(Self::TITLES.iter().map(|title| (*title).to_owned()))
    }

    /// The cells. Rows come one by one, so that no column is known to be as wide as its widest.
    pub(super) fn line(&self) -> String {
        columns(self.cells().into_iter())
    }
}

fn columns(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.zip(WIDTHS).map(|(cell, width)| format!("{cell:<width$}")).collect();
    cells.join("  ").trim_end().to_owned()
}

fn text(address: Addr, port: Be16) -> String {
    SocketAddr::new(address.to_ip(), port.to_host()).to_string()
}

impl Row for EventRow {
    const TITLES: &'static [&'static str] =
        &["TIME", "WHAT", "REASON", "FROM", "FRONTEND", "BACKEND", "DEVICE", "SERVICE"];

    fn cells(&self) -> Vec<String> {
        let or_dash = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.time.clone(),
            self.what.to_owned(),
            self.reason.to_owned(),
            self.from.clone(),
            format!("{}/{}", self.frontend, self.protocol),
            or_dash(&self.backend),
            or_dash(&self.device),
            or_dash(&self.service),
        ]
    }
}

/// Of a number without a name.
const UNKNOWN: &str = "unknown";
/// Names are read again at most this often.
const STALE: Duration = Duration::from_secs(1);
/// Of the columns.
const WIDTHS: [usize; 8] = [24, 8, 26, 21, 22, 20, 8, 0];
