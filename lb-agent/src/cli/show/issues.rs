// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the agent ignored, below `show services`. The agent leaves its list beside its
//! lock, since no map holds it.

use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::view::View,
    run::state,
};

/// One ignored value.
#[derive(Debug, Serialize)]
struct IssueRow {
    /// Kind, object, field and problem.
    ignored: String,
}

/// Prints the issues if there are any; nothing if no agent left a list.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    let rows: Vec<_> =
        state::issues(view.root())?.into_iter().map(|ignored| IssueRow { ignored }).collect();
    if rows.is_empty() {
        return Ok(());
    }
    if format == Format::Table {
        output::write(|out| writeln!(out))?;
    }
    output::print(&rows, format)
}

impl Row for IssueRow {
    const TITLES: &'static [&'static str] = &["IGNORED"];

    fn cells(&self) -> Vec<String> {
        vec![self.ignored.clone()]
    }
}
