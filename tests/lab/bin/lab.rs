// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lab`: a lab by hand. `cargo xtask lab` calls it.

use std::{os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use lab::{
    Lab,
    id::RunId,
    state::{self, State},
    tools::Tool,
};

/// A cluster on one machine, made of namespaces, cgroups and real processes.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do.
#[derive(Subcommand)]
enum Verb {
    /// Make a lab that stands until `lab down ID`.
    Up {
        /// Number of nodes.
        #[arg(long, default_value_t = 2)]
        nodes: u8,
        /// Number of pods on each node.
        #[arg(long, default_value_t = 2)]
        pods: u8,
        /// Port that the pods serve on.
        #[arg(long = "port", default_value = "8080")]
        ports: Vec<u16>,
    },
    /// Remove a lab; without an id, those whose process died.
    Down {
        /// Which one.
        id: Option<String>,
        /// All that no running process owns, those made by `lab up` too.
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
    /// Run a program in a place of a lab.
    Exec {
        /// Which lab; may be left out when there is one.
        #[arg(long)]
        id: Option<String>,
        /// `node-1`, `pod-1-2`, `client`, `control`.
        place: String,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true)]
        program: Vec<String>,
    },
    /// List places, with addresses and namespaces.
    Pods {
        /// Of this lab only.
        id: Option<String>,
    },
    /// Build the control plane's programs now, so that no test waits for it.
    Tools,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the arguments say.
fn run() -> Result<()> {
    if let Some(why) = lab::missing() {
        bail!("{why}");
    }
    match Args::parse().verb {
        Verb::Up { nodes, pods, ports } => up(nodes, pods, &ports),
        Verb::Down { id: Some(id), .. } => down(&RunId::parse(&id)?),
        Verb::Down { id: None, all } => down_unowned(all),
        Verb::Exec { id, place, program } => exec(id.as_deref(), &place, &program),
        Verb::Pods { id } => pods(id.as_deref()),
        Verb::Tools => tools(),
    }
}

/// Makes a lab and leaves it standing.
fn up(nodes: u8, pods: u8, ports: &[u16]) -> Result<()> {
    let lab = Lab::builder().nodes(nodes).pods(pods).ports(ports).keep().start()?;
    let id = lab.id();
    drop(lab);
    print_places(&State::load(&id)?);
    println!("enter it:  lab exec --id {id} pod-1-1 bash      remove it:  lab down {id}");
    Ok(())
}

/// Removes one lab, whoever owns it.
fn down(id: &RunId) -> Result<()> {
    state::remove(id)?;
    println!("removed lab {id}");
    Ok(())
}

/// Removes labs that nobody needs.
fn down_unowned(all: bool) -> Result<()> {
    let mut removed = state::sweep()?;
    if all {
        let unowned = State::all().into_iter().filter(|state| !state.owner.is_alive());
        for state in unowned {
            state::remove(&state.id)?;
            removed.push(state.id);
        }
    }
    for id in &removed {
        println!("removed lab {id}");
    }
    if removed.is_empty() {
        println!("no crashed lab");
    }
    Ok(())
}

/// Becomes a program in a place.
fn exec(id: Option<&str>, place: &str, program: &[String]) -> Result<()> {
    let state = chosen(id)?;
    let (name, args) = program.split_first().context("no program to run")?;
    let mut command = state.place(place)?.command(name)?;
    Err(command.args(args).exec()).with_context(|| format!("running {name} in {place}"))
}

/// Lists places.
fn pods(id: Option<&str>) -> Result<()> {
    let states = match id {
        Some(_) => vec![chosen(id)?],
        None => State::all(),
    };
    if states.is_empty() {
        println!("no lab: `lab up` makes one");
    }
    states.iter().for_each(print_places);
    Ok(())
}

/// Builds what is not built yet.
fn tools() -> Result<()> {
    for tool in Tool::ALL {
        println!("{:24} {}", tool.name(), tool.path()?.display());
    }
    Ok(())
}

/// The lab that was asked for, or the only one.
fn chosen(id: Option<&str>) -> Result<State> {
    if let Some(id) = id {
        return State::load(&RunId::parse(id)?);
    }
    let mut all = State::all();
    match (all.pop(), all.len()) {
        (Some(state), 0) => Ok(state),
        (None, _) => bail!("no lab: `lab up` makes one"),
        (Some(_), more) => {
            bail!("there are {} labs: name one with --id (`lab pods` lists them)", more + 1)
        }
    }
}

/// One lab as a table.
fn print_places(state: &State) {
    let owner = match (state.keep, state.owner.is_alive()) {
        (true, _) => "kept".to_owned(),
        (false, true) => format!("owned by process {}", state.owner.pid),
        (false, false) => "crashed: `lab down` removes it".to_owned(),
    };
    println!("lab {} ({owner})", state.id);
    for place in &state.places {
        println!(
            "  {:10} {:16} {:22} netns {}",
            place.name,
            place.v4,
            place.v6,
            place.netns.name()
        );
    }
}
