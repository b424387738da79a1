// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask bless`: takes what the code does now as what it should do. Review the diff.

use std::process::ExitCode;

use anyhow::Result;

use crate::{command, setup, test};

/// What to accept.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only snapshots of tests whose path contains this
    filter: Option<String>,
    /// Rewrite tests/skips.txt from a full run instead
    #[arg(long, conflicts_with = "filter")]
    skips: bool,
}

/// Rewrites the snapshots of unit and golden tests, and files generated from code.
///
/// # Errors
///
/// When the tests do not build or fail for another reason than a snapshot.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { filter, skips } = args;
    if *skips {
        return test::bless_skips();
    }
    setup::need(&[&setup::LINKER, &setup::RUST_SOURCE])?;
    let mut select = vec!["--lib", "--bins"];
    if test::level::targets()?.iter().any(|target| target == "golden") {
        select.extend(["--test", "golden"]);
    }
    let mut tests = test::test_command(&select);
    tests.env("INSTA_UPDATE", "always").env("SLUICE_BLESS", "1").arg("--").args(filter);
    command::run(&mut tests)?;
    let status = command::output(command::command("git").args(["status", "--short"]));
    println!("changed files, for review:\n{}", status.unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}
