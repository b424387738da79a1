// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the agent ignored: `show issues`, and below `show services`. The agent leaves its list beside its
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

/// Prints the issues; the title alone if there are none.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    output::print(&rows(view)?, format)
}

/// Prints the issues below something else if there are any.
pub(super) fn print_below(view: &View, format: Format) -> anyhow::Result<()> {
    let rows = rows(view)?;
    if rows.is_empty() {
        return Ok(());
    }
    if format == Format::Table {
        output::write(|out| writeln!(out))?;
    }
    output::print(&rows, format)
}

/// None if no agent left a list.
fn rows(view: &View) -> anyhow::Result<Vec<IssueRow>> {
    let issues = state::issues(view.root())?.into_iter();
    Ok(issues.map(|ignored| IssueRow { ignored }).collect())
}

impl Row for IssueRow {
    const TITLES: &'static [&'static str] = &["IGNORED"];

    fn cells(&self) -> Vec<String> {
        vec![self.ignored.clone()]
    }
}
