// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verbs that are programs of their own in crate lb-tests: `demo`, `bench` and `lab`.
//! This file builds them, with the agent they drive, and runs them.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Profile},
    command,
    setup::{self, Requirement},
    test::level,
};

/// Arguments that the program itself reads; `--help` shows them.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Passed on to the program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// The main job, before your eyes.
///
/// # Errors
///
/// When something is missing, does not build, or the program cannot be started.
pub(crate) fn demo(args: &Args) -> Result<ExitCode> {
    let mut needs = vec![&setup::BPFFS, &setup::CGROUP2, &setup::IP, &setup::BPFTOOL];
    if args.rest.iter().any(|word| word == "--cluster") {
        needs.push(&setup::GO);
    }
    run("demo", Profile::Release, &needs, args)
}

/// The benchmark, with kube-proxy as its baseline.
///
/// # Errors
///
/// As [`demo`].
pub(crate) fn bench(args: &Args) -> Result<ExitCode> {
    let needs =
        [&setup::BPFFS, &setup::CGROUP2, &setup::IP, &setup::GO, &setup::NFT, &setup::IPTABLES];
    run("bench", Profile::Release, &needs, args)
}

/// The lab, to stand in and look around.
///
/// # Errors
///
/// As [`demo`].
pub(crate) fn lab(args: &Args) -> Result<ExitCode> {
    run("lab", Profile::Debug, &[&setup::BPFFS, &setup::CGROUP2, &setup::IP], args)
}

/// Builds `program` and the agent, and runs it with `args`; its exit code becomes ours.
fn run(program: &str, profile: Profile, needs: &[&Requirement], args: &Args) -> Result<ExitCode> {
    let manifest = fs::read_to_string(command::root().join("tests/Cargo.toml"))
        .context("tests/Cargo.toml cannot be read")?;
    if !level::names_in(&manifest, "[[bin]]").iter().any(|name| name == program) {
        bail!("crate lb-tests has no program `{program}`: add a [[bin]] to tests/Cargo.toml");
    }
    setup::need(needs)?;
    build::bins(profile, &["lb-agent", program])?;
    let mut command = command::command(build::path(profile, program));
    command.args(&args.rest).env("LB_AGENT", build::path(profile, "lb-agent"));
    let status = command
        .status()
        .with_context(|| format!("`{}` cannot be started", command::line(&command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
