// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The levels of `cargo xtask test`, cheapest first.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::{
    command, deny, lint, manifest, reach, rooms,
    setup::{self, Requirement},
};

/// One step of the test run.
pub(crate) struct Level {
    /// Its name, for `--only` and in the summary.
    pub(crate) name: &'static str,
    /// Its rung on the ladder of CONTRIBUTING.md, also for `--only`; empty for plain checks.
    pub(crate) rung: &'static str,
    /// What it runs.
    pub(crate) kind: Kind,
    /// What it needs on the machine beyond what every build needs.
    pub(crate) needs: &'static [&'static Requirement],
    /// Whether it needs root.
    pub(crate) root: bool,
    /// Whether it needs the programs of a Kubernetes control plane.
    pub(crate) control_plane: bool,
    /// The agents that its tests run.
    pub(crate) agents: Agents,
    /// Whether what its tests print is worth reading when they pass (measured figures).
    pub(crate) show_output: bool,
}

/// Which builds of the agent a level needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agents {
    /// The one that people use.
    Ordinary,
    /// Beside it the one whose kernel programs log their decisions.
    AndTracing,
}

/// What a level runs.
pub(crate) enum Kind {
    /// A function of ours; counts as one test.
    Check(fn() -> Result<()>),
    /// The unit and documentation tests of every crate.
    Units,
    /// The `[[test]]` target of crate lb-tests with the level's name.
    Target,
}

/// All levels that a run with these words of `--only` takes; none means all.
///
/// # Errors
///
/// When a word names no level.
pub(crate) fn select(only: &[String]) -> Result<Vec<&'static Level>> {
    for word in only {
        if !LEVELS.iter().any(|level| level.is_called(word)) {
            let names: Vec<&str> = LEVELS.iter().map(|level| level.name).collect();
            bail!("no level is called `{word}`; there are L0 to L8 and {}", names.join(", "));
        }
    }
    let wanted = |level: &&Level| only.is_empty() || only.iter().any(|word| level.is_called(word));
    Ok(LEVELS.iter().filter(wanted).collect())
}

/// The names of lb-tests' `[[test]]` targets.
///
/// # Errors
///
/// When its manifest cannot be read, or names a target that no level runs.
pub(crate) fn targets() -> Result<Vec<String>> {
    let path = command::root().join("tests/Cargo.toml");
    let text = fs::read_to_string(&path).context("tests/Cargo.toml cannot be read")?;
    let targets = manifest::names_in(&text, "[[test]]");
    for target in &targets {
        if !LEVELS.iter().any(|level| level.name == target) {
            bail!(
                "tests/Cargo.toml has a test target `{target}` that no level of xtask/src/test/level.rs runs"
            );
        }
    }
    Ok(targets)
}

impl Level {
    fn is_called(&self, word: &str) -> bool {
        self.name == word || self.rung.eq_ignore_ascii_case(word)
    }
}

/// A check of ours.
const fn check(name: &'static str, run: fn() -> Result<()>) -> Level {
    Level { kind: Kind::Check(run), ..target(name, "") }
}

/// A target of lb-tests that needs no root.
const fn target(name: &'static str, rung: &'static str) -> Level {
    Level {
        name,
        rung,
        kind: Kind::Target,
        needs: &[],
        root: false,
        control_plane: false,
        agents: Agents::Ordinary,
        show_output: false,
    }
}

/// A target of lb-tests that makes namespaces, cgroups and programs.
const fn rooted(
    name: &'static str,
    rung: &'static str,
    needs: &'static [&'static Requirement],
) -> Level {
    Level { needs, root: true, ..target(name, rung) }
}

/// A target of lb-tests that runs a control plane, and whose figures are worth reading.
const fn clustered(name: &'static str, rung: &'static str) -> Level {
    Level { control_plane: true, show_output: true, ..rooted(name, rung, CLUSTER) }
}

const LEVELS: &[Level] = &[
    Level { needs: &[&setup::LINTS], ..check("fmt", lint::fmt) },
    check("rooms", rooms::check),
    check("deny", deny::duplicates),
    Level { rung: "L0", ..check("layout", lint::layout) },
    check("reach", reach::check),
    Level { needs: LINTS, ..check("clippy", lint::clippy) },
    check("doc", lint::doc),
    Level { kind: Kind::Units, ..target("unit", "L1") },
    target("golden", "L2"),
    target("converge", "L3"),
    rooted("programs", "L4", KERNEL),
    rooted("packets", "L4", KERNEL),
    rooted("sockets", "L5", LAB),
    rooted("outside", "L5", LAB),
    rooted("cli", "L5", LAB),
    rooted("operate", "L5", LAB),
    rooted("lab", "L5", LAB),
    Level { agents: Agents::AndTracing, ..clustered("restart", "L6") },
    clustered("cluster", "L7"),
    clustered("parity", "L7"),
    Level { needs: GUESTS, show_output: true, ..target("guests", "L8") },
];

const LINTS: &[&Requirement] = &[&setup::LINTS, &setup::RUST_SOURCE, &setup::BPF_LINTS];
const KERNEL: &[&Requirement] = &[&setup::BPFFS, &setup::CGROUP2, &setup::IP, &setup::BPFTOOL];
const LAB: &[&Requirement] = &[
    &setup::BPFFS,
    &setup::CGROUP2,
    &setup::IP,
    &setup::BPFTOOL,
    &setup::CURL,
    &setup::STRACE,
    &setup::ETHTOOL,
];
const CLUSTER: &[&Requirement] = &[
    &setup::BPFFS,
    &setup::CGROUP2,
    &setup::IP,
    &setup::BPFTOOL,
    &setup::CURL,
    &setup::NFT,
    &setup::IPTABLES,
    &setup::OPENSSL,
];

const GUESTS: &[&Requirement] = &[&setup::QEMU, &setup::IP];

#[cfg(test)]
mod tests {
    use super::{LEVELS, select, targets};

    #[test]
    fn levels_are_selected_by_name_and_by_rung() {
        let names = |only: &str| -> Vec<&str> {
            let only = [only.to_owned()];
            select(&only).unwrap().iter().map(|level| level.name).collect()
        };
        assert_eq!(names("golden"), ["golden"]);
        assert_eq!(names("l3"), ["converge"]);
        assert!(names("L5").contains(&"sockets"));
        assert_eq!(select(&[]).unwrap().len(), LEVELS.len());
        assert!(select(&["L9".to_owned()]).is_err());
    }

    #[test]
    fn every_test_target_is_run_by_a_level() {
        targets().unwrap();
    }
}
