// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables for people, JSON for programs: the same rows, one object a line.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{Table, presets};
use lb_common::{addr::Addr, range::RangeKey};
use serde::Serialize;

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// One JSON object a line
    Json,
}

/// A row that both formats can print. The field names of its JSON are stable.
pub(super) trait Row: Serialize {
    /// Column titles.
    const TITLES: &'static [&'static str];

    /// One cell a title.
    fn cells(&self) -> Vec<String>;
}

/// Prints rows to standard output.
///
/// # Errors
///
/// When standard output cannot be written or a row is not JSON.
pub(super) fn print<R: Row>(rows: &[R], format: Format) -> anyhow::Result<()> {
    write(|out| match format {
        Format::Table => writeln!(out, "{}", render(rows)),
        Format::Json => rows.iter().try_for_each(|row| {
            serde_json::to_writer(&mut *out, row)?;
            writeln!(out)
        }),
    })
}

/// Writes to standard output. A reader that has seen enough and is gone, as `head` is, is no
/// error: what the verb found and its exit code stand.
///
/// # Errors
///
/// When standard output cannot be written for another reason.
pub(super) fn write(words: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match words(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // What is left in the buffer would be tried again when it is dropped.
            let _unread = out.into_parts();
            Ok(())
        }
        result => result.context("cannot write to standard output"),
    }
}

/// Writes a line that is not to wait for others. `false` if its reader is gone.
///
/// # Errors
///
/// When standard output cannot be written for another reason.
pub(super) fn stream(line: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("cannot write to standard output"),
    }
}

/// Says something beside what is printed, on standard error. Who closed that wants to hear
/// nothing.
pub(super) fn remark(text: &str) {
    let _unheard = writeln!(io::stderr(), "lb-agent: {text}");
}

/// The rows as aligned columns, without frames and without spaces at the end of a line,
/// so that they can be cut, sorted and compared.
pub(super) fn render<R: Row>(rows: &[R]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(R::TITLES.to_vec());
    for row in rows {
        table.add_row(row.cells());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// A source range as a Service has it.
pub(super) fn range(range: &RangeKey) -> String {
    prefix(range.guard.address, range.bits())
}

/// A prefix; the maps count 96 bits more of an IPv4 one.
pub(super) fn prefix(address: Addr, bits: u32) -> String {
    let more = if address.to_v4().is_some() { Addr::V4_BITS } else { 0 };
    format!("{address}/{}", bits.saturating_sub(more))
}
