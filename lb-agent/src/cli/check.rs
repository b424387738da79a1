// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent check`: can this node run it, and if not, what to do.

use std::process::ExitCode;

use serde::Serialize;

use super::{
    CgroupRoot, NEGATIVE, Roots,
    output::{self, Format, Row},
};
use crate::datapath::probe::{self, Requirement, State};

/// Where the agent would run.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    roots: Roots,
    #[command(flatten)]
    cgroup: CgroupRoot,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One requirement.
#[derive(Debug, Serialize)]
struct RequirementRow {
    /// What is needed.
    requirement: &'static str,
    /// ok, degraded or missing.
    state: &'static str,
    /// What was found, what is lost without it, and the command that mends it.
    found: String,
}

/// Prints a line a requirement; exit code 3 if one is missing.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { roots, cgroup, output } = args;
    let found = probe::requirements(&roots.bpf_root, cgroup.cgroup_root.as_deref());
    let missing = found.iter().any(|requirement| requirement.state == State::Missing);
    let rows: Vec<_> = found.into_iter().map(RequirementRow::from).collect();
    output::print(&rows, *output)?;
    Ok(if missing { ExitCode::from(NEGATIVE) } else { ExitCode::SUCCESS })
}

impl From<Requirement> for RequirementRow {
    fn from(requirement: Requirement) -> Self {
        Self {
            requirement: requirement.name,
            state: requirement.state.name(),
            found: requirement.to_string(),
        }
    }
}

impl Row for RequirementRow {
    const TITLES: &'static [&'static str] = &["REQUIREMENT", "STATE", "FOUND"];

    fn cells(&self) -> Vec<String> {
        vec![self.requirement.to_owned(), self.state.to_owned(), self.found.clone()]
    }
}
