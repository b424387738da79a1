// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program `lb-agent` as a person meets it: what it prints, how it exits,
//! what it says of bad input.
#![expect(clippy::unwrap_used, reason = "a test's helper fails its test like the test itself")]

mod check;
mod diff;
mod explain;
mod manifests;
mod objects;
mod show;
mod usage;

use std::{path::PathBuf, time::Duration};

use lab::{
    agent::Printed,
    node::Node,
    place::{self, bounded_output},
};

/// Runs a program on a node to its end.
fn run(node: &Node, program: &str, args: &[&str]) -> Printed {
    let mut command = node.command(program).unwrap();
    command.args(args);
    let (code, stdout, stderr) = bounded_output(command, Duration::from_secs(20)).unwrap();
    Printed { code, stdout, stderr }
}

/// Runs `lb-agent` on a node with these words only.
fn agent(node: &Node, words: &[&str]) -> Printed {
    run(node, program().to_str().unwrap(), words)
}

/// Where `lb-agent` is.
fn program() -> PathBuf {
    place::binary("lb-agent", "LB_AGENT").unwrap()
}
