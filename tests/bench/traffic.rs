// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Request-response in every column, and the connect hook alone.

use std::net::SocketAddr;

use anyhow::Result;
use lab::proxy::Proxy;

use crate::{
    bed::{Bed, Column},
    probe::Task,
    report::{Row, Section},
    rounds::{order, say},
    stats::Quartiles,
};

/// One kind of measurement, the same in every column.
pub(crate) struct Kind {
    /// What it is.
    pub(crate) title: &'static str,
    note: &'static str,
    /// Most that Sluice may take, as a ratio of bare.
    goal: f64,
    /// Which columns take part.
    takes: fn(&Column) -> bool,
    /// The task of a column in one round.
    pub(crate) task: fn(&Column, &Bed) -> Task,
    /// Nanoseconds in one unit of the table, and its name.
    unit: (f64, &'static str),
}

/// New connections, kept connections, datagrams.
pub(crate) fn requests(bed: &mut Bed) -> Result<Vec<Section>> {
    measure_all(bed, &[CONNECTIONS, KEPT, DATAGRAMS])
}

/// `connect(2)` alone: TCP to a listener of the same pod, and UDP again and again.
pub(crate) fn hook(bed: &mut Bed) -> Result<Vec<Section>> {
    measure_all(bed, &[CONNECT_CALL, RECONNECT])
}

fn measure_all(bed: &mut Bed, kinds: &[Kind]) -> Result<Vec<Section>> {
    kinds.iter().map(|kind| measure(bed, kind)).collect()
}

/// All rounds of one kind.
fn measure(bed: &mut Bed, kind: &Kind) -> Result<Section> {
    say(&format!("{}: {} rounds", kind.title, bed.scale.rounds));
    let takers: Vec<_> = (0..bed.columns.len())
        .filter(|index| bed.columns.get(*index).is_some_and(kind.takes))
        .collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); takers.len()];
    for round in 0..=bed.scale.rounds {
        for place in order(takers.len(), round) {
            let (Some(index), Some(times)) = (takers.get(place), times.get_mut(place)) else {
                continue;
            };
            let Some(task) = bed.columns.get(*index).map(|column| (kind.task)(column, bed)) else {
                continue;
            };
            if let Some(column) = bed.columns.get_mut(*index) {
                let median = column.probe.median_ns(&task)?;
                // The first round warms caches up.
                if round > 0 {
                    times.push(median);
                }
            }
        }
    }
    let bare = times.first().cloned().unwrap_or_default();
    let rows = takers.iter().zip(&times).filter_map(|(index, times)| {
        let column = bed.columns.get(*index)?;
        Some(row(kind, column, times, &bare))
    });
    Ok(Section::paired(kind.title, kind.note, kind.unit.1, rows.collect()))
}

/// A column's row.
fn row(kind: &Kind, column: &Column, times: &[f64], bare: &[f64]) -> Row {
    let is_baseline = column.proxy.is_none() && column.node.index == 1;
    let mut row = Row::new(&column.name(), Quartiles::of(times).scaled(1.0 / kind.unit.0));
    if !is_baseline {
        row = row.against(Quartiles::of_ratios(times, bare));
    }
    if column.proxy == Some(Proxy::Sluice) { row.at_most(kind.goal) } else { row }
}

/// Every column.
const fn all(_: &Column) -> bool {
    true
}

/// Those with programs at connect(), and those without anything.
fn hooked(column: &Column) -> bool {
    match column.proxy {
        None => true,
        Some(Proxy::Sluice) => column.services > 1,
        Some(Proxy::Nftables | Proxy::Iptables) => false,
    }
}

/// One socket keeps its backend: without a proxy, too, it talks to one server only.
fn one_target(column: &Column) -> Vec<SocketAddr> {
    column.targets().into_iter().take(1).collect()
}

/// All kinds.
pub(crate) const KINDS: &[Kind] = &[CONNECTIONS, KEPT, DATAGRAMS, CONNECT_CALL, RECONNECT];

const CONNECTIONS: Kind = Kind {
    title: "New TCP connection, request, response",
    note: "socket, connect, 1 byte there, 1 byte back, close; pod to pod on one node",
    goal: 1.02,
    takes: all,
    // Each may go to either server.
    task: |column, bed| Task::Connections { to: column.targets(), count: bed.scale.connections },
    unit: (1e3, "µs"),
};

const KEPT: Kind = Kind {
    title: "Request, response on a kept TCP connection",
    note: "1 byte there, 1 byte back; pod to pod on one node",
    goal: 1.02,
    takes: all,
    task: |column, bed| Task::Kept { to: one_target(column), count: bed.scale.exchanges },
    unit: (1e3, "µs"),
};

const DATAGRAMS: Kind = Kind {
    title: "Request, response by UDP",
    note: "sendto and recvfrom of 1 byte on one unconnected socket; pod to pod on one node",
    goal: 1.02,
    takes: all,
    task: |column, bed| Task::Datagrams { to: one_target(column), count: bed.scale.exchanges },
    unit: (1e3, "µs"),
};

const CONNECT_CALL: Kind = Kind {
    title: "connect() on TCP, to a listener in the same pod",
    note: "the system call alone, through loopback: what the hook adds to it",
    goal: 1.03,
    takes: hooked,
    task: |column, bed| Task::ConnectCalls {
        to: column.home_targets(),
        count: bed.scale.connections,
        listen: crate::probe::PORT,
    },
    unit: (1.0, "ns"),
};

const RECONNECT: Kind = Kind {
    title: "connect() on one UDP socket, between two destinations in turn",
    note: "no packet is sent: the whole decision and its record, beside a bare system call",
    goal: f64::INFINITY,
    takes: hooked,
    task: |column, bed| Task::Reconnects {
        to: column.home_targets(),
        count: bed.scale.exchanges * 4,
    },
    unit: (1.0, "ns"),
};
