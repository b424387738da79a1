// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show programs`: a row for each kernel program of ours.

use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::{load::PinnedProgram, view::View},
};

/// A kernel program.
#[derive(Debug, Serialize)]
struct ProgramRow {
    /// Its name, which is the hook's.
    program: String,
    /// The kernel's id, as in `bpftool prog show id`.
    id: u32,
    /// The id of the link that holds it in place; `None` if it is not attached.
    link: Option<u32>,
}

/// Prints the programs.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    let rows: Vec<_> = view.programs()?.into_iter().map(ProgramRow::from).collect();
    output::print(&rows, format)
}

impl From<PinnedProgram> for ProgramRow {
    fn from(program: PinnedProgram) -> Self {
        let PinnedProgram { name, id, link } = program;
        Self { program: name, id, link }
    }
}

impl Row for ProgramRow {
    const TITLES: &'static [&'static str] = &["PROGRAM", "ID", "LINK"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.program.clone(),
            self.id.to_string(),
            self.link.map_or_else(|| "not attached".to_owned(), |link| link.to_string()),
        ]
    }
}
