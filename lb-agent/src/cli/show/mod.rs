// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent show`: what the kernel holds, from the pinned maps alone.

mod affinity;
mod backends;
mod counters;
mod flows;
mod issues;
mod pods;
mod programs;
mod services;
mod sockets;

use std::process::ExitCode;

use clap::ValueEnum;

use super::{
    Roots,
    output::{self, Format},
};
use crate::{datapath::view::View, plan::tables::Tables};

/// What to print, and how.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What to print
    what: What,
    #[command(flatten)]
    roots: Roots,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    flows: flows::Select,
}

/// The things that can be printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Frontends with their sets, and what was ignored
    Services,
    /// Backends with their states and the sockets they serve
    Backends,
    /// Sockets with what they dialled and what they got
    Sockets,
    /// Flows of clients outside, with what they dialled and what they got
    Flows,
    /// ClientIP pins
    Affinity,
    /// Kernel programs and where they are attached
    Programs,
    /// Exits of the kernel programs, by reason
    Counters,
    /// Pods whose sockets are left alone, and the devices at which their packets are translated
    Pods,
    /// What was ignored, is not served or needs a hand, and what to do about it
    Issues,
}

/// What `show services` and `show backends` print for tables in memory.
pub fn text(tables: &Tables) -> String {
    let services = output::render(&services::rows(tables));
    let backends = output::render(&backends::rows(tables, |_| 0));
    format!("{services}\n\n{backends}\n")
}

/// Prints what was asked for.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { what, roots, output, flows } = args;
    let view = View::open(&roots.bpf_root)?;
    match what {
        What::Services => services::print(&view, *output)?,
        What::Backends => backends::print(&view, *output)?,
        What::Sockets => sockets::print(&view, *output)?,
        What::Flows => flows::print(&view, *output, flows)?,
        What::Affinity => affinity::print(&view, *output)?,
        What::Programs => programs::print(&view, *output)?,
        What::Counters => counters::print(&view, *output)?,
        What::Pods => pods::print(&view, *output)?,
        What::Issues => issues::print(&view, *output)?,
    }
    Ok(ExitCode::SUCCESS)
}
