// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask rooms`: whether each part of the product touches only what it may.
//!
//! files → [`paths::read`] → paths made absolute → [`table::ROOMS`] → violations

use std::{
    collections::BTreeSet,
    fmt::{self, Display, Formatter},
    fs,
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use self::{
    paths::Uses,
    table::{Crates, ROOMS, Room},
};
use crate::{command, manifest, manifest::PACKAGES};

mod paths;
mod style;
mod table;

/// Something in the wrong room.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    file: String,
    line: usize,
    rule: String,
    remedy: String,
}

/// Prints what is amiss.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn run() -> Result<ExitCode> {
    let (files, violations) = examine(command::root())?;
    for violation in &violations {
        println!("{violation}");
    }
    println!("rooms: {files} files, {} violations", violations.len());
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same as a check.
///
/// # Errors
///
/// Also when something is amiss.
pub(crate) fn check() -> Result<()> {
    if run()? != ExitCode::SUCCESS {
        bail!("something is in the wrong room");
    }
    Ok(())
}

/// Every `.rs` file below `folder`, as paths from `root`.
///
/// # Errors
///
/// When a folder cannot be read.
pub(crate) fn rust_files(root: &Path, folder: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(root).unwrap_or(&path);
                files.push(file.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A file with what it uses.
struct Source {
    /// From the workspace's folder.
    file: String,
    package: &'static str,
    /// Its module path below the crate's root.
    module: Vec<String>,
    text: String,
    uses: Uses,
}

fn examine(root: &Path) -> Result<(usize, Vec<Violation>)> {
    let mut violations = BTreeSet::new();
    let mut count = 0;
    for package in PACKAGES {
        let text = fs::read_to_string(root.join(package).join("Cargo.toml"))?;
        let crates = manifest::dependencies(&text);
        let sources = read_package(root, package)?;
        let tests = test_modules(&sources);
        count += sources.len();
        for source in &sources {
            let is_test = is_test(source, &tests);
            violations.extend(style::examine(source, is_test));
            if !is_test && source.file.contains("/src/") && *package != "xtask" {
                violations.extend(source.examine(&crates));
            }
        }
    }
    Ok((count, violations.into_iter().collect()))
}

fn read_package(root: &Path, package: &'static str) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in rust_files(root, package)? {
        let text = fs::read_to_string(root.join(&file))?;
        sources.push(Source::read(file, package, text)?);
    }
    Ok(sources)
}

/// Full paths of the modules that other files declare under `#[cfg(test)]`.
fn test_modules(sources: &[Source]) -> Vec<Vec<String>> {
    let full = |source: &Source, name: &String| {
        let mut path = source.module.clone();
        path.push(name.clone());
        path
    };
    sources.iter().flat_map(|s| s.uses.test_modules.iter().map(move |name| full(s, name))).collect()
}

fn is_test(source: &Source, tests: &[Vec<String>]) -> bool {
    tests.iter().any(|test| source.module.starts_with(test))
}

impl Source {
    fn read(file: String, package: &'static str, text: String) -> Result<Self> {
        let uses = paths::read(&text).with_context(|| file.clone())?;
        let below = file.split_once("/src/").map_or("", |(_, below)| below);
        let mut module: Vec<String> =
            below.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        module.pop_if(|last| ["", "mod", "lib", "main"].contains(&last.as_str()));
        Ok(Self { file, package, module, text, uses })
    }

    /// What breaks the table of rooms.
    fn examine(&self, crates: &[String]) -> Vec<Violation> {
        let Some(room) = ROOMS.iter().find(|room| room.holds(&self.file)) else {
            let remedy = "add it to a room in xtask/src/rooms/table.rs";
            return vec![self.violation(1, "no room holds this file".to_owned(), remedy)];
        };
        let mut violations = Vec::new();
        for path in &self.uses.paths {
            let absolute = self.absolute(path);
            if let Some((rule, remedy)) = room.refuses(&absolute, crates) {
                violations.push(self.violation(path.line, rule, remedy));
            }
        }
        violations
    }

    /// The path from the crate's root, or from the name of another crate.
    fn absolute(&self, path: &paths::Path) -> Vec<String> {
        let mut here: Vec<String> = self.module.iter().chain(&path.inside).cloned().collect();
        let mut segments = path.segments.as_slice();
        let own_name = self.package.replace('-', "_");
        let mut relative = false;
        while let Some((first, rest)) = segments.split_first() {
            match first.as_str() {
                "self" => {}
                "super" => drop(here.pop()),
                name if !relative && (name == "crate" || name == own_name) => here.clear(),
                _ => break,
            }
            relative = true;
            segments = rest;
        }
        if !relative {
            return segments.to_vec();
        }
        let mut absolute = vec!["crate".to_owned()];
        absolute.extend(here);
        absolute.extend_from_slice(segments);
        absolute
    }

    fn violation(&self, line: usize, rule: String, remedy: &str) -> Violation {
        Violation { file: self.file.clone(), line, rule, remedy: remedy.to_owned() }
    }
}

impl Room {
    /// Why this room may not use the path, and what to do.
    fn refuses(&self, path: &[String], crates: &[String]) -> Option<(String, &'static str)> {
        let first = path.first()?;
        if crates.contains(first) {
            let refused = match &self.crates {
                Crates::Only(list) => !list.contains(&first.as_str()),
                Crates::Except(list) => list.contains(&first.as_str()),
            };
            if refused {
                let rule = format!("{} may not use crate `{first}`", self.name);
                return Some((rule, "move this to a room that may, and pass the result"));
            }
        }
        let joined = format!("::{}::", path.join("::"));
        let (never, why) = self.never.iter().find(|(never, _)| {
            let never = format!("::{never}::");
            // A path of this crate or of std is meant from its start; `Instant::now` anywhere.
            let rooted = never.starts_with("::crate::") || never.starts_with("::std::");
            if rooted { joined.starts_with(&never) } else { joined.contains(&never) }
        })?;
        Some((format!("{} may not use `{never}`", self.name), why))
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.remedy)
    }
}

#[cfg(test)]
mod tests;
