// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lab-pod`: what runs inside a place of the lab.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use lab::{inside, netns::Netns, server::ServeSpec};

/// Enters a cgroup and a network namespace of the lab, then does its verb there.
#[derive(Parser)]
struct Args {
    /// cgroup2 directory to enter.
    #[arg(long)]
    cgroup: PathBuf,
    /// Named network namespace to enter.
    #[arg(long)]
    netns: String,
    #[command(subcommand)]
    verb: Verb,
}

/// What to do inside.
#[derive(Subcommand)]
enum Verb {
    /// Become another program.
    Exec {
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true)]
        program: Vec<String>,
    },
    /// Answer on TCP and UDP, IPv4 and IPv6.
    Serve {
        /// Name to answer with.
        #[arg(long)]
        name: String,
        /// Line, HTTP and datagram port.
        #[arg(long = "port")]
        ports: Vec<u16>,
        /// Port on which bytes come back as they are.
        #[arg(long = "raw-port")]
        raw_ports: Vec<u16>,
        /// Port on which a stream is compared and sent back.
        #[arg(long = "bulk-port")]
        bulk_ports: Vec<u16>,
        /// Port for very many connections.
        #[arg(long = "crowd-port")]
        crowd_ports: Vec<u16>,
    },
    /// Send a stream to a bulk port and have it back.
    Pour {
        /// Whom.
        to: SocketAddr,
        /// How much, MiB.
        blocks: u64,
    },
    /// Open sockets as commanded on standard input, JSON in lines.
    Drive,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-pod: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the arguments say.
fn run() -> Result<()> {
    let Args { cgroup, netns, verb } = Args::parse();
    inside::enter(&cgroup, &Netns::named(netns))?;
    match verb {
        Verb::Exec { program } => inside::exec(&program),
        Verb::Serve { name, ports, raw_ports, bulk_ports, crowd_ports } => {
            let spec = ServeSpec { name, ports, raw_ports, bulk_ports, crowd_ports };
            inside::serve::run(&spec)
        }
        Verb::Pour { to, blocks } => inside::bulk::pour(to, blocks),
        Verb::Drive => inside::drive::run(),
    }
}
