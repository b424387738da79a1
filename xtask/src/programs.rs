// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verbs that are programs of their own in crate lb-tests: `demo`, `bench`, `parity` and `lab`.
//! This file builds them, with the agent they drive, and runs them.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Profile},
    command, manifest, setup,
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
    setup::need(&[&setup::BPFFS, &setup::CGROUP2, &setup::IP, &setup::BPFTOOL, &setup::CURL])?;
    if args.rest.iter().any(|word| word == "--cluster") {
        build::bins(Profile::Release, &["lab"])?;
        control_plane(Profile::Release)?;
    }
    run("demo", Profile::Release, args)
}

/// The benchmark, with kube-proxy as its baseline.
///
/// # Errors
///
/// As [`demo`].
pub(crate) fn bench(args: &Args) -> Result<ExitCode> {
    setup::need(&[&setup::BPFFS, &setup::CGROUP2, &setup::IP, &setup::NFT, &setup::IPTABLES])?;
    setup::need(&[&setup::ETHTOOL])?;
    build::bins(Profile::Release, &["lab"])?;
    control_plane(Profile::Release)?;
    run("bench", Profile::Release, args)
}

/// What clients of Services meet, beside kube-proxy.
///
/// # Errors
///
/// As [`demo`].
pub(crate) fn parity(args: &Args) -> Result<ExitCode> {
    setup::need(&[&setup::BPFFS, &setup::CGROUP2, &setup::IP, &setup::NFT, &setup::IPTABLES])?;
    build::bins(Profile::Debug, &["lab"])?;
    control_plane(Profile::Debug)?;
    run("parity", Profile::Debug, args)
}

/// The lab, to stand in and look around.
///
/// # Errors
///
/// As [`demo`].
pub(crate) fn lab(args: &Args) -> Result<ExitCode> {
    setup::need(&[&setup::BPFFS, &setup::CGROUP2, &setup::IP])?;
    run("lab", Profile::Debug, args)
}

/// Makes sure that the control plane's programs are built, minutes with a cold cache, before
/// something with a time limit waits for them. Program `lab` does it, and is there already.
///
/// # Errors
///
/// When Go is missing, or they do not build.
pub(crate) fn control_plane(profile: Profile) -> Result<()> {
    setup::need(&[&setup::GO])?;
    command::run(command::command(build::path(profile, "lab")).arg("tools"))
}

/// Builds `program` with what it runs, and runs it with `args`; its exit code becomes ours.
fn run(program: &str, profile: Profile, args: &Args) -> Result<ExitCode> {
    let text = fs::read_to_string(command::root().join("tests/Cargo.toml"))
        .context("tests/Cargo.toml cannot be read")?;
    if !manifest::names_in(&text, "[[bin]]").iter().any(|name| name == program) {
        bail!("crate lb-tests has no program `{program}`: add a [[bin]] to tests/Cargo.toml");
    }
    build::bins(profile, &["lb-agent", "lab-pod", program])?;
    let mut command = command::command(build::path(profile, program));
    command.args(&args.rest).env("LB_AGENT", build::path(profile, "lb-agent"));
    let status = command
        .status()
        .with_context(|| format!("`{}` cannot be started", command::line(&command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
