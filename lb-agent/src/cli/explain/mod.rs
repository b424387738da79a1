// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent explain`: what would happen to a connection, and which rule decides each step.
//!
//! Runs the decision that the kernel programs run, over a copy of their maps.

mod answer;
mod guard;
mod nobody;
mod question;
mod scene;
mod way;

use std::{net::IpAddr, process::ExitCode};

use anyhow::Context as _;
use lb_common::backend::BackendFlags;

use self::{
    answer::explain,
    question::{From, Target},
    scene::{OpenFlow, Scene},
    way::{Signs, Way},
};
use super::{
    NEGATIVE, Roots,
    output::{self, Format},
};
use crate::{
    datapath::{
        route::Route,
        view::{self, View},
    },
    plan::tables::Tables,
    run::{
        questions,
        state::{self, PodLine},
    },
};

/// What is dialled, and by whom.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What is dialled, such as 10.96.0.10:80/TCP; IPv6 in brackets, TCP if no protocol is given
    #[arg(value_name = "ADDR:PORT[/PROTO]")]
    target: Target,
    /// Who dials: "host" for a process on the node, "pod" for one in a pod of the node, "outside"
    /// for a client outside; or an address, of a pod, a socket or a client outside, with a port
    /// (192.0.2.7:40000, IPv6 in brackets) if one connection is meant. What an address is follows
    /// from this node's route to it
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
    let (tables, pins, pods) = (view.tables()?, view.pins()?, state::pods(view.root())?);
    let now_ns = view::now_ns();
    let way = way(&view, &tables, &pods, *from)?;
    let flows = if way.is_by_packet() {
        OpenFlow::find(&view, *from, *target, now_ns)?
    } else {
        Vec::new()
    };
    let scene = Scene {
        tables: &tables,
        pins: &pins,
        way,
        own: view.own_addresses(),
        is_here: &is_here,
        flows,
        now_ns,
    };
    let mut answer = explain(&scene, *target, *from);
    if let Some((name, local)) = answer.service_port(*target) {
        answer.add_left_out(questions::left_out(view.root(), &name, local));
    }
    answer.add_pod(*from, &pods);
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

/// Where a client meets our programs.
fn way(view: &View, tables: &Tables, pods: &[PodLine], from: From) -> anyhow::Result<Way> {
    let route = match from.address() {
        Some(address) => Some(
            Route::to(address).with_context(|| format!("cannot ask for the route to {address}"))?,
        ),
        None => None,
    };
    let backend = from.address().and_then(|address| {
        let mut all = tables.backends.iter();
        let found = all.find(|(_, backend)| backend.address.to_ip() == address);
        found.map(|(_, it)| BackendFlags::from_bits_retain(it.flags).contains(BackendFlags::LOCAL))
    });
    let served = way::served(view.programs()?);
    Ok(Way::find(from, &Signs { served, pods, route, backend }))
}

/// Whether an address is one of this node's. If the kernel does not say, it is not.
fn is_here(address: IpAddr) -> bool {
    Route::to(address).is_ok_and(|route| route == Route::Here)
}

#[cfg(test)]
mod tests;
