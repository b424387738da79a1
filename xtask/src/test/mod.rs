// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask test`: all set-up, then every level from the cheapest to the dearest.
//!
//! A level that fails does not stop the ones after it: a person wants to see all that is amiss.
//! The last line of the output is `N passed, N failed, N skipped`.

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::Result;

use self::{
    level::{Agents, Kind, Level},
    tally::{Skip, Tally},
};
use crate::{
    build::{self, Profile, WORKSPACE},
    command, programs, setup,
};

mod harness;
pub(crate) mod level;
mod skips;
mod tally;

/// What to test.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only tests whose path contains this
    filter: Option<String>,
    /// Only these levels: a name, or L0 to L8; may be repeated
    #[arg(long, value_name = "LEVEL", value_delimiter = ',')]
    only: Vec<String>,
}

/// What a level came to.
struct Report {
    level: &'static Level,
    tally: Tally,
    time: Duration,
}

/// Runs the levels and prints the summary.
///
/// # Errors
///
/// When a level cannot be run at all; what fails inside one is counted instead.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { filter, only } = args;
    let reports = run_levels(filter.as_deref(), only)?;
    let mut total = Tally::default();
    for report in &reports {
        total += report.tally.clone();
    }
    print_summary(&reports);
    if filter.is_none() && only.is_empty() {
        total.failed += check_skips(&total.skips)?;
    }
    if total.passed + total.failed + total.skips.len() == 0 {
        println!("no test was run: the filter matches none");
        total.failed += 1;
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skips.len());
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs everything and writes the list of skips from it.
///
/// # Errors
///
/// As [`run`], and when the list cannot be written.
pub(crate) fn bless_skips() -> Result<ExitCode> {
    let reports = run_levels(None, &[])?;
    let skips: Vec<Skip> = reports.iter().flat_map(|report| report.tally.skips.clone()).collect();
    print_summary(&reports);
    skips::write(&skips)?;
    Ok(ExitCode::SUCCESS)
}

fn run_levels(filter: Option<&str>, only: &[String]) -> Result<Vec<Report>> {
    let targets = level::targets()?;
    let mut reports = Vec::new();
    for level in level::select(only)? {
        if matches!(level.kind, Kind::Check(_)) && filter.is_some() {
            continue;
        }
        println!("\n=== {} {}", level.name, level.rung);
        if matches!(level.kind, Kind::Target) && !targets.iter().any(|name| name == level.name) {
            println!("no test target `{}` in tests/Cargo.toml yet", level.name);
            continue;
        }
        let started = Instant::now();
        let tally = level.run(filter)?;
        reports.push(Report { level, tally, time: started.elapsed() });
    }
    Ok(reports)
}

impl Level {
    fn run(&self, filter: Option<&str>) -> Result<Tally> {
        if self.root && !command::is_root() {
            return Ok(self.skipped("needs root: run `sudo -E cargo xtask test`"));
        }
        if let Err(error) = setup::need(self.needs) {
            eprintln!("{error:#}");
            return Ok(self.skipped("something it needs is missing: run `cargo xtask setup`"));
        }
        if self.control_plane
            && let Err(error) =
                build::for_tests().and_then(|_| programs::control_plane(Profile::Debug))
        {
            eprintln!("{error:#}");
            return Ok(self.skipped("the control plane cannot be built: see above"));
        }
        match self.kind {
            Kind::Check(check) => Ok(checked(check)),
            Kind::Units => {
                let mut tally = self.harness(&["--lib", "--bins"], filter)?;
                tally += self.harness(&["--doc"], filter)?;
                Ok(tally)
            }
            Kind::Target => self.harness(&["--test", self.name], filter),
        }
    }

    /// Runs the harnesses that `select` picks, with the agents built for them.
    fn harness(&self, select: &[&str], filter: Option<&str>) -> Result<Tally> {
        let tracing = (self.agents == Agents::AndTracing).then(build::tracing_agent).transpose();
        let built = tracing.and_then(|tracing| Ok((build::for_tests()?, tracing)));
        let (agent, tracing) = match built {
            Ok(agents) => agents,
            Err(error) => {
                eprintln!("{error:#}");
                return Ok(failure());
            }
        };
        let mut test = test_command(select);
        test.envs(tracing.map(|tracing| ("LB_AGENT_TRACING", tracing)));
        test.env("LB_AGENT", agent).args(["--", "--show-output"]).args(filter);
        harness::run(&mut test, self.name, self.show_output)
    }

    /// The whole level as one skip.
    fn skipped(&self, why: &str) -> Tally {
        println!("SKIP {}: {why}", self.name);
        let skip = Skip { test: self.name.to_owned(), why: why.to_owned() };
        Tally { skips: vec![skip], ..Tally::default() }
    }
}

/// `cargo test` for the targets that `select` picks.
pub(crate) fn test_command(select: &[&str]) -> Command {
    let mut test = command::cargo();
    test.arg("test").args(WORKSPACE).arg("--no-fail-fast").args(select);
    test
}

fn checked(check: fn() -> Result<()>) -> Tally {
    match check() {
        Ok(()) => Tally { passed: 1, ..Tally::default() },
        Err(error) => {
            println!("{error:#}");
            failure()
        }
    }
}

fn failure() -> Tally {
    Tally { failed: 1, ..Tally::default() }
}

fn print_summary(reports: &[Report]) {
    println!(
        "\n{:<10} {:>4} {:>7} {:>7} {:>7} {:>7}",
        "level", "", "passed", "failed", "skipped", "time"
    );
    for Report { level, tally, time } in reports {
        println!(
            "{:<10} {:>4} {:>7} {:>7} {:>7} {:>5} s",
            level.name,
            level.rung,
            tally.passed,
            tally.failed,
            tally.skips.len(),
            time.as_secs()
        );
    }
    for skip in reports.iter().flat_map(|report| &report.tally.skips) {
        println!("SKIP {}: {}", skip.test, skip.why);
    }
}

/// Compares with the committed list; only a CI machine has to match it, others may lack more or
/// less. Returns how many failures that is.
fn check_skips(skips: &[Skip]) -> Result<usize> {
    let difference = skips::compare(skips)?;
    for line in &difference.unexpected {
        println!("skipped, but not in tests/skips.txt: {line}");
    }
    for line in &difference.stale {
        println!("in tests/skips.txt, but it ran: {line}");
    }
    if difference.is_empty() {
        println!("skips: exactly those of tests/skips.txt");
        return Ok(0);
    }
    Ok(usize::from(command::in_ci()))
}
