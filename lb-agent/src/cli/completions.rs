// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

/// Which shell.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The shell to complete for
    shell: Shell,
}

/// Writes the script to standard output.
pub(super) fn run(args: &Args) -> ExitCode {
    let Args { shell } = args;
    clap_complete::generate(*shell, &mut Cli::command(), "lb-agent", &mut std::io::stdout());
    ExitCode::SUCCESS
}
