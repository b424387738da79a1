// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What runs inside a place: the verbs of the `lab-pod` program.
//!
//! `exec` becomes another program, [`serve`] answers, [`drive`] opens sockets.
//! All enter their cgroup first and their network namespace second, while the
//! process has one thread.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{self, Command},
};

use anyhow::{Context as _, Result};

use crate::{cgroup, netns::Netns};

pub mod bulk;
mod cookies;
mod crowd;
mod datagrams;
mod dissolve;
pub mod drive;
mod exchange;
mod hand_over;
mod hold;
mod load;
pub mod serve;
mod survey;

/// Moves this process into a place.
///
/// # Errors
/// Without root, or when either does not exist.
pub fn enter(cgroup: &Path, netns: &Netns) -> Result<()> {
    cgroup::enter(cgroup)?;
    netns.enter()
}

/// Becomes `program`, keeping the pid.
///
/// # Errors
/// Only when that fails.
pub fn exec(program: &[String]) -> Result<()> {
    let (name, args) = program.split_first().context("no program to run")?;
    let error = Command::new(name).args(args).exec();
    Err(error).with_context(|| format!("running {name} in process {}", process::id()))
}
