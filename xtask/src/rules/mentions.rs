// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where tests name a rule.
//!
//! Named means written as `SVC-01` in a comment or a golden case, or as `svc_01` in the name of a
//! function. In product code only tests count: what a comment there says is a claim, no proof.
//! In the scenarios of the parity suite only `rules` count: what is `missing` there is known not
//! to hold, what is `waiting` will with the packet path, and `because` names a deviation.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};

/// A line that names a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    file: String,
    line: usize,
}

impl Place {
    /// The place `file:line`.
    pub(crate) fn new(file: &str, line: usize) -> Self {
        Self { file: file.to_owned(), line }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a test says of the rules that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// They hold.
    Proves,
    /// They will, with the packet path.
    Waits,
}

/// Every rule of which some test makes this claim, with the first line of each file that does.
///
/// # Errors
///
/// When a folder or file cannot be read.
pub(crate) fn find(root: &Path, claim: Claim) -> Result<BTreeMap<String, Vec<Place>>> {
    let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    let mut files = Vec::new();
    for folder in ["lb-common/src", "lb-agent/src", "lb-agent/tests", "tests"] {
        collect(root, folder, &mut files)?;
    }
    files.sort();
    for file in files {
        let text = fs::read_to_string(root.join(&file)).with_context(|| file.clone())?;
        for (line, id) in named_in(&file, &text, claim) {
            let places = places.entry(id).or_default();
            if places.last().is_none_or(|last| last.file != file) {
                places.push(Place::new(&file, line));
            }
        }
    }
    Ok(places)
}

/// The text files below `folder` that may hold tests.
fn collect(root: &Path, folder: &str, files: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        let wanted = [".rs", ".yaml", ".yml", ".txt", ".md"];
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else if wanted.iter().any(|extension| path.ends_with(extension)) {
            files.push(path);
        }
    }
    Ok(())
}

/// The rules that one file's tests name, with line numbers; line 1 for its own path.
fn named_in(file: &str, text: &str, claim: Claim) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let mut in_test = file.starts_with("tests/") || file.contains("/tests");
    if in_test && claim == Claim::Proves {
        named.extend(ids(file).into_iter().map(|id| (1, id)));
    }
    for (number, line) in (1..).zip(text.lines()) {
        // The house puts tests last in a file.
        in_test |= line.trim() == "#[cfg(test)]";
        if in_test && claim_of(file, line) == Some(claim) {
            named.extend(ids(line).into_iter().map(|id| (number, id)));
        }
    }
    named
}

/// What a line of a test claims, if anything.
fn claim_of(file: &str, line: &str) -> Option<Claim> {
    if !file.starts_with("tests/parity/scenarios/") {
        return Some(Claim::Proves);
    }
    let words = line.trim_start().trim_start_matches("- ");
    match words.split_once(':')?.0 {
        "rules" => Some(Claim::Proves),
        "waiting" => Some(Claim::Waits),
        _ => None,
    }
}

/// `SVC-01` and `svc_01` in `text`: two to four letters, then exactly two digits.
fn ids(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut ids = Vec::new();
    for (at, _) in text.match_indices(['-', '_']) {
        let letters = (0..at).rev().take_while(|at| letter(*at)).count();
        let starts_alone = at == letters || !digit(at - letters - 1);
        if (2..=4).contains(&letters)
            && starts_alone
            && digit(at + 1)
            && digit(at + 2)
            && !digit(at + 3)
            && let (Some(chapter), Some(number)) =
                (text.get(at - letters..at), text.get(at + 1..at + 3))
        {
            ids.push(format!("{}-{number}", chapter.to_ascii_uppercase()));
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::{Claim, ids, named_in};

    #[test]
    fn identifiers_are_found_in_comments_and_in_names() {
        assert_eq!(ids("/// SVC-01, TRP-10…16: and NOEP-05."), ["SVC-01", "TRP-10", "NOEP-05"]);
        assert_eq!(ids("fn eps_09_terminating_loses() {"), ["EPS-09"]);
        assert!(ids("KEP-1669, RFC-1624, x86-64, 2024-01-02, aya-0.14").is_empty());
    }

    #[test]
    fn in_product_code_only_tests_count() {
        let text = "/// Source: SVC-04.\nfn f() {}\n#[cfg(test)]\nmod tests {\n    // SVC-05\n}\n";
        let named = |file| named_in(file, text, Claim::Proves);
        assert_eq!(named("lb-agent/src/plan/compile.rs"), [(5, "SVC-05".to_owned())]);
        assert_eq!(named("lb-agent/src/plan/compile/tests.rs").len(), 2);
    }

    #[test]
    fn a_scenario_that_waits_proves_nothing() {
        let text = "  - rules: [CIP-01]\n    because: [CIP-02]\n  - waiting: [CIP-03]\n";
        let named = |claim| named_in("tests/parity/scenarios/cluster-ip.yaml", text, claim);
        assert_eq!(named(Claim::Proves), [(1, "CIP-01".to_owned())]);
        assert_eq!(named(Claim::Waits), [(3, "CIP-03".to_owned())]);
    }

    #[test]
    fn a_golden_case_may_have_the_identifier_in_its_name() {
        assert_eq!(
            named_in("tests/golden/trp-04-local/tables.txt", "", Claim::Proves),
            [(1, "TRP-04".to_owned())]
        );
    }
}
