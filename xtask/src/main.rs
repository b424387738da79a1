// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask`: every verb of the project. This file only dispatches.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bless;
mod build;
mod command;
mod deny;
mod lint;
mod manifest;
mod programs;
mod reach;
mod rooms;
mod rules;
mod setup;
mod test;

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
    /// Run the tests, cheapest level first
    Test(test::Args),
    /// Accept what the code does now: rewrite snapshots and generated files
    Bless(bless::Args),
    /// Show the main job: two nodes, four pods, one `ClusterIP`; `--cluster`, `--outside`, `--keep`
    Demo(programs::Args),
    /// Measure, beside bare sockets and kube-proxy
    Bench(programs::Args),
    /// Play every scenario beside the real kube-proxy, and write docs/parity.md
    Parity(programs::Args),
    /// The lab: up, down, exec, pods
    Lab(programs::Args),
    /// Check that each part of the product touches only what it may
    Rooms,
    /// Check that every source file is compiled by some crate
    Reach,
    /// List the rules of docs/behaviour.md, and what proves each
    Rules(rules::Args),
    /// What CI runs: every level, with the exact list of skips
    Ci {
        /// Also run cargo-deny, building it first if it is not there
        #[arg(long)]
        deny: bool,
    },
}

fn main() -> ExitCode {
    run(Args::parse().verb).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Setup => Ok(setup::run()),
        Verb::Build(args) => build::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Bless(args) => bless::run(&args),
        Verb::Demo(args) => programs::demo(&args),
        Verb::Bench(args) => programs::bench(&args),
        Verb::Parity(args) => programs::parity(&args),
        Verb::Lab(args) => programs::lab(&args),
        Verb::Rooms => rooms::run(),
        Verb::Reach => reach::run(),
        Verb::Rules(args) => rules::run(&args),
        Verb::Ci { deny } => {
            if deny {
                deny::all()?;
            }
            test::run(&test::Args::default())
        }
    }
}
