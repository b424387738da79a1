// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flows of clients outside whose time is over: taken out of FLOWS. And how full that is.
//!
//! ```text
//! each second: counters ─► Pace ─┬─► read FLOWS: each flow that is over goes ─► Census ─┐
//!                  ▲             └─► how full: metrics, issues                          │
//!                  └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A program that meets a flow whose time is over treats it as none, so nothing is wrong until
//! it is taken out but the room that it takes.
//!
//! Invariant: a flow goes only if neither half has seen a packet for the time that its phase
//! allows. Nobody keeps a list of flows: what is kept is numbers.

pub mod census;
mod fullness;
mod pace;
pub mod size;

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lb_common::{
    counter::Counter,
    flow::{FlowEntry, FlowKey, Pass, visit},
};
use tokio::{sync::watch, task};
use tokio_util::sync::CancellationToken;

pub use self::{census::Census, fullness::Fullness};

use self::pace::{Pace, Tightness};
use crate::{
    datapath::{collector::Collector, hashes::Hash, kernel::Tally, load, syscall, view},
    model::{ObjectName, issue::Issue},
};

/// Whom the collector tells.
#[derive(Debug)]
pub struct Sinks {
    /// How full FLOWS is.
    pub fullness: watch::Sender<Fullness>,
    /// What an operator should know of it.
    pub issues: watch::Sender<Vec<Issue>>,
}

/// Collects until it is told to stop. `asked`: how many flows the operator wants room for.
pub async fn run(
    bpf_root: PathBuf,
    (node, asked): (ObjectName, Option<u32>),
    sinks: Sinks,
    stop: CancellationToken,
) {
    let mut failed = false;
    let mut table = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let (root, held) = (bpf_root.clone(), table.take());
        let outcome = task::spawn_blocking(move || Table::tend(&root, held)).await;
        match outcome.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(found) => {
                failed = false;
                table = found;
            }
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(%error, "flows whose time is over stay; trying again");
            }
            Err(_) => {}
        }
        if let Some(table) = &table {
            let fullness = table.fullness();
            sinks.issues.send_if_modified(|issues| {
                let kept = fullness::kept(table.capacity, asked, &node);
                let now: Vec<_> = fullness.issue(&node).into_iter().chain(kept).collect();
                std::mem::replace(issues, now.clone()) != now
            });
            sinks.fullness.send_replace(fullness);
        }
    }
}

/// Takes out the flows whose time is over, from outside of the kernel: for kernels that do not
/// tell their types. Slow: a system call for each half.
///
/// # Errors
/// The kernel's, for a map that cannot be read or written.
pub fn collect(flows: &mut Hash<FlowKey, FlowEntry>, pass: &Pass) -> io::Result<Census> {
    let mut census = Census::default();
    let mut over = Vec::new();
    flows.read_all(|keys, halves| {
        for (key, half) in keys.iter().zip(halves) {
            let other = flows.get(&half.other_key())?;
            let other = other.filter(|other| other.to.same(&key.reversed()));
            let visit = visit(pass, key, half, other.as_ref());
            census.take(&[visit]);
            if visit.is_over() && over.len() < MOST {
                over.push(*key);
                over.extend(other.map(|_| half.other_key()));
            }
        }
        Ok(())
    })?;
    flows.remove_all(&over).map_err(|failed| failed.source)?;
    Ok(census)
}

/// FLOWS, and what is known of it.
#[derive(Debug)]
struct Table {
    /// The map's id: another one may have taken its place.
    id: u32,
    capacity: u64,
    means: Means,
    tally: Tally,
    pace: Option<Pace>,
    counts: Counts,
    /// How long ago a packet found no room, if that ever was.
    refused: Option<Duration>,
    at: Instant,
}

/// How FLOWS is read.
#[derive(Debug)]
enum Means {
    /// Inside the kernel.
    Inside(Collector),
    /// From outside.
    Outside(Hash<FlowKey, FlowEntry>),
}

