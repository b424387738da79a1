// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, output};

/// Which shell.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The shell to complete for
    shell: Shell,
}

/// Writes the script to standard output.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { shell } = args;
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut Cli::command(), "lb-agent", &mut script);
    output::write(|out| out.write_all(&script))?;
    Ok(ExitCode::SUCCESS)
}
