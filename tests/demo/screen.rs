// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the demo prints: steps, commands, tables, and whether a step proved its point.
//! Bold and colours only on a terminal.

use std::{
    env,
    io::{self, IsTerminal as _, Stdout, Write as _},
    time::Duration,
};

use anyhow::Result;

/// Standard output, and what it has been told so far.
#[derive(Debug)]
pub(crate) struct Screen {
    out: Stdout,
    /// Whether a person looks at it.
    colours: bool,
    /// Steps begun.
    steps: u32,
    /// Steps that did not prove what they say.
    failures: u32,
}

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug)]
enum Ink {
    Bold,
    Green,
    Red,
    Dim,
}

impl Screen {
    /// Colours where standard output is a terminal and nobody objects (`NO_COLOR`).
    pub(crate) fn open() -> Self {
        let out = io::stdout();
        let colours = out.is_terminal() && env::var_os("NO_COLOR").is_none();
        Self { out, colours, steps: 0, failures: 0 }
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, title: &str) {
        self.steps += 1;
        self.head(&self.paint(Ink::Bold, &format!("{}. {title}", self.steps)));
    }

    /// A line of plain text.
    pub(crate) fn say(&self, text: &str) {
        for line in wrap(text) {
            self.line(&line);
        }
    }

    /// The command whose output follows, as a person would type it.
    pub(crate) fn command(&self, line: &str) {
        self.line(&self.paint(Ink::Dim, &format!("$ {line}")));
    }

    /// Text that is shown as it is, but for what does not fit a line.
    pub(crate) fn block(&self, text: &str) {
        for line in text.lines() {
            self.line(&cut(line));
        }
    }

    /// A table as it is, but for the columns on the right that do not fit. Tables apart by an
    /// empty line have widths of their own.
    pub(crate) fn table(&self, text: &str) {
        for (index, part) in text.trim_end().split("\n\n").enumerate() {
            if index > 0 {
                self.line("");
            }
            self.block(&narrow(part));
        }
    }

    /// Text whose long lines go on below, further in.
    pub(crate) fn prose(&self, text: &str) {
        for line in text.lines() {
            let margin = line.len() - line.trim_start().len();
            let pad = " ".repeat(margin);
            for (index, part) in wrap(line.trim_start()).iter().enumerate() {
                self.line(&format!("{pad}{}{part}", if index > 0 { "    " } else { "" }));
            }
        }
    }

    /// Ends a step: what it proved, or why it did not.
    pub(crate) fn verdict(&mut self, proves: &str, outcome: &Result<()>) {
        match outcome {
            Ok(()) => self.marked(Ink::Green, "proved: ", proves),
            Err(error) => {
                self.failures += 1;
                let why: String = format!("{error:#}").chars().take(LONGEST_ERROR).collect();
                self.marked(Ink::Red, "NOT PROVED: ", &format!("{proves} -- {why}"));
            }
        }
    }

    /// Steps that failed so far.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// The last line.
    pub(crate) fn end(&self, took: Duration) {
        let secs = took.as_secs_f64();
        let (steps, failures) = (self.steps, self.failures);
        let text = match failures {
            0 => format!("all {steps} steps proved, {secs:.1} s"),
            _ => format!("{failures} of {steps} steps NOT proved, {secs:.1} s"),
        };
        self.head(&self.paint(if failures == 0 { Ink::Green } else { Ink::Red }, &text));
    }

    /// Wrapped text with a mark before it.
    fn marked(&self, ink: Ink, mark: &str, text: &str) {
        for (index, line) in wrap(&format!("{mark}{text}")).iter().enumerate() {
            let line = match line.strip_prefix(mark.trim_end()) {
                Some(rest) if index == 0 => self.paint(ink, mark.trim_end()) + rest,
                _ => format!("  {line}"),
            };
            self.line(&line);
        }
    }

    /// One line of a step. A reader who has gone away is no reason to leave a lab behind.
    fn line(&self, text: &str) {
        drop(writeln!(self.out.lock(), "{}", format!("{INDENT}{text}").trim_end()));
    }

    /// A line without indent, after an empty one.
    fn head(&self, text: &str) {
        drop(writeln!(self.out.lock(), "\n{text}"));
    }

    /// The text, so that it stands out on a terminal.
    fn paint(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Green => "1;32",
            Ink::Red => "1;31",
            Ink::Dim => "2",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Breaks text at spaces.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let fits = |line: &String| {
            line.is_empty() || line.chars().count() + 1 + word.chars().count() <= WIDTH - 6
        };
        match lines.last_mut() {
            Some(line) if fits(line) => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A table without the columns on the right that would pass the width.
fn narrow(table: &str) -> String {
    let header: Vec<char> = table.lines().next().unwrap_or_default().chars().collect();
    // Where a column begins: a letter after two spaces or more.
    let begins = header.windows(3).enumerate().filter_map(|(index, marks)| {
        matches!(marks, [' ', ' ', mark] if *mark != ' ').then_some(index + 2)
    });
    let widest = table.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    let fits = |end: &usize| {
        let cut =
            |line: &str| line.chars().take(*end).collect::<String>().trim_end().chars().count();
        table.lines().all(|line| cut(line) <= WIDTH)
    };
    let end = begins.chain([widest]).rfind(fits).unwrap_or(widest);
    let cut = |line: &str| line.chars().take(end).collect::<String>().trim_end().to_owned();
    table.lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// A line that fits; what is cut off leaves a mark.
fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

/// Before every line of a step.
const INDENT: &str = "   ";
/// Characters of a line after the indent: 100 columns in all.
const WIDTH: usize = 97;
/// Characters of an error that are worth reading here.
const LONGEST_ERROR: usize = 800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_spaces_and_loses_nothing() {
        let text = "word ".repeat(60).trim_end().to_owned();
        let lines = wrap(&text);
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{lines:?}");
        assert_eq!(lines.join(" "), text);
    }

    #[test]
    fn a_wide_table_loses_whole_columns() {
        let table = format!("NAME    A      {0}  LAST\nx       1      {0}  2", "y".repeat(80));
        let narrowed = narrow(&table);
        assert_eq!(
            narrowed.lines().next().unwrap().trim_end(),
            format!("NAME    A      {}", "y".repeat(80))
        );
        assert_eq!(narrow("A  B\n1  2"), "A  B\n1  2");
    }

    #[test]
    fn a_long_line_is_cut_with_a_mark() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"x".repeat(200));
        assert_eq!(long.chars().count(), WIDTH);
        assert!(long.ends_with('…'));
    }
}
