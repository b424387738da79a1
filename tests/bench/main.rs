// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask bench`: Sluice beside bare sockets and the real kube-proxy, all in one run.
//!
//! ```text
//! Bed: one lab; a node each for bare, control, and every proxy at 1 and at many Services
//!   └─ Probe in each node's client pod ── talks to partners in two server pods
//! control plane ──> objects ──> cold start, then programming   (one proxy awake at a time)
//! all of that killed ──> traffic and hook rounds, interleaved   (what they programmed stays)
//! ```
//!
//! Noise is the rule on shared machines: every figure is a median, a ratio is taken inside
//! one round, and a second bare column shows how far two equal things lie apart.

mod bed;
mod beside;
mod bulk;
mod cold;
mod machine;
mod micro;
mod outside;
mod packets;
mod probe;
mod programming;
mod proxy;
mod report;
mod rounds;
mod stats;
mod traffic;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use lab::proxy::Proxy;

use crate::{
    bed::Bed,
    report::{Report, Section},
    rounds::{Scale, say},
};

/// Measures, prints one report, and writes it to docs/benchmarks.md and target/bench.json.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", version)]
struct Args {
    /// A few rounds of everything on a small cluster: does it still work, not how fast is it
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Leave out these proxies
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<Proxy>,
    /// Where to write the report, instead of docs/benchmarks.md
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    #[command(subcommand)]
    inside: Option<Inside>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From start to the last of all Services, and memory then
    Cold,
    /// From writing an EndpointSlice to the first connection
    Programming,
    /// Request-response: new connections, UDP, kept connections
    Traffic,
    /// The connect hook alone
    Hook,
    /// The socket path with the packet path and without it
    Beside,
    /// Clients outside: NodePorts
    Outside,
    /// What packets cost one by one, and a table with a million flows
    Packets,
    /// Compile and plan, in memory
    Micro,
}

/// What this program does inside a pod of its lab.
#[derive(Debug, Subcommand)]
enum Inside {
    /// Measure as commanded on standard input.
    #[command(hide = true)]
    Probe,
    /// Answer a byte with a byte.
    #[command(hide = true)]
    Partner,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.inside {
        Some(Inside::Probe) => probe::inside::run(),
        Some(Inside::Partner) => probe::partner::run(),
        None => measure(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The whole benchmark.
fn measure(args: &Args) -> Result<()> {
    if let Some(why) = lab::missing() {
        bail!("{why}");
    }
    let started = Instant::now();
    let wants = |part| args.only.is_empty() || args.only.contains(&part);
    let scale = if args.quick { Scale::QUICK } else { Scale::FULL };
    let mut report = Report::new(machine::describe()?, scale);
    // First: the builds of the other parts may replace this executable, which pods start.
    let in_lab = if IN_LAB.into_iter().any(wants) {
        in_lab(scale, &args.without, &wants)?
    } else {
        Vec::new()
    };
    if wants(Part::Micro) {
        report.sections.extend(timed("compile and plan", micro::run)?);
    }
    if wants(Part::Packets) {
        report.sections.extend(timed("packets", || packets::run(scale))?);
    }
    report.sections.extend(in_lab);
    say(&format!("done after {:.0} s", started.elapsed().as_secs_f64()));
    report.deliver(args.markdown.clone(), args.only.is_empty() && args.without.is_empty())
}

/// What needs the lab and a proxy on every node.
fn in_lab(scale: Scale, without: &[Proxy], wants: &impl Fn(Part) -> bool) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    let mut bed = timed("the lab and its Services", || {
        let mut bed = Bed::make(scale, without)?;
        bed.program_small()?;
        bed.fill()?;
        Ok(bed)
    })?;
    let cold = timed("cold start", || cold::run(&mut bed))?;
    if wants(Part::Cold) {
        sections.push(cold);
    }
    if wants(Part::Programming) {
        sections.push(timed("programming", || programming::run(&mut bed))?);
    }
    bed.quiet()?;
    if wants(Part::Traffic) {
        sections.extend(timed("traffic", || traffic::requests(&mut bed))?);
    }
    if wants(Part::Hook) {
        sections.extend(timed("hook", || traffic::hook(&mut bed))?);
    }
    if wants(Part::Beside) {
        sections.push(timed("beside", || beside::run(&mut bed))?);
    }
    if wants(Part::Outside) {
        sections.extend(timed("outside", || outside::run(&mut bed))?);
    }
    Ok(sections)
}

/// Does a part, and says how long it took.
fn timed<T>(part: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let done = body().with_context(|| part.to_owned())?;
    say(&format!("{part}: {:.0} s", started.elapsed().as_secs_f64()));
    Ok(done)
}

/// The parts that need the lab.
const IN_LAB: [Part; 6] =
    [Part::Cold, Part::Programming, Part::Traffic, Part::Hook, Part::Beside, Part::Outside];
