// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Installing Debian packages.

use std::{
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// Installs `packages`, after one `apt-get update` in the life of this process: a fresh machine
/// has no package lists, and old lists name files that are gone.
///
/// # Errors
///
/// When this is not Debian, not root, or the packages cannot be had.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    check_possible()?;
    refresh();
    run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(packages))
}

/// The version of `package` that apt-get would install, e.g. `2:1.24~2`.
pub(crate) fn candidate(package: &str) -> Option<String> {
    check_possible().ok()?;
    refresh();
    let policy = command::output(command::command("apt-cache").args(["policy", package]))?;
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

fn check_possible() -> Result<()> {
    if command::find("apt-get").is_none() {
        bail!("there is no apt-get here to install it with");
    }
    if !command::is_root() {
        bail!("installing packages takes root");
    }
    Ok(())
}

/// Fetches the package lists once. A failure is not final: the lists at hand may do, and if not,
/// the installation itself says so.
fn refresh() {
    static REFRESHED: OnceLock<()> = OnceLock::new();
    REFRESHED.get_or_init(|| {
        if let Err(error) = run(apt_get().arg("update")) {
            eprintln!("setup: {error:#}; going on with the package lists at hand");
        }
    });
}

/// Runs apt-get; what it says matters only when it fails.
fn run(apt_get: &mut Command) -> Result<()> {
    let line = command::line(apt_get);
    let output = apt_get.stdin(Stdio::null()).output().with_context(|| line.clone())?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("`{line}` failed, {}:\n{}", output.status, String::from_utf8_lossy(&said));
    }
    Ok(())
}

fn apt_get() -> Command {
    let mut apt_get = command::command("apt-get");
    // Another apt-get may be at work: wait for its lock instead of failing.
    apt_get.args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    apt_get.env("DEBIAN_FRONTEND", "noninteractive");
    apt_get
}
