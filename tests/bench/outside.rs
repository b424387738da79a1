// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clients outside: through a NodePort of each column's node, to pods of that node and of
//! another one.
//!
//! The first row is kube-proxy in nftables mode. The client, the nodes and the pods are on one
//! processor, so that a round is work alone; so is a flood, from where its frames are made.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use lab::proxy::Proxy;

use crate::{
    bed::{Bed, Column},
    bulk::Exposed,
    probe::{Probe, Task},
    report::{Row, Section},
    rounds::{Scale, order, say},
    stats::Quartiles,
};

mod flood;

/// What is measured with each kind of backend.
struct Kind {
    title: &'static str,
    note: &'static str,
    /// The most of nftables' time; none: there is no goal.
    goal: Option<f64>,
    task: fn(Vec<SocketAddr>, Scale) -> Task,
    /// Whether the 99th percentile makes a table, too.
    late: bool,
}

/// Where a NodePort leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    /// To a pod of the node that was dialled.
    Local,
    /// To a pod of another node.
    Remote,
}

/// The Services that clients outside dial, for the API server.
pub(crate) fn objects(bed: &Bed) -> (Vec<Service>, Vec<EndpointSlice>) {
    let far = [(Exposed { udp: true, ..bed.far_service() }, FAR)];
    let near = bed.columns.iter().filter(|column| column.services > 1);
    let near = near.map(|column| (near_service(column), near_port(column)));
    let all: Vec<_> = far.into_iter().chain(near).collect();
    let services = all.iter().map(|(exposed, port)| {
        let mut service = exposed.service();
        if let Some(spec) = &mut service.spec {
            spec.type_ = Some("NodePort".to_owned());
            for it in spec.ports.iter_mut().flatten() {
                it.node_port = Some(i32::from(*port));
            }
        }
        service
    });
    (services.collect(), all.iter().map(|(exposed, _)| exposed.slice()).collect())
}

/// All tables.
pub(crate) fn run(bed: &mut Bed) -> Result<Vec<Section>> {
    let client = bed.client().clone();
    let mut probe = Probe::start(&client)?;
    let columns: Vec<_> = (0..bed.columns.len()).filter(|index| takes(bed, *index)).collect();
    let columns = by_proxy(bed, columns);
    let mut sections = flood::run(bed, &columns)?;
    for backend in [Backend::Remote, Backend::Local] {
        for kind in KINDS {
            sections.extend(measure(bed, &mut probe, &columns, kind, backend)?);
        }
        sections.push(stream(bed, &mut probe, &columns, backend)?);
    }
    Ok(sections)
}

/// Proxies that know the many Services.
fn takes(bed: &Bed, index: usize) -> bool {
    bed.columns.get(index).is_some_and(|column| column.services > 1 && column.proxy.is_some())
}

/// With nftables first, as what the others are compared with.
fn by_proxy(bed: &Bed, mut columns: Vec<usize>) -> Vec<usize> {
    let proxy = |index: &usize| bed.columns.get(*index).and_then(|column| column.proxy);
    columns.sort_by_key(|index| proxy(index) != Some(Proxy::Nftables));
    columns
}

/// Rounds of one kind, to one kind of backend.
fn measure(
    bed: &mut Bed,
    probe: &mut Probe,
    columns: &[usize],
    kind: &Kind,
    backend: Backend,
) -> Result<Vec<Section>> {
    let title = format!("{}, {}", kind.title, backend.name());
    say(&format!("{title}: {} rounds", bed.scale.rounds));
    let (mut times, mut late) = (vec![Vec::new(); columns.len()], vec![Vec::new(); columns.len()]);
    for round in 0..=bed.scale.rounds {
        for place in order(columns.len(), round) {
            let Some(column) = columns.get(place).and_then(|index| bed.columns.get(*index)) else {
                continue;
            };
            let task = (kind.task)(vec![backend.at(column)], bed.scale);
            let (median, latest) =
                probe.median_and_late_ns(&task).with_context(|| column.name())?;
            // The first round warms caches up.
            if let (1.., Some(times), Some(late)) =
                (round, times.get_mut(place), late.get_mut(place))
            {
                times.push(median / 1e3);
                late.push(latest / 1e3);
            }
        }
    }
    let mut tables = vec![(title.clone(), times)];
    tables.extend(kind.late.then(|| (format!("{title}, 99th percentile"), late)));
    let section = |(title, values): (String, Vec<Vec<f64>>)| {
        let rows = rows(bed, columns, &values, |row| match kind.goal {
            Some(most) => row.at_most(most),
            None => row,
        });
        Section::beside(BASELINE, &title, kind.note, "µs", rows)
    };
    Ok(tables.into_iter().map(section).collect())
}

