// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rules of the house that no lint knows: where unsafe code and byte orders may be, how long a
//! file may be, what may not be in a name.

use crate::rooms::{
    Source, Violation,
    table::{BYTE_ORDER, UNSAFE},
};

/// What breaks them in one file.
pub(super) fn examine(source: &Source, is_test: bool) -> Vec<Violation> {
    let mut violations = Vec::new();
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        let rule = format!("{lines} lines, more than {MAX_LINES}");
        violations.push(source.violation(MAX_LINES, rule, "there are two rooms in here: split it"));
    }
    if !source.text.starts_with(LICENCE) {
        violations.push(source.violation(1, "no licence line".to_owned(), LICENCE));
    }
    violations.extend(names(source));
    if !is_test && source.package != "tests" {
        violations.extend(words(source));
        violations.extend(globs(source));
    }
    violations
}

/// Unsafe code and changes of byte order outside the files that are meant for them.
fn words(source: &Source) -> Vec<Violation> {
    let holds = |list: &[&str]| list.contains(&source.file.as_str());
    let mut violations = Vec::new();
    for word in &source.uses.words {
        let text = word.text.as_str();
        if text == "unsafe" && !holds(UNSAFE) {
            let remedy = "give one of the files listed in xtask/src/rooms/table.rs a safe function";
            violations.push(source.violation(word.line, "unsafe code".to_owned(), remedy));
        }
    }
    for (line, text) in source.uses.calls() {
        if SWAPS.contains(&text) && !holds(BYTE_ORDER) {
            let rule = format!("`{text}` changes a byte order");
            violations.push(source.violation(line, rule, "use the doors of Be16, Be32 and Addr"));
        }
    }
    violations
}

/// Imports of everything.
fn globs(source: &Source) -> Vec<Violation> {
    let is_glob = |path: &&super::paths::Path| path.segments.last().is_some_and(|last| last == "*");
    let globs = source.uses.paths.iter().filter(is_glob);
    globs
        .map(|path| {
            let rule = format!("`{}` imports everything", path.segments.join("::"));
            source.violation(path.line, rule, "name what is used")
        })
        .collect()
}

/// Types and files named for nothing in particular.
fn names(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for word in &source.uses.types {
        if let Some(banned) = BANNED.iter().find(|banned| word.text.ends_with(**banned)) {
            let rule = format!("`{}` ends in {banned}", word.text);
            violations.push(source.violation(word.line, rule, "say what it is or does"));
        }
    }
    let stem = source.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    let last = stem.rsplit('_').next().unwrap_or_default();
    if BANNED.iter().any(|banned| banned.eq_ignore_ascii_case(last)) {
        let rule = "the file's name says nothing".to_owned();
        violations.push(source.violation(1, rule, "name it after what it owns"));
    }
    violations
}

const LICENCE: &str = "// SPDX-License-Identifier: Apache-2.0 OR MIT";
const MAX_LINES: usize = 500;
const SWAPS: &[&str] = &["to_be", "from_be", "swap_bytes"];
const BANNED: &[&str] =
    &["Manager", "Helper", "Helpers", "Util", "Utils", "Common", "Info", "Data", "Handler", "Misc"];
