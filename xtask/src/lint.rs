// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The checks that cargo and the toolchain do.

use anyhow::Result;

use crate::{
    build::{self, Profile, WORKSPACE},
    command, setup,
};

/// The formatting of every crate, the kernel programs' too.
///
/// # Errors
///
/// When a file is not formatted.
pub(crate) fn fmt() -> Result<()> {
    setup::need(&[&setup::LINTS])?;
    command::run(command::cargo().args(["fmt", "--all", "--check"]))
}

/// The layout of every shared struct: constant asserts that both compilers evaluate, so building
/// the agent with its kernel programs is the test.
///
/// # Errors
///
/// When an assert does not hold, or something does not build.
pub(crate) fn layout() -> Result<()> {
    build::agent(Profile::Debug).map(drop)
}

/// Clippy, with every warning an error.
///
/// # Errors
///
/// When there is one.
pub(crate) fn clippy() -> Result<()> {
    setup::need(&[&setup::LINTS, &setup::LINKER, &setup::RUST_SOURCE])?;
    let mut clippy = command::cargo();
    clippy.arg("clippy").args(WORKSPACE).args(["--all-targets", "--", "-D", "warnings"]);
    command::run(&mut clippy)
}

/// The documentation, private items included, with every warning an error.
///
/// # Errors
///
/// When there is one.
pub(crate) fn doc() -> Result<()> {
    setup::need(&[&setup::LINKER, &setup::RUST_SOURCE])?;
    let mut doc = command::cargo();
    doc.arg("doc").args(WORKSPACE).args(["--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    command::run(&mut doc)
}
