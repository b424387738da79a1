// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent explain`: what would happen to a connection, and which rule decides each step.
//!
//! Runs the decision that the kernel programs run, over a copy of their maps.

mod answer;
mod guard;
mod nobody;
mod question;

use std::process::ExitCode;

use self::{
    answer::explain,
    question::{From, Target},
};
use super::{
    NEGATIVE, Roots,
    output::{self, Format},
};
use crate::{
    datapath::view::{self, View},
    run::{questions, state},
};

/// What is dialled, and by whom.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What is dialled, such as 10.96.0.10:80/TCP; IPv6 in brackets, TCP if no protocol is given
    #[arg(value_name = "ADDR:PORT[/PROTO]")]
    target: Target,
    /// Who dials: "host" for a process on the node, "pod" for one in a pod, or the address
    /// that the pod has or the socket is bound to
    #[arg(long, value_name = "WHO", default_value = "host")]
    from: From,
    #[command(flatten)]
    roots: Roots,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Prints the verdict in one line, then the steps that led to it.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { target, from, roots, output: format } = args;
    let view = View::open(&roots.bpf_root)?;
    let mut answer = explain(&view.tables()?, &view.pins()?, *target, *from, view::now_ns());
    if let Some((name, local)) = answer.service_port(*target) {
        answer.add_left_out(questions::left_out(view.root(), &name, local));
    }
    answer.add_pod(*from, &state::pods(view.root())?);
    answer.add_issues(state::issues(view.root())?);
    output::write(|out| match format {
        Format::Table => writeln!(out, "{answer}"),
        Format::Json => {
            serde_json::to_writer(&mut *out, &answer)?;
            writeln!(out)
        }
    })?;
    Ok(if answer.is_frontend() { ExitCode::SUCCESS } else { ExitCode::from(NEGATIVE) })
}

#[cfg(test)]
mod tests;
