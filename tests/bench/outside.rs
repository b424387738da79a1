// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clients outside: through a NodePort of each column's node, to pods of that node and of
//! another one.
//!
//! The first row is kube-proxy in nftables mode. The client, the nodes and the pods are on one
//! processor, so that a round is work alone; a flood is sent by one and received by the other.

use std::{fs, net::SocketAddr, thread};

use anyhow::{Context as _, Result};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use lab::{node::Node, place::Place, proxy::Proxy};

use crate::{
    bed::{Bed, Column},
    bulk::Exposed,
    probe::{PORT, Probe, Task},
    report::{Line, Row, Section},
    rounds::{Scale, order, say},
    stats::{Quartiles, percentile},
};

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
    let mut sections = flood(bed, &mut probe, &columns)?;
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

/// Small datagrams of many flows: how many arrive a second.
fn flood(bed: &mut Bed, probe: &mut Probe, columns: &[usize]) -> Result<Vec<Section>> {
    say(&format!("flood: {FEW} rounds"));
    let counted = Arrivals::start(bed.far_node()?)?;
    let mut measured = vec![Vec::new(); columns.len()];
    for round in 0..=FEW {
        for place in order(columns.len(), round) {
            let Some(column) = columns.get(place).and_then(|index| bed.columns.get(*index)) else {
                continue;
            };
            steer(&column.node)?;
            let SocketAddr::V4(to) = Backend::Remote.at(column) else { continue };
            let task = Task::Flood { from: bed.client().v4, to, ports: FLOWS, for_ms: FLOOD_MS };
            let (before, busy) = (counted.now()?, softirq_ticks()?);
            let (sent, ns) = probe.sent(&task).with_context(|| column.name())?;
            let (arrived, busy) = (counted.now()? - before, softirq_ticks()? - busy);
            if let (1.., Some(measured)) = (round, measured.get_mut(place)) {
                let seconds = ns / 1e9;
                let lost = 100.0 * (1.0 - arrived / sent);
                measured.push([arrived / seconds / 1e3, lost.max(0.0), busy / seconds]);
            }
        }
    }
    drop(counted);
    let of = |which: usize| -> Vec<Vec<f64>> {
        let one = |rounds: &Vec<[f64; 3]>| {
            rounds.iter().filter_map(|values| values.get(which).copied()).collect()
        };
        measured.iter().map(one).collect()
    };
    let rows = rows(bed, columns, &of(0), |row| row.at_least(1.5));
    let names = columns.iter().filter_map(|index| bed.columns.get(*index)).map(Column::name);
    let line = |name, unit, which| {
        let medians = of(which).into_iter().map(|values| Some(percentile(&values, 50.0)));
        Line::new(name, unit, medians.collect())
    };
    let lines =
        vec![line("sent, but did not arrive", "%", 1), line("softirq, both processors", "%", 2)];
    let title = "Small datagrams through a NodePort, a pod of another node";
    Ok(vec![
        Section::beside(BASELINE, title, FLOOD_NOTE, "kpps", rows),
        Section::side("What the flood cost", FLOOD_NOTE, names.collect(), lines),
    ])
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

/// Counts datagrams to the pods' port where they reach a node, and drops them. Dropping it
/// ends that.
struct Arrivals<'a>(&'a Node);

impl<'a> Arrivals<'a> {
    fn start(node: &'a Node) -> Result<Self> {
        let arrivals = Self(node);
        for line in [
            "add table netdev flood".to_owned(),
            "add counter netdev flood arrived".to_owned(),
            "add chain netdev flood in { type filter hook ingress device eth0 priority 0; }"
                .to_owned(),
            format!("add rule netdev flood in udp dport {PORT} counter name arrived drop"),
        ] {
            node.output("nft", [line])?;
        }
        Ok(arrivals)
    }

    /// So many until now, once no more come.
    fn now(&self) -> Result<f64> {
        let mut last = -1.0;
        loop {
            let listed = self.0.output("nft", ["list", "counter", "netdev", "flood", "arrived"])?;
            let mut words = listed.split_whitespace().skip_while(|word| *word != "packets");
            let count: f64 = words.nth(1).context("a counter of packets")?.parse()?;
            if count <= last {
                return Ok(count);
            }
            last = count;
            thread::sleep(SETTLE);
        }
    }
}

impl Drop for Arrivals<'_> {
    fn drop(&mut self) {
        // A node that is gone has no table left.
        drop(self.0.output("nft", ["delete", "table", "netdev", "flood"]));
    }
}

/// Has the second processor do what comes in at a node: the first one sends (RPS).
fn steer(node: &Place) -> Result<()> {
    let script = "mount -t sysfs sysfs /sys && echo 2 > /sys/class/net/eth0/queues/rx-0/rps_cpus";
    node.output("unshare", ["--mount", "sh", "-c", script]).map(drop)
}

/// Hundredths of seconds that all processors have spent in softirqs (proc(5)).
fn softirq_ticks() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let ticks = stat.lines().next().and_then(|line| line.split_whitespace().nth(7));
    ticks.context("softirqs in /proc/stat")?.parse().context("a number of ticks")
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
               a second are 0.77 of the time",
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
/// Flows of a flood.
const FLOWS: u16 = 1000;
/// Length of one flood, milliseconds.
const FLOOD_MS: u64 = 300;
/// Rounds of what takes long.
const FEW: u32 = 9;
/// Time in which what is under way arrives.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(20);
/// Title of the ratios.
const BASELINE: &str = "of nftables";
const FLOOD_NOTE: &str = "UDP with 18 bytes from 1000 ports of one client outside; one processor \
                          sends, the other does all that comes after the node's device";
