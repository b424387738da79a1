// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line: one file per verb. `run` changes the node; `check`, `show`, `explain` and
//! `diff` only read; `monitor` asks the programs to tell what they do; `unload` removes every
//! trace.

mod check;
mod completions;
mod diff;
mod explain;
mod monitor;
mod output;
mod proxy_flags;
mod run;
mod settings;
pub mod show;
mod unload;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{config::kube_proxy, run::RunError};

/// Replaces kube-proxy on this node: balances Kubernetes Services in the kernel, at connect().
#[derive(Debug, Parser)]
#[command(name = "lb-agent", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Keep this node's maps equal to the cluster's Services, until stopped
    Run(Box<run::Args>),
    /// Say whether this node can run it, and if not, what to do
    Check(check::Args),
    /// Print what the kernel holds; works without a running agent
    Show(show::Args),
    /// Say what would happen to a connection, and which rule decides each step
    Explain(explain::Args),
    /// Compare what the kernel holds with what the agent that runs wants it to hold
    Diff(diff::Args),
    /// Tell of new flows, drops and refusals while they happen; a sample, until stopped
    Monitor(monitor::Args),
    /// Detach the programs and remove every map, link and pin
    Unload(unload::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Where this agent's part of the kernel is. Two agents with different roots do not
/// see each other.
#[derive(Args, Clone, Debug)]
struct Roots {
    /// Directory on a bpffs for maps, links and programs
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPF_ROOT)]
    bpf_root: PathBuf,
}

/// Where the programs attach.
#[derive(Args, Clone, Debug)]
struct CgroupRoot {
    /// The cgroup whose sockets are balanced [default: the root of the node's cgroup2 mount]
    #[arg(long, value_name = "DIR")]
    cgroup_root: Option<PathBuf>,
}

impl Cli {
    /// Does what was asked for; the exit code is documented in `--help`.
    ///
    /// # Errors
    ///
    /// Whatever stops the verb, with the file, flag or map that it is about.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Run(args) => run::run(*args),
            Verb::Check(args) => check::run(&args),
            Verb::Show(args) => show::run(&args),
            Verb::Explain(args) => explain::run(&args),
            Verb::Diff(args) => diff::run(&args),
            Verb::Monitor(args) => monitor::run(&args),
            Verb::Unload(args) => unload::run(&args),
            Verb::Completions(args) => completions::run(&args),
        }
    }
}

/// The exit code for an error: 2 for what the command line names, 1 for all else.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.chain().any(|cause| {
        cause.is::<kube_proxy::Error>()
            || cause.downcast_ref::<RunError>().is_some_and(RunError::is_usage)
    });
    ExitCode::from(if usage { 2 } else { 1 })
}

/// Printed under `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  done; `check`: nothing is missing; `explain`: the address is a frontend; `diff`: no
     difference
  1  something failed, and the message says what; `diff`: there is a difference
  2  a flag, file or address given on the command line cannot be used; `diff`: no comparison
  3  `check`: something is missing; `explain`: the address is nobody's";

/// `check` found something missing, or `explain` nobody's address.
const NEGATIVE: u8 = 3;

/// Where a node's agent keeps its pins.
const DEFAULT_BPF_ROOT: &str = "/sys/fs/bpf/sluice";
