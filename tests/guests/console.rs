// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest said on its serial line.

use std::fmt;

/// Everything, and in it the lines of our own: `guest <seconds since boot>: <text>`.
pub(crate) struct Console {
    text: String,
}

impl Console {
    /// What came out of the serial line.
    pub(crate) fn of(text: String) -> Self {
        Self { text }
    }

    /// Version of the kernel that ran; empty if it did not come that far.
    pub(crate) fn linux(&self) -> &str {
        let mut versions = self.lines().filter_map(|(_, text)| text.strip_prefix("linux: "));
        versions.next().unwrap_or_default()
    }

    /// The lines after the version.
    pub(crate) fn said(&self) -> Vec<&str> {
        self.lines().map(|(_, text)| text).filter(|text| !text.starts_with("linux: ")).collect()
    }

    /// When our first process came to run, the agent was ready, and all was done.
    pub(crate) fn times(&self) -> String {
        let at = |start: &str| self.lines().find(|(_, text)| text.starts_with(start));
        let at = |start: &str| at(start).map_or("never", |(seconds, _)| seconds);
        format!("booted at {} s, ready at {} s, done at {} s", at("linux"), at("run"), at("end"))
    }

    /// Time and text of our own lines.
    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text
            .lines()
            .filter_map(|line| line.trim_end().strip_prefix("guest ")?.split_once(": "))
    }
}

impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the console:\n{}", self.text)
    }
}
