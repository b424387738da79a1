// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where tests name a rule.
//!
//! Named means written as `SVC-01` in a comment or a golden case, or as `svc_01` in the name of a
//! function. In product code only tests count: what a comment there says is a claim, no proof.
//! In the scenarios of the parity suite only `rules` count: what is `waiting` or `missing` there
//! is known not to hold, and `because` names a deviation.

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

/// Every rule that some test names, with the first line of each file that does.
///
/// # Errors
///
/// When a folder or file cannot be read.
pub(crate) fn find(root: &Path) -> Result<BTreeMap<String, Vec<Place>>> {
    let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    let mut files = Vec::new();
    for folder in ["lb-common/src", "lb-agent/src", "lb-agent/tests", "tests"] {
        collect(root, folder, &mut files)?;
    }
    files.sort();
    for file in files {
        let text = fs::read_to_string(root.join(&file)).with_context(|| file.clone())?;
        for (line, id) in named_in(&file, &text) {
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
fn named_in(file: &str, text: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let mut in_test = file.starts_with("tests/") || file.contains("/tests");
    if in_test {
        named.extend(ids(file).into_iter().map(|id| (1, id)));
    }
    for (number, line) in (1..).zip(text.lines()) {
        // The house puts tests last in a file.
        in_test |= line.trim() == "#[cfg(test)]";
        if in_test && proves(file, line) {
            named.extend(ids(line).into_iter().map(|id| (number, id)));
        }
    }
    named
}

/// Whether a line of a test can prove anything.
fn proves(file: &str, line: &str) -> bool {
    let words = line.trim_start().trim_start_matches("- ");
    !file.starts_with("tests/parity/scenarios/") || words.starts_with("rules:")
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
    use super::{ids, named_in};

    #[test]
    fn identifiers_are_found_in_comments_and_in_names() {
        assert_eq!(ids("/// SVC-01, TRP-10…16: and NOEP-05."), ["SVC-01", "TRP-10", "NOEP-05"]);
        assert_eq!(ids("fn eps_09_terminating_loses() {"), ["EPS-09"]);
        assert!(ids("KEP-1669, RFC-1624, x86-64, 2024-01-02, aya-0.14").is_empty());
    }

    #[test]
    fn in_product_code_only_tests_count() {
        let text = "/// Source: SVC-04.\nfn f() {}\n#[cfg(test)]\nmod tests {\n    // SVC-05\n}\n";
        assert_eq!(named_in("lb-agent/src/plan/compile.rs", text), [(5, "SVC-05".to_owned())]);
        assert_eq!(named_in("lb-agent/src/plan/compile/tests.rs", text).len(), 2);
    }

    #[test]
    fn a_scenario_that_waits_proves_nothing() {
        let text = "  - rules: [CIP-01]\n    because: [CIP-02]\n  - waiting: [CIP-03]\n";
        let named = named_in("tests/parity/scenarios/cluster-ip.yaml", text);
        assert_eq!(named, [(1, "CIP-01".to_owned())]);
    }

    #[test]
    fn a_golden_case_may_have_the_identifier_in_its_name() {
        assert_eq!(
            named_in("tests/golden/trp-04-local/tables.txt", ""),
            [(1, "TRP-04".to_owned())]
        );
    }
}
