// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask`: every verb of the project. This file only dispatches.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod build;
mod command;
mod setup;

/// The project's verbs.
#[derive(Parser)]
#[command(name = "cargo xtask", about, version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// One variant a verb; each has a file of its own.
#[derive(Subcommand)]
enum Verb {
    /// Find or install everything the other verbs need
    Setup,
    /// Build the kernel programs and the agent
    Build(build::Args),
}

fn main() -> Result<ExitCode> {
    match Args::parse().verb {
        Verb::Setup => Ok(setup::run()),
        Verb::Build(args) => build::run(&args),
    }
}
