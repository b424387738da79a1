// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent diff`: what the kernel holds against what the agent that runs wants it to hold. As
//! diff(1) does, it ends with 0 without a difference, 1 with one, 2 without a comparison.

use std::{io, process::ExitCode};

use serde::Serialize;

use super::{
    Roots,
    output::{self, Format, Row},
};
use crate::run::questions::{self, Compared, DifferenceLine};

/// Which agent's.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Have the agent repair what differs at once, instead of within 30 s
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    roots: Roots,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A difference.
#[derive(Debug, Serialize)]
struct DifferenceRow {
    /// The map.
    map: String,
    /// Whose element it is.
    object: String,
    /// What is the matter with it.
    difference: String,
}

/// Prints a row a difference; what waits, and that there is none, for people alone.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { repair, roots, output: format } = args;
    let compared = match questions::differences(&roots.bpf_root, *repair) {
        Ok(Compared { error, .. }) if !error.is_empty() => {
            output::remark(&format!("the agent could not compare: {error}"));
            return Ok(ExitCode::from(TROUBLE));
        }
        Ok(compared) => compared,
        Err(error) => {
            output::remark(&unanswered(roots, &error));
            return Ok(ExitCode::from(TROUBLE));
        }
    };
    let Compared { differences, service_ports, frontends, backends, waiting, .. } = compared;
    for line in &waiting {
        output::remark(&format!("waits: {line}"));
    }
    if !differences.is_empty() {
        let count = differences.len();
        let rows: Vec<_> = differences.into_iter().map(DifferenceRow::from).collect();
        output::print(&rows, *format)?;
        let when = if *repair { "now" } else { "within 30 s; at once with --repair" };
        output::remark(&format!("{count} differences, which the agent repairs {when}"));
        return Ok(ExitCode::from(DIFFERENT));
    }
    if *format == Format::Table {
        output::write(|out| {
            writeln!(
                out,
                "the kernel is as desired: {service_ports} service ports, {frontends} frontends, {backends} active backends"
            )
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn unanswered(roots: &Roots, error: &io::Error) -> String {
    let root = roots.bpf_root.display();
    format!(
        "no agent answers for {root} ({error}): what the kernel should hold only a running agent knows; start it, which writes what is missing, or see show services for what is served now"
    )
}

impl From<DifferenceLine> for DifferenceRow {
    fn from(line: DifferenceLine) -> Self {
        let DifferenceLine { map, object, problem } = line;
        Self { map, object, difference: problem }
    }
}

impl Row for DifferenceRow {
    const TITLES: &'static [&'static str] = &["MAP", "OBJECT", "DIFFERENCE"];

    fn cells(&self) -> Vec<String> {
        vec![self.map.clone(), self.object.clone(), self.difference.clone()]
    }
}

/// The exit codes of diff(1).
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;
