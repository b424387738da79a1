// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask setup`: finds or installs what the other verbs need.
//!
//! Every need is one [`Requirement`]: a way to find it, a way to install it, and the command that
//! does the same by hand. `setup` walks through all of them; every other verb asks for its own
//! with [`need`], which is silent unless something has to be installed.

use std::process::ExitCode;

use anyhow::{Result, bail};

pub(crate) use self::{
    compiler::{BPF_LINTS, LINKER, LINTS, RUST_SOURCE, bpf_sysroot},
    golang::GO,
    mounts::{BPFFS, CGROUP2},
    tools::{BPFTOOL, CURL, ETHTOOL, IP, IPTABLES, NFT, OPENSSL, QEMU, STRACE},
};

mod apt;
mod compiler;
mod golang;
mod mounts;
mod tools;

/// Something a verb needs on the machine.
pub(crate) struct Requirement {
    /// What it is called in the output.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// Where it is: `Ok` describes what was found, `Err` says what is amiss.
    pub(crate) find: fn() -> Result<String, String>,
    /// Installs it, printing progress; only called after `find` failed.
    pub(crate) install: fn() -> Result<()>,
    /// The command for a person to run when `install` cannot.
    pub(crate) by_hand: &'static str,
}

/// What became of a requirement.
enum Outcome {
    Found(String),
    Installed(String),
    Missing(String),
}

/// Walks through every requirement and prints one line each.
pub(crate) fn run() -> ExitCode {
    let mut missing = 0;
    for requirement in ALL {
        let outcome = requirement.settle();
        requirement.print(&outcome);
        missing += usize::from(matches!(outcome, Outcome::Missing(_)));
    }
    if missing > 0 {
        println!(
            "setup: {missing} missing; run the commands above, then `cargo xtask setup` again"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Makes sure of `requirements`; prints only what it had to install.
///
/// # Errors
///
/// Names everything that is missing, and the commands that mend it.
pub(crate) fn need(requirements: &[&Requirement]) -> Result<()> {
    let mut missing = Vec::new();
    for requirement in requirements {
        match requirement.settle() {
            Outcome::Found(_) => {}
            outcome @ Outcome::Installed(_) => requirement.print(&outcome),
            Outcome::Missing(why) => missing.push(format!(
                "{} is missing ({}): {why}\n  by hand: {}",
                requirement.name, requirement.purpose, requirement.by_hand
            )),
        }
    }
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    Ok(())
}

impl Requirement {
    /// Finds it, or installs it and finds it then.
    fn settle(&self) -> Outcome {
        let amiss = match (self.find)() {
            Ok(found) => return Outcome::Found(found),
            Err(amiss) => amiss,
        };
        println!("setup: {}: {amiss}; installing", self.name);
        match (self.install)() {
            Ok(()) => match (self.find)() {
                Ok(found) => Outcome::Installed(found),
                Err(amiss) => Outcome::Missing(format!("still amiss after installing: {amiss}")),
            },
            Err(error) => Outcome::Missing(format!("{amiss}; {error:#}")),
        }
    }

    fn print(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Found(what) => println!("{:<12} found      {what}", self.name),
            Outcome::Installed(what) => println!("{:<12} installed  {what}", self.name),
            Outcome::Missing(why) => println!(
                "{:<12} MISSING    {why}\n{:<12} by hand    {}",
                self.name, "", self.by_hand
            ),
        }
    }
}

/// Everything, in the order a person reads it: what builds, what tests, what is mounted.
const ALL: &[&Requirement] = &[
    &LINTS,
    &LINKER,
    &RUST_SOURCE,
    &BPF_LINTS,
    &GO,
    &IP,
    &NFT,
    &IPTABLES,
    &ETHTOOL,
    &BPFTOOL,
    &CURL,
    &STRACE,
    &OPENSSL,
    &QEMU,
    &BPFFS,
    &CGROUP2,
];
