// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The committed list of tests that may say SKIP.
//!
//! `tests/skips.txt` holds one `test: why` a line. A test that starts to skip without a line
//! there is a test that silently stopped testing; a line whose test runs is a stale excuse.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

use crate::{command, test::tally::Skip};

/// How the skips of a run differ from the committed list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Skipped, and not on the list.
    pub(crate) unexpected: Vec<String>,
    /// On the list, and not skipped.
    pub(crate) stale: Vec<String>,
}

impl Difference {
    /// Whether the list is exact.
    pub(crate) fn is_empty(&self) -> bool {
        self.unexpected.is_empty() && self.stale.is_empty()
    }
}

/// Compares a full run's skips with the committed list.
///
/// # Errors
///
/// When the list cannot be read.
pub(crate) fn compare(skips: &[Skip]) -> Result<Difference> {
    let path = command::root().join(LIST);
    let list = fs::read_to_string(&path)
        .with_context(|| format!("{LIST} cannot be read; `cargo xtask bless --skips` writes it"))?;
    Ok(difference(skips, &list))
}

/// Writes the list from a full run.
///
/// # Errors
///
/// When the file cannot be written.
pub(crate) fn write(skips: &[Skip]) -> Result<()> {
    let mut lines: Vec<String> = skips.iter().map(|s| format!("{}: {}\n", s.test, s.why)).collect();
    lines.sort();
    let text = format!("{HEADER}{}", lines.concat());
    fs::write(command::root().join(LIST), text).with_context(|| format!("{LIST} cannot be written"))
}

/// Tests are compared by name; the reasons are for people.
fn difference(skips: &[Skip], list: &str) -> Difference {
    let listed: BTreeMap<&str, &str> = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .collect();
    let skipped: BTreeMap<&str, &str> =
        skips.iter().map(|skip| (skip.test.as_str(), skip.why.as_str())).collect();
    let only_in = |ours: &BTreeMap<&str, &str>, theirs: &BTreeMap<&str, &str>| {
        ours.iter()
            .filter(|(test, _)| !theirs.contains_key(*test))
            .map(|(test, why)| format!("{test}: {why}"))
            .collect()
    };
    Difference { unexpected: only_in(&skipped, &listed), stale: only_in(&listed, &skipped) }
}

const LIST: &str = "tests/skips.txt";
const HEADER: &str = "\
# Tests that may print SKIP on the machine that CI runs on, one `test: why` a line.
# `cargo xtask test` compares; `cargo xtask bless --skips` rewrites after a full run.
";

#[cfg(test)]
mod tests {
    use super::{Difference, difference};
    use crate::test::tally::Skip;

    #[test]
    fn both_directions_are_reported() {
        let skips = ["sockets::mptcp", "guests"]
            .map(|test| Skip { test: test.to_owned(), why: "because".to_owned() });
        let list = "# comment\n\nguests: another reason\npackets::gone: no longer\n";
        assert_eq!(
            difference(&skips, list),
            Difference {
                unexpected: vec!["sockets::mptcp: because".to_owned()],
                stale: vec!["packets::gone: no longer".to_owned()],
            }
        );
    }
}
