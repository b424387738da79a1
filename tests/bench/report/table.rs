// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tables of a report.

use serde::Serialize;

use super::cells::{Cells, wrap};
use crate::stats::Quartiles;

/// One table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Section {
    title: String,
    note: String,
    table: Table,
}

/// What a table holds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Table {
    /// Values in one unit, with quartiles and ratios to the first row's of the same round.
    Paired { unit: &'static str, baseline: &'static str, rows: Vec<Row> },
    /// A value of each of several.
    Side { columns: Vec<String>, lines: Vec<Line> },
}

/// A row of interleaved rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    value: Quartiles,
    /// Of its baseline, in the same round; none: it is the baseline.
    ratio: Option<Quartiles>,
    goal: Option<Goal>,
}

/// The same value of each of several. The goal is about the first.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    name: String,
    unit: &'static str,
    /// None: it could not be measured there.
    values: Vec<Option<f64>>,
    goal: Option<Goal>,
}

/// The most that something may be, or the least.
#[derive(Clone, Copy, Debug, Serialize)]
struct Goal {
    bound: f64,
    is_least: bool,
    met: bool,
}

impl Section {
    /// A table of interleaved rounds, the first row of which is a bare path.
    pub(crate) fn paired(title: &str, note: &str, unit: &'static str, rows: Vec<Row>) -> Self {
        Self::beside("of bare", title, note, unit, rows)
    }

    /// A table of interleaved rounds; `baseline` is the title of the ratios to its first row.
    pub(crate) fn beside(
        baseline: &'static str,
        title: &str,
        note: &str,
        unit: &'static str,
        rows: Vec<Row>,
    ) -> Self {
        let table = Table::Paired { unit, baseline, rows };
        Self { title: title.to_owned(), note: note.to_owned(), table }
    }

    /// A table with a column for each of several.
    pub(crate) fn side(title: &str, note: &str, columns: Vec<String>, lines: Vec<Line>) -> Self {
        let table = Table::Side { columns, lines };
        Self { title: title.to_owned(), note: note.to_owned(), table }
    }

    /// For a terminal of 100 columns.
    pub(super) fn text(&self) -> String {
        let note = wrap(&format!("({})", self.note), WIDTH).join("\n  ");
        format!("{}\n  {note}\n{}\n", self.title, self.table.cells().text())
    }

    /// For docs.
    pub(super) fn markdown(&self) -> String {
        let note = wrap(&format!("{}.", capital(&self.note)), WIDTH).join("\n");
        format!("## {}\n\n{note}\n\n{}\n", self.title, self.table.cells().markdown())
    }
}

impl Table {
    fn cells(&self) -> Cells {
        let own = |words: &[&str]| -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        };
        match self {
            Self::Paired { unit, baseline, rows } => Cells {
                titles: own(&["", unit, "quartiles", baseline, "quartiles", "goal"]),
                rows: rows.iter().map(Row::cells).collect(),
            },
            Self::Side { columns, lines } => {
                let titles = own(&[""]).into_iter().chain(columns.clone()).chain(own(&["goal"]));
                Cells { titles: titles.collect(), rows: lines.iter().map(Line::cells).collect() }
            }
        }
    }
}

impl Row {
    /// A value with its quartiles, in the table's unit.
    pub(crate) fn new(name: &str, value: Quartiles) -> Self {
        Self { name: name.to_owned(), value, ratio: None, goal: None }
    }

    /// Adds the ratio to its baseline.
    pub(crate) fn against(self, ratio: Quartiles) -> Self {
        Self { ratio: Some(ratio), ..self }
    }

    /// Adds the most that the ratio may be; infinite: there is no goal.
    pub(crate) fn at_most(self, most: f64) -> Self {
        let goal = self.ratio.map(|ratio| Goal::of(most, ratio.median));
        Self { goal: goal.filter(|_| most.is_finite()), ..self }
    }

    /// Adds the least that the ratio may be.
    pub(crate) fn at_least(self, least: f64) -> Self {
        let goal =
            |ratio: Quartiles| Goal { bound: least, is_least: true, met: ratio.median >= least };
        Self { goal: self.ratio.map(goal), ..self }
    }

    fn cells(&self) -> Vec<String> {
        let digits = if self.value.median < 1000.0 { 2 } else { 0 };
        let Quartiles { low, median, high } = self.value;
        let (ratio, range) = match self.ratio {
            Some(Quartiles { low, median, high }) => {
                (format!("{median:.3}"), format!("{low:.3}–{high:.3}"))
            }
            None => ("1".to_owned(), String::new()),
        };
        vec![
            self.name.clone(),
            format!("{median:.digits$}"),
            format!("{low:.digits$}–{high:.digits$}"),
            ratio,
            range,
            self.goal.map(|goal| goal.text("")).unwrap_or_default(),
        ]
    }
}

impl Line {
    /// A value of each of several, in one unit.
    pub(crate) fn new(name: &str, unit: &'static str, values: Vec<Option<f64>>) -> Self {
        Self { name: name.to_owned(), unit, values, goal: None }
    }

    /// Adds the most that the first value may be, if it is what the goal is about.
    pub(crate) fn at_most(self, most: f64, applies: bool) -> Self {
        let first = self.values.first().copied().flatten().filter(|_| applies);
        Self { goal: first.map(|value| Goal::of(most, value)), ..self }
    }

    fn cells(&self) -> Vec<String> {
        let value = |value: &Option<f64>| match value {
            Some(value) => {
                let digits = if value.abs() < 100.0 { 2 } else { 0 };
                format!("{value:.digits$} {}", self.unit)
            }
            None => "-".to_owned(),
        };
        let goal = self.goal.map(|goal| goal.text(self.unit)).unwrap_or_default();
        let name = [self.name.clone()];
        name.into_iter().chain(self.values.iter().map(value)).chain([goal]).collect()
    }
}

impl Goal {
    /// Whether a value is within it.
    fn of(most: f64, value: f64) -> Self {
        Self { bound: most, is_least: false, met: value <= most }
    }

    /// The goal, and whether it is met.
    fn text(self, unit: &str) -> String {
        let verdict = if self.met { "met" } else { "MISSED" };
        let sign = if self.is_least { "≥" } else { "≤" };
        let space = if unit.is_empty() { "" } else { " " };
        format!("{sign} {}{space}{unit}: {verdict}", self.bound)
    }
}

/// The text with a capital first letter.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Characters of a line, next to an indent.
const WIDTH: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_about_the_ratio_or_the_first_value() {
        let ratio = Quartiles { low: 1.0, median: 1.01, high: 1.1 };
        let row = Row::new("x", Quartiles::default()).against(ratio);
        assert!(row.clone().at_most(1.02).goal.unwrap().met);
        assert!(!row.clone().at_most(1.005).goal.unwrap().met);
        assert!(row.clone().at_least(1.0).goal.unwrap().met);
        assert!(!row.clone().at_least(1.5).goal.unwrap().met);
        assert!(row.at_most(f64::INFINITY).goal.is_none());
        assert!(Row::new("the baseline", Quartiles::default()).at_most(1.0).goal.is_none());
        let line = Line::new("x", "s", vec![Some(3.0), Some(1.0)]);
        assert!(!line.clone().at_most(2.0, true).goal.unwrap().met);
        assert_eq!(line.at_most(2.0, true).cells(), ["x", "3.00 s", "1.00 s", "≤ 2 s: MISSED"]);
    }
}
