// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The operator's kube-proxy settings: a KubeProxyConfiguration file, or kube-proxy's flags
//! (CFG-01 to CFG-06).
//!
//! ```text
//! --config FILE ─► Tree ─┐
//!                        ├─► Settings ─► Remarks (what becomes of each), Effective
//! flags ─────────────────┘
//! ```
//!
//! Invariant: every field is in the table `fields.psv`; what is not there is an error with
//! its line. Nothing is passed over in silence.

mod effective;
mod fields;
mod tree;
mod value;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use serde_saphyr::Options;

use self::tree::Tree;

use super::ConfigFile;

pub use self::{
    effective::{Conntrack, Effective},
    fields::{Field, Here, fields},
    value::{HEALTHZ_PORT, Kind, KindError, METRICS_PORT, bind_address},
};

/// What an operator has set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The file; none if flags alone set something.
    file: Option<ConfigFile>,
    /// By path; each value is one of its field's kind.
    set: BTreeMap<&'static str, Set>,
}

/// One value that was set.
#[derive(Clone, Debug, PartialEq)]
struct Set {
    place: Place,
    value: Value,
}

/// Where a value was set.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// A line of the file.
    Line(u64),
    /// A flag of the command line, without its dashes.
    Flag(&'static str),
}

/// What becomes of one value that was set.
#[derive(Clone, Debug, PartialEq)]
pub struct Remark {
    /// Where it stands.
    pub place: Place,
    /// The field.
    pub field: &'static Field,
    /// The value, as JSON.
    pub value: Value,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It does what it says.
    Honoured,
    /// It has no meaning here, and nothing is lost without it.
    Void,
    /// Behaviour will not be what it asks for.
    Differs,
}

/// Settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file is no YAML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: u64,
        /// What is wrong there.
        message: String,
    },
    /// Values are wrong, or fields are unknown; each with its place.
    #[error("{}", Problems(path.as_deref(), problems))]
    Values {
        /// The file; none for flags.
        path: Option<PathBuf>,
        /// What is wrong, in order.
        problems: Vec<(Place, Problem)>,
    },
    /// Values that ask for another behaviour than there is.
    #[error("{}; go on nevertheless with --accept-differences", Differences(remarks))]
    Differs {
        /// Them.
        remarks: Vec<Remark>,
    },
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// No field of this name.
    #[error("{path}: there is no such field in a KubeProxyConfiguration")]
    Unknown {
        /// Its path.
        path: String,
    },
    /// Not of the field's kind.
    #[error("{path}: {source}")]
    Kind {
        /// The field's path.
        path: &'static str,
        /// What is wrong.
        source: KindError,
    },
    /// A file without the fields that say what it is.
    #[error("{path} is missing: it says what the file is")]
    Missing {
        /// The field's path.
        path: &'static str,
    },
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, is no YAML, or has fields or values that there are not:
    /// all of them, with their lines.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads a file's text; its path is for messages.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        // kube-proxy reads true and false as booleans, and nothing else (YAML 1.2).
        let mut options = Options::default();
        options.strict_booleans = true;
        let tree: Tree = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let line = error.location().map_or(1, |at| at.line());
            let message = error.without_snippet().to_string();
            Error::Syntax { path: path.to_owned(), line, message }
        })?;
        let file = ConfigFile { path: path.to_owned(), text: text.to_owned() };
        let mut settings = Self { file: Some(file), set: BTreeMap::new() };
        let mut problems = Vec::new();
        settings.take("", 1, &tree, &mut problems);
        for path in ["apiVersion", "kind"] {
            if !settings.set.contains_key(path) && problems.is_empty() {
                problems.push((Place::Line(1), Problem::Missing { path }));
            }
        }
        settings.or(problems)
    }

    /// From flags: kube-proxy's name of each, without dashes, and its text.
    ///
    /// # Errors
    /// Values that there are not.
    pub fn of_flags<'a>(
        flags: impl IntoIterator<Item = (&'static Field, &'a str)>,
    ) -> Result<Self, Error> {
        let (mut settings, mut problems) = (Self::default(), Vec::new());
        for (field, text) in flags {
            let place = Place::Flag(field.flag.unwrap_or(field.path));
            settings.put(field, place, field.kind.of_flag(text), &mut problems);
        }
        settings.or(problems)
    }

    /// Puts others over these.
    #[must_use]
    pub fn with(mut self, others: Self) -> Self {
        self.set.extend(others.set);
        self
    }

    /// The file that set them.
    pub const fn file(&self) -> Option<&ConfigFile> {
        self.file.as_ref()
    }

    /// What becomes of each value, in the order of the file.
    pub fn remarks(&self) -> Vec<Remark> {
        let remark = |field: &'static Field| {
            let Set { place, value } = self.set.get(field.path)?.clone();
            let fate = match &field.here {
                // The one gate that decides what is served.
                Here::Void if value.get(EXTERNAL_IPS).is_some() => Fate::Honoured,
                Here::Honoured => Fate::Honoured,
                Here::Void => Fate::Void,
                Here::Same(values) => {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let same = values.contains(&text.as_str());
                    // The mode decides something in any case.
                    match (same, field.path) {
                        (true, "mode") => Fate::Honoured,
                        (true, _) => Fate::Void,
                        (false, _) => Fate::Differs,
                    }
                }
            };
            Some(Remark { place, field, value, fate })
        };
        let mut remarks: Vec<_> = fields().iter().filter_map(remark).collect();
        remarks.sort_by_key(|remark| remark.place);
        remarks
    }

    /// Refuses what asks for another behaviour than there is.
    ///
    /// # Errors
    /// [`Error::Differs`].
    pub fn refuse_differences(&self) -> Result<(), Error> {
        let mut remarks = self.remarks();
        remarks.retain(|remark| remark.fate == Fate::Differs);
        if remarks.is_empty() { Ok(()) } else { Err(Error::Differs { remarks }) }
    }

    /// The value of a field, if it was set.
    fn get(&self, path: &str) -> Option<&Value> {
        self.set.get(path).map(|set| &set.value)
    }

    fn or(self, problems: Vec<(Place, Problem)>) -> Result<Self, Error> {
        if problems.is_empty() {
            Ok(self)
        } else {
            Err(Error::Values { path: self.file.map(|file| file.path), problems })
        }
    }

    /// Takes a value of the file, or what is below it.
    fn take(&mut self, path: &str, line: u64, tree: &Tree, problems: &mut Vec<(Place, Problem)>) {
        let place = Place::Line(line);
        if let Some(field) = fields::field(path) {
            return self.put(field, place, tree.to_value(), problems);
        }
        let inside = if path.is_empty() { String::new() } else { format!("{path}.") };
        let is_section = fields().iter().any(|field| field.path.starts_with(&inside));
        match tree {
            Tree::Map(entries) if is_section => {
                for (key, line, value) in entries {
                    self.take(&format!("{inside}{key}"), *line, value, problems);
                }
            }
            // A section without content, as `conntrack:`.
            Tree::Leaf(Value::Null) if is_section => {}
            _ => problems.push((place, Problem::Unknown { path: path.to_owned() })),
        }
    }

    /// Takes a value; null is as good as nothing.
    fn put(
        &mut self,
        field: &'static Field,
        place: Place,
        value: Value,
        problems: &mut Vec<(Place, Problem)>,
    ) {
        if value.is_null() {
            return;
        }
        match field.kind.check(&value) {
            Ok(()) => {
                self.set.insert(field.path, Set { place, value });
            }
            Err(source) => problems.push((place, Problem::Kind { path: field.path, source })),
        }
    }
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Fate {
    /// A word or two for a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Void => "no meaning",
            Self::Differs => "differs",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// One line a problem.
struct Problems<'a>(Option<&'a Path>, &'a [(Place, Problem)]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (place, problem)) in self.1.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            match (self.0, place) {
                (Some(path), Place::Line(line)) => {
                    write!(f, "{}:{line}: {problem}", path.display())?;
                }
                (_, place) => write!(f, "{place}: {problem}")?,
            }
        }
        Ok(())
    }
}

/// Differences in one line.
struct Differences<'a>(&'a [Remark]);

impl fmt::Display for Differences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, remark) in self.0.iter().enumerate() {
            let Remark { place, field, value, .. } = remark;
            let separator = if number > 0 { "; " } else { "" };
            write!(f, "{separator}{place}: {} {value}: {}", field.path, field.why)?;
        }
        Ok(())
    }
}

/// The gate that switches externalIPs off (XIP-04).
const EXTERNAL_IPS: &str = "AllowServiceExternalIPs";

#[cfg(test)]
mod tests;
