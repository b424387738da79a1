// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask rules`: which rules of `docs/behaviour.md` are proven, and by what.
//!
//! behaviour.md → [`book`] → rules; tests → [`mentions`] → places; both → one [`Standing`] a rule

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use self::{book::Rule, mentions::Place};
use crate::command;

mod book;
mod mentions;

/// How to print.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail when a rule is missing
    #[arg(long)]
    strict: bool,
    /// Only rules whose identifier starts with this
    prefix: Option<String>,
}

/// Where a rule stands.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Standing {
    /// A test names it.
    Covered,
    /// docs/deviations.md has a line on it.
    Deviation,
    /// It is about packets alone, and nothing names it.
    PacketPath,
    /// Nothing at all.
    Missing,
}

/// Prints every rule with its standing, and the counts.
///
/// # Errors
///
/// When the rule book cannot be read or is not in order, or a test names a rule that it does not
/// hold.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { strict, prefix } = args;
    let prefix = prefix.as_deref().unwrap_or("");
    let rules = book::rules(&read(BOOK)?)?;
    let deviations = book::deviations(&read(DEVIATIONS)?);
    let places = mentions::find(command::root())?;
    check_known(&rules, &deviations, &places)?;
    let mut counts: BTreeMap<Standing, usize> = BTreeMap::new();
    let mut lines = String::new();
    for rule in rules.iter().filter(|rule| rule.id.starts_with(prefix)) {
        let standing = standing(rule, &deviations, &places);
        *counts.entry(standing).or_default() += 1;
        let evidence = evidence(rule, &deviations, &places);
        writeln!(lines, "{:<8} {:<12} {evidence}", rule.id, standing.name())?;
    }
    let count = |standing| counts.get(&standing).copied().unwrap_or(0);
    writeln!(
        lines,
        "rules: {} covered, {} deviations, {} wait for the packet path, {} missing",
        count(Standing::Covered),
        count(Standing::Deviation),
        count(Standing::PacketPath),
        count(Standing::Missing)
    )?;
    // A reader that has seen enough, such as `head`, is no error.
    drop(io::stdout().write_all(lines.as_bytes()));
    let lacking = *strict && count(Standing::Missing) > 0;
    Ok(if lacking { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(command::root().join(file)).with_context(|| format!("{file} cannot be read"))
}

/// An identifier that the book does not hold is a slip of the pen, and would prove nothing.
fn check_known(
    rules: &[Rule],
    deviations: &BTreeMap<String, usize>,
    places: &BTreeMap<String, Vec<Place>>,
) -> Result<()> {
    let known = |id: &String| rules.iter().any(|rule| rule.id == *id);
    if let Some((id, line)) = deviations.iter().find(|(id, _)| !known(id)) {
        bail!("{DEVIATIONS}:{line}: {BOOK} has no rule {id}");
    }
    let chapters: Vec<&str> = rules.iter().map(Rule::chapter).collect();
    let of_a_chapter =
        |id: &String| id.split_once('-').is_some_and(|(chapter, _)| chapters.contains(&chapter));
    if let Some((id, places)) = places.iter().find(|(id, _)| of_a_chapter(id) && !known(id)) {
        let place = places.first().map(ToString::to_string).unwrap_or_default();
        bail!("{place}: {BOOK} has no rule {id}");
    }
    Ok(())
}

fn standing(
    rule: &Rule,
    deviations: &BTreeMap<String, usize>,
    places: &BTreeMap<String, Vec<Place>>,
) -> Standing {
    if places.contains_key(&rule.id) {
        Standing::Covered
    } else if deviations.contains_key(&rule.id) {
        Standing::Deviation
    } else if rule.tags == "P" {
        Standing::PacketPath
    } else {
        Standing::Missing
    }
}

/// Where to look: the tests, the line in deviations.md, or the rule itself.
fn evidence(
    rule: &Rule,
    deviations: &BTreeMap<String, usize>,
    places: &BTreeMap<String, Vec<Place>>,
) -> String {
    let mut evidence: Vec<String> =
        places.get(&rule.id).into_iter().flatten().map(ToString::to_string).collect();
    evidence.extend(deviations.get(&rule.id).map(|line| format!("{DEVIATIONS}:{line}")));
    if evidence.is_empty() {
        return format!("[{}] {}", rule.tags, rule.text);
    }
    evidence.join(" ")
}

impl Standing {
    fn name(self) -> &'static str {
        match self {
            Self::Covered => "covered",
            Self::Deviation => "deviation",
            Self::PacketPath => "packet path",
            Self::Missing => "MISSING",
        }
    }
}

const BOOK: &str = "docs/behaviour.md";
const DEVIATIONS: &str = "docs/deviations.md";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{BOOK, Standing, book, check_known, mentions::Place, read, standing};

    #[test]
    fn a_rule_that_nothing_names_is_missing() {
        let book = "- **SVC-01** [A] Text. (a.go)\n- **SVC-02** [SP] Text. (a.go)\n\
                    - **SVC-03** [S] Text. (a.go)\n- **MSQ-01** [P] Text. (a.go)\n";
        let rules = book::rules(book).unwrap();
        let places = BTreeMap::from([("SVC-01".to_owned(), vec![Place::new("tests/a.rs", 3)])]);
        let deviations = BTreeMap::from([("SVC-02".to_owned(), 9)]);
        let standings: Vec<Standing> =
            rules.iter().map(|rule| standing(rule, &deviations, &places)).collect();
        assert_eq!(
            standings,
            [Standing::Covered, Standing::Deviation, Standing::Missing, Standing::PacketPath]
        );
    }

    #[test]
    fn a_test_of_a_rule_that_does_not_exist_is_an_error() {
        let rules = book::rules("- **SVC-01** [A] Text. (a.go)").unwrap();
        let named = |id: &str| BTreeMap::from([(id.to_owned(), vec![Place::new("tests/a.rs", 3)])]);
        assert!(check_known(&rules, &BTreeMap::new(), &named("SVC-99")).is_err());
        assert!(check_known(&rules, &BTreeMap::new(), &named("RFC-1624")).is_ok());
    }

    #[test]
    fn the_rule_book_is_in_order() {
        assert!(book::rules(&read(BOOK).unwrap()).unwrap().len() >= 256);
    }
}
