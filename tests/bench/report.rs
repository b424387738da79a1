// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The report: text for a terminal, Markdown for docs, JSON for programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::rounds::Scale;

mod cells;
mod table;

pub(crate) use table::{Line, Row, Section};

/// All that was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// What it ran on: name and value.
    pub(crate) machine: Vec<(String, String)>,
    /// How much was measured.
    pub(crate) scale: Scale,
    /// The tables.
    pub(crate) sections: Vec<Section>,
}

impl Report {
    /// One without tables.
    pub(crate) const fn new(machine: Vec<(String, String)>, scale: Scale) -> Self {
        Self { machine, scale, sections: Vec::new() }
    }

    /// Prints it and writes target/bench.json; a whole run at full scale also renews
    /// docs/benchmarks.md, and `markdown` gets any run.
    pub(crate) fn deliver(&self, markdown: Option<PathBuf>, whole: bool) -> Result<()> {
        println!("{}", self.text());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
        write(&root.join("target/bench.json"), &serde_json::to_string_pretty(self)?)?;
        let documented = whole && self.scale == Scale::FULL;
        let documented = documented.then(|| root.join("docs/benchmarks.md"));
        if let Some(file) = markdown.or(documented) {
            write(&file, &self.markdown())?;
        }
        Ok(())
    }

    /// For a terminal.
    fn text(&self) -> String {
        let facts = self.machine.iter().map(|(name, value)| format!("{name:<11} {value}\n"));
        let sections: Vec<_> = self.sections.iter().map(Section::text).collect();
        format!("{}\n{}", facts.collect::<String>(), sections.join("\n"))
    }

    /// For docs.
    fn markdown(&self) -> String {
        let facts = self.machine.iter().map(|(name, value)| format!("- {name}: {value}\n"));
        let sections: Vec<_> = self.sections.iter().map(Section::markdown).collect();
        format!("{HEAD}{}\n{}", facts.collect::<String>(), sections.join("\n"))
    }
}

/// Writes a file in a directory that is made when it is missing.
fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// What stands before the figures in docs.
const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench`; every figure is of one run. Traffic is measured in interleaved
rounds, in another order each round: a value is the median of all rounds, a ratio that of two
medians of the same round, and the quartiles say how far rounds lie apart. The second bare
column is what two equal things differ by on this machine: a ratio is worth no more than that.
Probe and partner share one processor, so that a round is work alone, without the time that
another processor takes to wake up; seen from a busy network every ratio is smaller.

";
