// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask build`: the kernel programs and the agent, which embeds them.

use std::{fs, path::PathBuf, process::ExitCode, sync::Once};

use anyhow::{Context as _, Result};

use crate::{command, setup};

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build without optimisation: quicker to build, for tests
    #[arg(long)]
    debug: bool,
}

/// How the agent is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests.
    Debug,
    /// For use, the demo and benchmarks.
    Release,
}

/// Builds the agent and prints where it is.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { debug } = *args;
    let profile = if debug { Profile::Debug } else { Profile::Release };
    println!("{}", agent(profile)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the agent, whose build script builds the kernel programs first; returns its path.
///
/// # Errors
///
/// When something it is built with is missing, or does not compile.
pub(crate) fn agent(profile: Profile) -> Result<PathBuf> {
    bins(profile, &["lb-agent"])?;
    Ok(path(profile, "lb-agent"))
}

/// Builds programs of the workspace, in one go so that they share their dependencies.
///
/// # Errors
///
/// As [`agent`].
pub(crate) fn bins(profile: Profile, bins: &[&str]) -> Result<()> {
    let mut selection = vec!["build"];
    selection.extend(WORKSPACE);
    if profile == Profile::Release {
        selection.push("--release");
    }
    selection.extend(bins.iter().flat_map(|bin| ["--bin", bin]));
    cargo(&selection, &bins.join(", "))
}

/// Builds every program and every test without optimisation, and returns the agent's path.
/// Programs built alone would get dependencies without the features that only tests ask for,
/// and half of the workspace would be built twice.
///
/// # Errors
///
/// As [`agent`].
pub(crate) fn for_tests() -> Result<PathBuf> {
    let mut selection = vec!["build"];
    selection.extend(WORKSPACE);
    selection.extend(["--bins", "--tests"]);
    cargo(&selection, "the agent, the tests")?;
    Ok(path(Profile::Debug, "lb-agent"))
}

/// Builds the agent whose kernel programs log every decision, beside the ordinary one, and
/// returns its path. Its dependencies have a feature more, so it is a while at the first time.
///
/// # Errors
///
/// As [`agent`].
pub(crate) fn tracing_agent() -> Result<PathBuf> {
    let mut selection = vec!["build"];
    selection.extend(WORKSPACE);
    selection.extend(["--bin", "lb-agent", "--features", "lb-agent/trace-datapath"]);
    cargo(&selection, "the agent that logs decisions")?;
    let (built, kept) =
        (path(Profile::Debug, "lb-agent"), path(Profile::Debug, "lb-agent-tracing"));
    // Under a name of its own, before [`for_tests`] puts the ordinary one in its place.
    fs::copy(&built, &kept).with_context(|| format!("copying {}", built.display()))?;
    Ok(kept)
}

fn cargo(selection: &[&str], what: &str) -> Result<()> {
    static SAID: Once = Once::new();
    setup::need(&[&setup::LINKER, &setup::RUST_SOURCE])?;
    SAID.call_once(|| eprintln!("building the kernel programs, {what}"));
    command::run(command::cargo().args(selection))
}

/// Where cargo puts a program.
pub(crate) fn path(profile: Profile, bin: &str) -> PathBuf {
    let folder = match profile {
        Profile::Debug => "debug",
        Profile::Release => "release",
    };
    command::target_dir().join(folder).join(bin)
}

/// Every crate that is compiled for this machine. All cargo commands select the same crates:
/// another selection means other features of shared dependencies, and everything built twice.
pub(crate) const WORKSPACE: [&str; 3] = ["--workspace", "--exclude", "lb-ebpf"];
