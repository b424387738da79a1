// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A few entries of a pinned map, as bpftool prints them.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use lab::node::Node;

use crate::screen::Screen;

/// Dumps a map of a node's agent with bpftool and shows the first `count` entries that
/// hold something. Gives their text.
///
/// # Errors
/// When bpftool fails, or no entry holds anything.
pub(crate) fn show(screen: &Screen, node: &Node, map: &str, count: usize) -> Result<String> {
    let pin = pin(&node.bpf_root, map)?;
    screen.command(&format!("bpftool map dump pinned {}", pin.display()));
    let mut command = Command::new(bpftool());
    command.args(["map", "dump", "pinned"]).arg(&pin);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("starting bpftool (apt-get install bpftool)")?;
    let stdout = child.stdout.take().context("a piped child has an output")?;
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let shown = entries(&mut lines, count);
    let more = lines.next().is_some();
    // Where it prints thousands of empty entries, nobody reads on.
    drop(lines);
    drop(child.kill());
    child.wait().context("reaping bpftool")?;
    ensure!(!shown.is_empty(), "no entry of {map} holds anything");
    for entry in &shown {
        screen.say(entry);
    }
    if more {
        screen.say("...");
    }
    Ok(shown.join("\n"))
}

/// The first entries whose value is not all zero, each in one line. bpftool prints
/// `[{`, the entry, `},{`, the next, and `}` and `]` at the end.
fn entries(lines: &mut impl Iterator<Item = String>, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut entry = String::new();
    for line in lines.take(MOST_LINES) {
        let edge = matches!(line.as_str(), "[{" | "    },{" | "    }" | "]");
        if !edge {
            entry.push_str(line.trim());
            continue;
        }
        let whole = fold(&std::mem::take(&mut entry));
        if whole.split_once("\"value\":").is_some_and(|(_, value)| holds_something(value)) {
            found.push(whole);
        }
        if found.len() == count {
            break;
        }
    }
    found
}

/// Whether a number in the text is not 0. Names in quotes are not numbers.
fn holds_something(value: &str) -> bool {
    value.split('"').step_by(2).any(|part| part.contains(|mark: char| matches!(mark, '1'..='9')))
}

/// The text with one space after each comma and colon.
fn fold(entry: &str) -> String {
    let mut folded = String::new();
    for mark in entry.chars() {
        folded.push(mark);
        if matches!(mark, ',' | ':') {
            folded.push(' ');
        }
    }
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The pin of a map, below the directory of the agent's layout version.
fn pin(bpf_root: &Path, map: &str) -> Result<PathBuf> {
    let layouts = bpf_root.read_dir().with_context(|| format!("reading {}", bpf_root.display()))?;
    let mut pins = layouts.filter_map(|layout| {
        Some(layout.ok()?.path().join("maps").join(map)).filter(|pin| pin.exists())
    });
    pins.next().with_context(|| format!("no map {map} below {}", bpf_root.display()))
}

/// Debian has it where a user's search path has not.
fn bpftool() -> &'static str {
    if Path::new("/usr/sbin/bpftool").exists() { "/usr/sbin/bpftool" } else { "bpftool" }
}

/// Lines to read before giving up on an entry that holds something.
const MOST_LINES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_entries_are_left_out_and_the_others_folded() {
        let dump = "[{\n        \"key\": 0,\n        \"value\": {\n            \"id\": 0\n        }\n    },{\n        \
                    \"key\": 1,\n        \"value\": {\n            \"a\": [0,7\n            ]\n        }\n    }\n]";
        let mut lines = dump.lines().map(str::to_owned);
        assert_eq!(entries(&mut lines, 4), ["\"key\": 1, \"value\": {\"a\": [0, 7]}"]);
    }

    #[test]
    fn a_name_with_a_digit_is_no_number() {
        assert!(!holds_something(" {\"address4\": 0}"));
        assert!(holds_something(" {\"address4\": 10}"));
    }
}
