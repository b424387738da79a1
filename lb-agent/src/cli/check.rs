// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent check`: can this node run it, and if not, what to do. With `--config`: what
//! becomes of each line of a KubeProxyConfiguration.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use super::{
    CgroupRoot, NEGATIVE, Roots,
    output::{self, Format, Row},
};
use crate::{
    config::kube_proxy::{Fate, Place, Remark, Settings},
    datapath::probe::{self, Requirement, State},
    run::local_ports,
};

/// Where the agent would run.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    roots: Roots,
    #[command(flatten)]
    cgroup: CgroupRoot,
    /// Say what becomes of each setting in this KubeProxyConfiguration instead
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One setting.
#[derive(Debug, Serialize)]
struct SettingRow {
    /// Its line in the file.
    line: String,
    /// Its path.
    field: &'static str,
    /// Its value.
    value: serde_json::Value,
    /// honoured, no meaning or differs.
    here: &'static str,
    /// What it does, or why not.
    why: &'static str,
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
    let Args { roots, cgroup, config, output } = args;
    if let Some(path) = config {
        return settings(path, *output);
    }
    let mut found = probe::requirements(&roots.bpf_root, cgroup.cgroup_root.as_deref());
    found.push(local_ports::requirement());
    let missing = found.iter().any(|requirement| requirement.state == State::Missing);
    let rows: Vec<_> = found.into_iter().map(RequirementRow::from).collect();
    output::print(&rows, *output)?;
    Ok(if missing { ExitCode::from(NEGATIVE) } else { ExitCode::SUCCESS })
}

/// Prints a line a setting; exit code 3 if one asks for another behaviour than there is.
fn settings(path: &Path, output: Format) -> anyhow::Result<ExitCode> {
    let remarks = Settings::read(path)?.remarks();
    let differs = remarks.iter().any(|remark| remark.fate == Fate::Differs);
    let rows: Vec<_> = remarks.into_iter().map(SettingRow::from).collect();
    output::print(&rows, output)?;
    Ok(if differs { ExitCode::from(NEGATIVE) } else { ExitCode::SUCCESS })
}

impl From<Remark> for SettingRow {
    fn from(remark: Remark) -> Self {
        let Remark { place, field, value, fate } = remark;
        let line = match place {
            Place::Line(line) => line.to_string(),
            Place::Flag(_) => String::new(),
        };
        Self { line, field: field.path, value, here: fate.name(), why: field.why }
    }
}

impl Row for SettingRow {
    const TITLES: &'static [&'static str] = &["LINE", "FIELD", "VALUE", "HERE", "WHY"];

    fn cells(&self) -> Vec<String> {
        let Self { line, field, value, here, why } = self;
        vec![
            line.clone(),
            (*field).to_owned(),
            value.to_string(),
            (*here).to_owned(),
            (*why).to_owned(),
        ]
    }
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