/// Counters of the programs.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Flows that began.
    begun: u64,
    /// Packets for whose flow there was no room.
    refused: u64,
}

impl Table {
    /// Looks after the FLOWS that is pinned now; `None` if there is none yet.
    fn tend(bpf_root: &Path, held: Option<Self>) -> io::Result<Option<Self>> {
        let pin = load::flows_pin(bpf_root);
        if !pin.exists() {
            return Ok(None);
        }
        let found = syscall::describe_map(syscall::object_get(&pin)?)?;
        let mut table = match held {
            Some(table) if table.id == found.id => table,
            _ => Self::open(bpf_root, &found)?,
        };
        table.tick()?;
        Ok(Some(table))
    }

    fn open(bpf_root: &Path, found: &syscall::MapDescription) -> io::Result<Self> {
        let means = match Collector::open(&load::flows_pin(bpf_root)) {
            Ok(collector) => Means::Inside(collector),
            Err(error) => {
                tracing::warn!(%error, "flows whose time is over are looked for from outside of the kernel, which costs a system call for each");
                Means::Outside(load::open_flows(bpf_root).map_err(io::Error::other)?)
            }
        };
        let tally = Tally::open(&load::counters_pin(bpf_root)).map_err(io::Error::other)?;
        let counts = Counts::read(&tally)?;
        Ok(Self {
            id: found.id,
            capacity: found.max_entries.into(),
            means,
            tally,
            pace: None,
            counts,
            refused: None,
            at: Instant::now(),
        })
    }

    /// Notes what has happened, and reads FLOWS if that is worth it.
    fn tick(&mut self) -> io::Result<()> {
        let passed = self.at.elapsed();
        self.at = Instant::now();
        let counts = Counts::read(&self.tally)?;
        self.refused = if counts.refused == self.counts.refused {
            self.refused.map(|ago| ago + passed)
        } else {
            Some(Duration::ZERO)
        };
        self.counts = counts;
        let tightness = match &mut self.pace {
            None => Tightness::Calm,
            Some(pace) => {
                pace.pass(passed);
                if !pace.is_due(counts.begun) {
                    return Ok(());
                }
                pace.tightness(counts.begun)
            }
        };
        self.read(tightness)
    }

    fn read(&mut self, tightness: Tightness) -> io::Result<()> {
        let pass = Pass {
            now_ns: view::now_ns(),
            passing_secs: tightness.passing_secs(),
            ..Pass::default()
        };
        let began = Instant::now();
        let census = match &mut self.means {
            Means::Inside(collector) => {
                let mut census = Census::default();
                collector.collect(&pass, |visits| census.take(visits))?;
                census
            }
            Means::Outside(flows) => collect(flows, &pass)?,
        };
        let cost = began.elapsed();
        if census.removed > 0 {
            let Census { halves, removed, .. } = census;
            tracing::debug!(halves, removed, ?cost, "flows whose time is over");
        }
        // Flows that began while it was read may be counted twice, until the next time.
        self.pace = Some(Pace::new(self.capacity, census, self.counts.begun, cost));
        Ok(())
    }

    fn fullness(&self) -> Fullness {
        let Some(pace) = &self.pace else {
            return Fullness::default();
        };
        let is_refusing = self.refused.is_some_and(|ago| ago < LATELY);
        Fullness::new((pace.used(self.counts.begun), self.capacity), pace.census(), is_refusing)
    }
}

impl Counts {
    fn read(tally: &Tally) -> io::Result<Self> {
        Ok(Self {
            begun: tally.read(Counter::FlowBegun)?,
            refused: tally.read(Counter::DroppedFlowsFull)?,
        })
    }
}

/// Between two looks at the counters.
const INTERVAL: Duration = Duration::from_secs(1);
/// A packet that found no room is told of for so long.
const LATELY: Duration = Duration::from_secs(10);
/// Elements that one look from outside removes at most, to bound its memory: the rest is there
/// at the next.
const MOST: usize = 1 << 17;
