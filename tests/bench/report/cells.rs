// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cells in aligned columns, or as a table of Markdown.

/// Titles and rows of cells, all of one length.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    pub(super) titles: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Cells {
    /// Aligned columns; the first to the left, the others to the right.
    pub(super) fn text(&self) -> String {
        let all: Vec<_> = std::iter::once(&self.titles).chain(&self.rows).collect();
        let widths = (0..self.titles.len()).map(|column| {
            let cells = all.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        });
        let widths: Vec<_> = widths.collect();
        let lines = all.iter().map(|row| {
            let cells = row.iter().zip(&widths).enumerate().map(|(index, (cell, width))| {
                if index == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// A table of Markdown.
    pub(super) fn markdown(&self) -> String {
        let line = |row: &Vec<String>| format!("| {} |", row.join(" | "));
        let rule = (0..self.titles.len()).map(|index| if index == 0 { "---" } else { "---:" });
        let rule = format!("| {} |", rule.collect::<Vec<_>>().join(" | "));
        let rows: Vec<_> = self.rows.iter().map(line).collect();
        format!("{}\n{rule}\n{}", line(&self.titles), rows.join("\n"))
    }
}

/// Breaks text at spaces into lines of at most `width` characters.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_rows_become_markdown() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let cells = Cells {
            titles: words(&["", "s"]),
            rows: vec![words(&["a", "1.50"]), words(&["longer", "123.00"])],
        };
        assert_eq!(cells.text(), "               s\n  a         1.50\n  longer  123.00");
        assert_eq!(cells.markdown(), "|  | s |\n| --- | ---: |\n| a | 1.50 |\n| longer | 123.00 |");
    }
}
