// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask demo`: the main job before your eyes, on a cluster made of namespaces.
//!
//! Every step shows what a person would look at, says in one line what that proves, and
//! checks it: the exit code is not 0 when a step did not prove what it says.

mod http;
mod maps;
mod outside;
mod screen;
mod stage;
mod steps;
mod traffic;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};
use clap::Parser;

use crate::{screen::Screen, stage::Stage};

/// Two nodes, four pods, one ClusterIP.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo", version)]
struct Args {
    /// With a real kube-apiserver and its controllers, and objects made by kubectl
    #[arg(long)]
    cluster: bool,
    /// Clients outside the cluster instead: every way in, and one flow on each hop
    #[arg(long, conflicts_with_all = ["cluster", "keep"])]
    outside: bool,
    /// Leave the lab standing, and say how to enter it
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    run(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The whole show.
fn run(args: &Args) -> Result<ExitCode> {
    let Args { cluster, outside, keep } = *args;
    if let Some(why) = lab::missing() {
        bail!("{why}");
    }
    let started = Instant::now();
    let mut screen = Screen::open();
    if outside {
        outside::show(&mut screen)?;
        let failed = screen.failures();
        screen.end(started.elapsed());
        return Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut stage = Stage::set(&mut screen, cluster, keep)?;
    for step in steps::ALL {
        screen.step(step.title);
        let outcome = (step.show)(&mut screen, &mut stage);
        screen.verdict(step.proves, &outcome);
    }
    let failed = screen.failures();
    stage.strike(&mut screen)?;
    screen.end(started.elapsed());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
