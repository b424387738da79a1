// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent`: one per node.

use std::process::ExitCode;

use clap::Parser as _;
use lb_agent::{
    cli::{Cli, exit_code},
    source::chain,
};

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lb-agent: {}", chain(error.as_ref()));
            exit_code(&error)
        }
    }
}
