// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show counters`: a row for each reason that the kernel programs count.

use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::view::View,
};

/// A reason and how often it decided.
#[derive(Debug, Serialize)]
struct CounterRow {
    /// The counter's name, as in metrics.
    reason: &'static str,
    /// The sum over all CPUs since the maps were made.
    count: u64,
    /// What it means.
    meaning: &'static str,
}

/// Prints the counters.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    let rows: Vec<_> = view
        .counters()?
        .into_iter()
        .map(|(counter, count)| CounterRow {
            reason: counter.name(),
            count,
            meaning: counter.help(),
        })
        .collect();
    output::print(&rows, format)
}

impl Row for CounterRow {
    const TITLES: &'static [&'static str] = &["REASON", "COUNT", "MEANING"];

    fn cells(&self) -> Vec<String> {
        vec![self.reason.to_owned(), self.count.to_string(), self.meaning.to_owned()]
    }
}
