// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What turns the kernel programs into a BPF object: the linker, and a compiler with the source
//! of `core` for a target that no toolchain ships compiled.

use std::{
    env::{self, consts::ARCH},
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    command,
    setup::{Requirement, apt},
};

/// The BPF linker, at the one version whose LLVM matches the compilers we use.
pub(crate) static LINKER: Requirement = Requirement {
    name: "bpf-linker",
    purpose: "links the kernel programs",
    find: find_linker,
    install: install_linker,
    by_hand: "cargo install --locked bpf-linker@0.10.4",
};

/// A compiler for `bpfel-unknown-none` that has the source of `core` beside it.
pub(crate) static RUST_SOURCE: Requirement = Requirement {
    name: "rust source",
    purpose: "`core` for the BPF target",
    find: find_rust_source,
    install: || apt::install(&["rustc-web", "rust-web-src"]),
    by_hand: "apt-get update && apt-get install -y rustc-web rust-web-src, \
              or: rustup toolchain install nightly --component rust-src",
};

/// The linter of the compiler that [`RUST_SOURCE`] found.
pub(crate) static BPF_LINTS: Requirement = Requirement {
    name: "bpf clippy",
    purpose: "the lints of the kernel programs",
    find: find_bpf_lints,
    install: || apt::install(&["rust-web-clippy"]),
    by_hand: "apt-get update && apt-get install -y rust-web-clippy, \
              or: rustup component add clippy --toolchain nightly",
};

/// The formatter and the linter of the toolchain in use.
pub(crate) static LINTS: Requirement = Requirement {
    name: "fmt, clippy",
    purpose: "the checks of style",
    find: find_lints,
    install: || anyhow::bail!("components of a toolchain are its owner's to install"),
    by_hand: "rustup component add rustfmt clippy",
};

fn find_linker() -> Result<String, String> {
    let linker = command::find("bpf-linker").ok_or("not on this machine")?;
    let text = command::output(command::command(&linker).arg("--version"))
        .ok_or_else(|| format!("{} does not run", linker.display()))?;
    match text.strip_prefix("bpf-linker ") {
        Some(LINKER_VERSION) => Ok(format!("{} {LINKER_VERSION}", linker.display())),
        _ => Err(format!("{} is `{text}`, not {LINKER_VERSION}", linker.display())),
    }
}

fn install_linker() -> Result<()> {
    println!("setup: bpf-linker: cargo install builds it, about 90 s on two cores");
    let mut install = command::cargo();
    install.args(["install", "--locked", "--force", "--version", LINKER_VERSION, "bpf-linker"]);
    // Not ours: cargo install must not pick up this workspace's target folder or flags.
    install.current_dir("/").env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    command::run(&mut install)
}

fn find_rust_source() -> Result<String, String> {
    let sysroot = bpf_sysroot()
        .ok_or("neither rustup's nightly with rust-src nor Debian's rustc-web with rust-web-src")?;
    let rustc = sysroot.join("bin/rustc");
    let version = command::output(command::command(&rustc).arg("--version"))
        .ok_or_else(|| format!("{} does not run", rustc.display()))?;
    Ok(format!("{} ({version})", rustc.display()))
}

fn find_bpf_lints() -> Result<String, String> {
    let sysroot = bpf_sysroot().ok_or("no compiler for the BPF target yet")?;
    let driver = sysroot.join("bin/clippy-driver");
    if !driver.is_file() {
        return Err(format!("{} is not there", driver.display()));
    }
    Ok(driver.display().to_string())
}

/// Where the compiler for the BPF target is installed; the same places, in the same order, as
/// the agent's build script looks in.
pub(crate) fn bpf_sysroot() -> Option<PathBuf> {
    let debian = Path::new("/usr");
    nightly_with_source()
        .or_else(|| (debian.join("bin/rustc").is_file() && has_core(debian)).then(|| debian.into()))
}

/// A nightly of rustup's that has the source; looked for in the file system, since asking rustup
/// for a toolchain that is not there makes it download one.
fn nightly_with_source() -> Option<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")))?;
    let name = format!("nightly-{ARCH}-");
    home.join("toolchains")
        .read_dir()
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
        .map(|entry| entry.path())
        .find(|sysroot| has_core(sysroot))
}

fn has_core(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
}

fn find_lints() -> Result<String, String> {
    let version = |verb| command::output(command::cargo().args([verb, "--version"]));
    match (version("fmt"), version("clippy")) {
        (Some(fmt), Some(clippy)) => Ok(format!("{fmt}, {clippy}")),
        (None, _) => Err("this toolchain has no rustfmt".to_owned()),
        (_, None) => Err("this toolchain has no clippy".to_owned()),
    }
}

const LINKER_VERSION: &str = "0.10.4";
