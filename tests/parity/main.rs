// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask parity`: what a client of a Service meets, with Sluice and with the real
//! kube-proxy, scenario by scenario.
//!
//! ```text
//! scenarios/*.yaml ──> Topic, Case, Row ──> Scenario: from, dial, expected in each column
//!      └─> objects in a real API server        │
//! Bed: lab, control plane, proxies on nodes ───┴─> measure: flows, outcomes ──> page: docs/parity.md
//! ```
//!
//! Each column has a lab of its own. All objects of all cases are there at once, each with its own
//! addresses; all scenarios are dialled at once; then every case makes its first change, and so on.

mod address;
mod bed;
mod column;
mod health;
mod kept;
mod measure;
mod objects;
mod outcome;
mod page;
mod play;
mod scenario;
mod topic;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::{
    column::Column,
    scenario::{Scenario, Standing},
    topic::Topic,
};

/// Plays tests/parity/scenarios, and writes docs/parity.md when all three columns are as expected.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask parity", version)]
struct Args {
    /// Only these columns
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Column>,
    /// Only cases whose name contains this; writes nothing
    filter: Option<String>,
    /// Play the columns of kube-proxy only if docs/parity.md was written for other sources;
    /// writes nothing
    #[arg(long, conflicts_with = "only")]
    if_changed: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays what is asked for.
fn run(args: &Args) -> Result<ExitCode> {
    if let Some(why) = lab::missing() {
        bail!("{why}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
    let (topics, scenarios) = read_scenarios(root, args.filter.as_deref())?;
    let columns = columns(args, root)?;
    let mut wrong = 0;
    let mut times = Vec::new();
    for column in &columns {
        let played = play::play(*column, &topics, &scenarios)?;
        wrong += played.wrong;
        times.push((*column, played.took));
    }
    println!("{}", summary(&scenarios));
    if wrong > 0 {
        return Ok(ExitCode::FAILURE);
    }
    match columns == Column::ALL && args.filter.is_none() {
        // What a machine that tests changes must not do by the way.
        true if args.if_changed => println!("all hold; `cargo xtask parity` writes the page anew"),
        true => page::write(root, &topics, &scenarios, &times)?,
        false => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The topics with the cases whose names contain `filter`, and their scenarios.
fn read_scenarios(root: &Path, filter: Option<&str>) -> Result<(Vec<Topic>, Vec<Scenario>)> {
    let mut topics = topic::read(&root.join("tests/parity/scenarios"))?;
    if let Some(filter) = filter {
        for topic in &mut topics {
            topic.cases.retain(|case| case.name.contains(filter));
        }
    }
    let rules = page::lines_of(root, "docs/behaviour.md")?;
    let deviations = page::lines_of(root, "docs/deviations.md")?;
    let scenarios = scenario::all(&topics, &rules, &deviations)?;
    Ok((topics, scenarios))
}

/// The columns to play.
fn columns(args: &Args, root: &Path) -> Result<Vec<Column>> {
    if args.if_changed && page::is_current(root)? {
        println!("docs/parity.md was written for these sources: Sluice alone is played");
        return Ok(vec![Column::Sluice]);
    }
    let wanted = |column: &Column| args.only.is_empty() || args.only.contains(column);
    Ok(Column::ALL.into_iter().filter(wanted).collect())
}

/// What there is, in a line.
fn summary(scenarios: &[Scenario]) -> String {
    let count =
        |is: fn(&Scenario) -> bool| scenarios.iter().filter(|scenario| is(scenario)).count();
    format!(
        "{} scenarios: {} alike, {} differ and are explained; of Sluice's, {} wait for the packet \
         path and {} are missing",
        scenarios.len(),
        count(|scenario| !scenario.differs()),
        count(Scenario::differs),
        count(|scenario| scenario.standing(Column::Sluice) == Standing::Waits),
        count(|scenario| scenario.standing(Column::Sluice) == Standing::Missing)
    )
}
