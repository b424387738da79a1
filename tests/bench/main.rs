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
mod bulk;
mod cold;
mod machine;
mod micro;
mod outside;
mod probe;
mod programming;
mod proxy;
mod report;
mod rounds;
mod stats;
mod traffic;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use lab::proxy::Proxy;

use crate::{
    bed::Bed,
    report::Report,
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
    /// Clients outside: NodePorts
    Outside,
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
    if wants(Part::Micro) {
        report.sections.extend(micro::run()?);
    }
    if [Part::Cold, Part::Programming, Part::Traffic, Part::Hook, Part::Outside]
        .into_iter()
        .any(wants)
    {
        let mut bed = Bed::make(scale, &args.without)?;
        bed.program_small()?;
        bed.fill()?;
        let cold = cold::run(&mut bed)?;
        if wants(Part::Cold) {
            report.sections.push(cold);
        }
        if wants(Part::Programming) {
            report.sections.push(programming::run(&mut bed)?);
        }
        bed.quiet()?;
        if wants(Part::Traffic) {
            report.sections.extend(traffic::requests(&mut bed)?);
        }
        if wants(Part::Hook) {
            report.sections.extend(traffic::hook(&mut bed)?);
        }
        if wants(Part::Outside) {
            report.sections.extend(outside::run(&mut bed)?);
        }
    }
    say(&format!("done after {:.0} s", started.elapsed().as_secs_f64()));
    report.deliver(args.markdown.clone(), args.only.is_empty() && args.without.is_empty())
}
