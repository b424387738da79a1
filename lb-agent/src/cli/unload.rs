// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent unload`: detaches the programs and removes every trace.

use std::process::ExitCode;

use super::{Roots, output};
use crate::{datapath::load, run::state};

/// Which agent's.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) roots: Roots,
}

/// Removes links, programs, maps and the directories that held them.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { roots } = args;
    let found = load::unload(&roots.bpf_root)?;
    state::remove(&roots.bpf_root)?;
    let root = roots.bpf_root.display();
    let done = if found {
        "detached the programs and removed every map, link and pin"
    } else {
        "nothing to remove"
    };
    output::write(|out| writeln!(out, "{root}: {done}"))?;
    Ok(ExitCode::SUCCESS)
}
