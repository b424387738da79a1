// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The checks that cargo and the toolchain do.

use std::env::consts::ARCH;

use anyhow::{Context as _, Result};

use crate::{
    build::{self, WORKSPACE},
    command, setup,
};

/// The formatting of every crate, the kernel programs' too.
///
/// # Errors
///
/// When a file is not formatted.
pub(crate) fn fmt() -> Result<()> {
    command::run(command::cargo().args(["fmt", "--all", "--check"]))
}

/// The layout of every shared struct: constant asserts that both compilers evaluate, so building
/// the agent with its kernel programs is the test.
///
/// # Errors
///
/// When an assert does not hold, or something does not build.
pub(crate) fn layout() -> Result<()> {
    build::for_tests().map(drop)
}

/// Clippy on every crate, with every warning an error.
///
/// # Errors
///
/// When there is one.
pub(crate) fn clippy() -> Result<()> {
    setup::need(&[&setup::LINKER, &setup::RUST_SOURCE])?;
    let mut clippy = command::cargo();
    clippy.arg("clippy").args(WORKSPACE).args(["--all-targets", "--", "-D", "warnings"]);
    command::run(&mut clippy)?;
    bpf_clippy()
}

/// Clippy on the kernel programs, by the compiler that builds them. `cargo clippy` is this: a
/// check with clippy in the compiler's place, and the lint levels in a variable.
fn bpf_clippy() -> Result<()> {
    let sysroot = setup::bpf_sysroot().context("no compiler for the BPF target")?;
    let mut check = command::cargo();
    check.args(["check", "--package", "lb-ebpf", "--target", "bpfel-unknown-none"]);
    check.arg("-Zbuild-std=core").arg("--target-dir").arg(command::target_dir().join("bpf-lint"));
    check.env("RUSTC", sysroot.join("bin/rustc")).env("RUSTC_BOOTSTRAP", "1");
    check.env("RUSTC_WORKSPACE_WRAPPER", sysroot.join("bin/clippy-driver"));
    check.env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__");
    check.env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{ARCH}\""));
    command::run(&mut check)
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
