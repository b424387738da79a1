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

use self::{
    book::Rule,
    mentions::{Claim, Place},
};
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
    /// Nothing proves it, and it is about packets alone, or a scenario waits for them with it.
    PacketPath,
    /// Nothing at all.
    Missing,
}

/// What is said of the rules.
#[derive(Default)]
struct Evidence {
    /// Tests that prove them.
    places: BTreeMap<String, Vec<Place>>,
    /// Lines of docs/deviations.md.
    deviations: BTreeMap<String, usize>,
    /// Scenarios that wait for the packet path.
    waiting: BTreeMap<String, Vec<Place>>,
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
    let evidence = Evidence {
        places: mentions::find(command::root(), Claim::Proves)?,
        deviations: book::deviations(&read(DEVIATIONS)?),
        waiting: mentions::find(command::root(), Claim::Waits)?,
    };
    evidence.check_known(&rules)?;
    let mut counts: BTreeMap<Standing, usize> = BTreeMap::new();
    let mut lines = String::new();
    for rule in rules.iter().filter(|rule| rule.id.starts_with(prefix)) {
        let standing = evidence.standing(rule);
        *counts.entry(standing).or_default() += 1;
        writeln!(lines, "{:<8} {:<12} {}", rule.id, standing.name(), evidence.of(rule))?;
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

impl Evidence {
    /// An identifier that the book does not hold is a slip of the pen, and would prove nothing.
    fn check_known(&self, rules: &[Rule]) -> Result<()> {
        let known = |id: &String| rules.iter().any(|rule| rule.id == *id);
        if let Some((id, line)) = self.deviations.iter().find(|(id, _)| !known(id)) {
            bail!("{DEVIATIONS}:{line}: {BOOK} has no rule {id}");
        }
        let chapters: Vec<&str> = rules.iter().map(Rule::chapter).collect();
        let of_a_chapter = |id: &String| {
            id.split_once('-').is_some_and(|(chapter, _)| chapters.contains(&chapter))
        };
        let mut named = self.places.iter().chain(&self.waiting);
        if let Some((id, places)) = named.find(|(id, _)| of_a_chapter(id) && !known(id)) {
            let place = places.first().map(ToString::to_string).unwrap_or_default();
            bail!("{place}: {BOOK} has no rule {id}");
        }
        Ok(())
    }

    /// Where a rule stands.
    fn standing(&self, rule: &Rule) -> Standing {
        if self.places.contains_key(&rule.id) {
            Standing::Covered
        } else if self.deviations.contains_key(&rule.id) {
            Standing::Deviation
        } else if rule.tags == "P" || self.waiting.contains_key(&rule.id) {
            Standing::PacketPath
        } else {
            Standing::Missing
        }
    }

    /// Where to look: the tests, the line in deviations.md, what waits, or the rule itself.
    fn of(&self, rule: &Rule) -> String {
        let tests = |places: &BTreeMap<String, Vec<Place>>| -> Vec<String> {
            places.get(&rule.id).into_iter().flatten().map(ToString::to_string).collect()
        };
        let mut evidence = tests(&self.places);
        evidence.extend(self.deviations.get(&rule.id).map(|line| format!("{DEVIATIONS}:{line}")));
        if evidence.is_empty() {
            evidence = tests(&self.waiting);
        }
        if evidence.is_empty() {
            return format!("[{}] {}", rule.tags, rule.text);
        }
        evidence.join(" ")
    }
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

    use super::{BOOK, Evidence, Standing, book, mentions::Place, read};

    #[test]
    fn a_rule_that_nothing_names_is_missing() {
        let book = "- **SVC-01** [A] Text. (a.go)\n- **SVC-02** [SP] Text. (a.go)\n\
                    - **SVC-03** [S] Text. (a.go)\n- **MSQ-01** [P] Text. (a.go)\n\
                    - **NP-13** [S] Text. (a.go)\n";
        let rules = book::rules(book).unwrap();
        let named = |id: &str| BTreeMap::from([(id.to_owned(), vec![Place::new("tests/a.rs", 3)])]);
        let evidence = Evidence {
            places: named("SVC-01"),
            deviations: BTreeMap::from([("SVC-02".to_owned(), 9)]),
            waiting: named("NP-13"),
        };
        let standings: Vec<Standing> = rules.iter().map(|rule| evidence.standing(rule)).collect();
        assert_eq!(
            standings,
            [
                Standing::Covered,
                Standing::Deviation,
                Standing::Missing,
                Standing::PacketPath,
                Standing::PacketPath
            ]
        );
    }

    #[test]
    fn a_test_of_a_rule_that_does_not_exist_is_an_error() {
        let rules = book::rules("- **SVC-01** [A] Text. (a.go)").unwrap();
        let named = |id: &str| Evidence {
            places: BTreeMap::from([(id.to_owned(), vec![Place::new("tests/a.rs", 3)])]),
            ..Evidence::default()
        };
        assert!(named("SVC-99").check_known(&rules).is_err());
        assert!(named("RFC-1624").check_known(&rules).is_ok());
    }

    #[test]
    fn the_rule_book_is_in_order() {
        assert!(book::rules(&read(BOOK).unwrap()).unwrap().len() >= 256);
    }
}