/// Bytes a second on one connection.
fn stream(
    bed: &mut Bed,
    probe: &mut Probe,
    columns: &[usize],
    backend: Backend,
) -> Result<Section> {
    let pieces = 8 * bed.scale.connections;
    let mut rates = vec![Vec::new(); columns.len()];
    for round in 0..=FEW {
        for place in order(columns.len(), round) {
            let Some(column) = columns.get(place).and_then(|index| bed.columns.get(*index)) else {
                continue;
            };
            let (_, ns) = probe.sent(&Task::Stream { to: vec![backend.at(column)], pieces })?;
            if let (1.., Some(rates)) = (round, rates.get_mut(place)) {
                rates.push(f64::from(bed.scale.connections) / (ns / 1e9));
            }
        }
    }
    let title = format!("Bulk through a NodePort, {}", backend.name());
    let note = "one TCP connection from outside, segmentation offloads as veth has them";
    let rows = rows(bed, columns, &rates, |row| row.at_least(1.0));
    Ok(Section::beside(BASELINE, &title, note, "MiB/s", rows))
}

/// A row for each column, with its ratio to the first one's; the goal is Sluice's.
fn rows(bed: &Bed, columns: &[usize], values: &[Vec<f64>], goal: impl Fn(Row) -> Row) -> Vec<Row> {
    let baseline = values.first().cloned().unwrap_or_default();
    let row = |(place, (index, values)): (usize, (&usize, &Vec<f64>))| {
        let column = bed.columns.get(*index)?;
        let mut row = Row::new(&column.name(), Quartiles::of(values));
        if place > 0 {
            row = row.against(Quartiles::of_ratios(values, &baseline));
        }
        Some(if column.proxy == Some(Proxy::Sluice) { goal(row) } else { row })
    };
    columns.iter().zip(values).enumerate().filter_map(row).collect()
}

impl Backend {
    /// The NodePort of a column's node that leads there.
    fn at(self, column: &Column) -> SocketAddr {
        let port = if self == Self::Local { near_port(column) } else { FAR };
        (column.node.v4, port).into()
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Local => "a pod of that node",
            Self::Remote => "a pod of another node",
        }
    }
}

/// The Service whose pods are on the column's own node.
fn near_service(column: &Column) -> Exposed {
    Exposed {
        name: format!("near-{}", column.node.index),
        ip: [10, 96, 5, column.node.index].into(),
        ..column.own()
    }
}

/// Its NodePort.
fn near_port(column: &Column) -> u16 {
    FAR + u16::from(column.node.index)
}

const KINDS: &[Kind] = &[
    Kind {
        title: "New TCP connection through a NodePort",
        note: "from outside: socket, connect, 1 byte there, 1 byte back, close; 1.3 times as many \
               a second are 0.77 of the time; most of it is the client's and the server's, which \
               the flood does without",
        goal: Some(0.77),
        task: |to, scale| Task::Connections { to, count: scale.connections },
        late: false,
    },
    Kind {
        title: "Request, response through a NodePort",
        note: "from outside: 1 byte there, 1 byte back on a kept TCP connection",
        goal: Some(0.95),
        task: |to, scale| Task::Kept { to, count: scale.exchanges },
        late: true,
    },
];

/// NodePort of the Service whose pod is on a node of its own.
const FAR: u16 = 30_080;
/// Rounds of what takes long.
const FEW: u32 = 9;
/// Title of the ratios.
const BASELINE: &str = "of nftables";
