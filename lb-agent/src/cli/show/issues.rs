// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the agent ignored: `show issues`, and below `show services`. The agent leaves its list
//! beside its lock, since no map holds it.

use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::view::View,
    run::state::{self, IssueLine},
};

/// One thing that needs a hand.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct IssueRow(IssueLine);

/// The same in one sentence.
#[derive(Debug, Serialize)]
struct SentenceRow {
    /// Kind, object, field and problem.
    ignored: String,
}

/// Prints the issues; the titles alone if there are none.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    let rows: Vec<_> = state::issues(view.root())?.into_iter().map(IssueRow).collect();
    output::print(&rows, format)
}

/// Prints the issues below something else if there are any.
pub(super) fn print_below(view: &View, format: Format) -> anyhow::Result<()> {
    let issues = state::issues(view.root())?.into_iter();
    let rows: Vec<_> = issues.map(|issue| SentenceRow { ignored: issue.ignored }).collect();
    if rows.is_empty() {
        return Ok(());
    }
    if format == Format::Table {
        output::write(|out| writeln!(out))?;
    }
    output::print(&rows, format)
}

impl Row for IssueRow {
    const TITLES: &'static [&'static str] = &["OBJECT", "FIELD", "PROBLEM", "RULE", "WHAT TO DO"];

    fn cells(&self) -> Vec<String> {
        let IssueLine { kind, object, field, problem, rule, remedy, .. } = &self.0;
        let object = format!("{kind} {object}");
        [object.trim(), field, problem, rule, remedy].map(str::to_owned).to_vec()
    }
}

impl Row for SentenceRow {
    const TITLES: &'static [&'static str] = &["IGNORED"];

    fn cells(&self) -> Vec<String> {
        vec![self.ignored.clone()]
    }
}
