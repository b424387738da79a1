// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the kernel programs (`lb-ebpf`) and leaves their objects where `datapath` embeds
//! them: `$OUT_DIR/lb-ebpf`, and `$OUT_DIR/collect` for the collector of flows.
//!
//! They need `core` for `bpfel-unknown-none`, which comes as source only. A rustup nightly
//! with rust-src will do; so will a distribution's rustc with its source package, told to
//! accept unstable features. `cargo xtask setup` installs one of the two.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// A compiler that can build `core` for the BPF target.
struct Toolchain {
    /// The cargo to call, with its first arguments.
    cargo: Vec<String>,
    /// The rustc for it; `None` where cargo is rustup's and knows its own.
    rustc: Option<&'static str>,
}

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the object and copies it to `OUT_DIR`.
fn build() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    for watched in ["lb-ebpf", "lb-common/src", "lb-common/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    println!("cargo::rerun-if-env-changed={NIGHTLY}");

    let toolchain = find_toolchain()?;
    // Beside the profiles' directories, so that debug and release share one build.
    let target_dir = out.ancestors().nth(4).unwrap_or(&out).join("bpf");
    let mut command = toolchain.command();
    command
        .args(["build", "--release", "--package", "lb-ebpf", "--target", TARGET])
        .args(["-Zbuild-std=core", "--target-dir"])
        .arg(&target_dir)
        .current_dir(&workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&architecture));
    if env::var_os("CARGO_FEATURE_TRACE_DATAPATH").is_some() {
        command.args(["--features", "trace-datapath"]);
    }
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        for line in messages.lines() {
            println!("cargo::warning={line}");
        }
        return Err(format!(
            "lb-ebpf does not build ({}); its messages are above. If a tool is missing, run: cargo xtask setup",
            output.status
        ));
    }
    for name in ["lb-ebpf", "collect"] {
        let object = target_dir.join(TARGET).join("release").join(name);
        // Moved, not written in place: a copy of the target directory may share the file.
        let (beside, embedded) = (out.join(format!("{name}.new")), out.join(name));
        fs::copy(&object, &beside)
            .and_then(|_| fs::rename(&beside, &embedded))
            .map_err(|error| format!("{}: {error}", object.display()))?;
    }
    Ok(())
}

/// rustup's nightly if it has the sources, else the distribution's compiler.
fn find_toolchain() -> Result<Toolchain, String> {
    let nightly = env::var(NIGHTLY).unwrap_or_else(|_| "nightly".to_owned());
    let mut rustup = Command::new("rustup");
    rustup.args(["run", &nightly, "rustc"]);
    if has_sources(&mut rustup) {
        let cargo = ["rustup", "run", &nightly, "cargo"].map(str::to_owned).to_vec();
        return Ok(Toolchain { cargo, rustc: None });
    }
    if has_sources(&mut Command::new(DEBIAN_RUSTC)) {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        return Ok(Toolchain { cargo: vec![cargo], rustc: Some(DEBIAN_RUSTC) });
    }
    Err(format!(
        "no Rust sources for the BPF target: neither rustup's {nightly} has rust-src nor {DEBIAN_RUSTC} its source package; run: cargo xtask setup"
    ))
}

/// Whether a rustc is there and has the standard library's sources beside it.
fn has_sources(rustc: &mut Command) -> bool {
    let Ok(output) = rustc.args(["--print", "sysroot"]).output() else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success()
        && Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
}

/// Compiler flags of the object, in cargo's encoding.
fn flags(architecture: &str) -> String {
    [
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
        // Types in the object: `bpftool map dump` then prints named fields.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ]
    .join("\u{1f}")
}

impl Toolchain {
    /// The cargo of this toolchain, without what the outer cargo has set for itself.
    fn command(&self) -> Command {
        let (program, arguments) =
            self.cargo.split_first().map_or(("cargo", &[][..]), |(first, rest)| (first, rest));
        let mut command = Command::new(program);
        command.args(arguments);
        for inherited in [
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CARGO",
        ] {
            command.env_remove(inherited);
        }
        if let Some(rustc) = self.rustc {
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

/// Names another rustup toolchain than `nightly`.
const NIGHTLY: &str = "SLUICE_NIGHTLY";
/// Where Debian's rustc-web puts the compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Both supported architectures are little-endian.
const TARGET: &str = "bpfel-unknown-none";
