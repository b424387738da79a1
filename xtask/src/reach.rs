// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask reach`: a `.rs` file that no crate reaches is code that is not compiled and, worse,
//! a test that does not run. Cargo's dep-info says what each compilation has read.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};

use crate::{build::WORKSPACE, command, manifest, manifest::PACKAGES, rooms, setup};

/// Prints the files that nothing reaches.
///
/// # Errors
///
/// When the workspace does not compile.
pub(crate) fn run() -> Result<ExitCode> {
    let root = command::root();
    let mut reached = BTreeSet::new();
    for dep_info in dep_infos()? {
        let text = fs::read_to_string(&dep_info)
            .with_context(|| format!("{} cannot be read", dep_info.display()))?;
        reached.extend(sources(&text, root));
    }
    let mut files = Vec::new();
    for package in PACKAGES {
        files.extend(rooms::rust_files(root, package)?);
    }
    let orphans = orphans(&files, &reached);
    for orphan in &orphans {
        println!("{orphan}: no crate reaches this file: name it in a `mod`, or delete it");
    }
    println!("reach: {} files, {} orphans", files.len(), orphans.len());
    Ok(if orphans.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same as a check.
///
/// # Errors
///
/// Also when there is an orphan.
pub(crate) fn check() -> Result<()> {
    if run()? != ExitCode::SUCCESS {
        bail!("some files are compiled by nobody");
    }
    Ok(())
}

/// The dep-info files of the compilations that are current: those cargo names when it compiles
/// everything, and the newest of the kernel programs, which the agent's build script compiles.
fn dep_infos() -> Result<Vec<PathBuf>> {
    setup::need(&[&setup::LINKER, &setup::RUST_SOURCE])?;
    let mut test = command::cargo();
    test.arg("test").args(WORKSPACE).args(["--all-targets", "--no-run", "--message-format"]);
    let output = test
        .arg("json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("`{}` failed: {}", command::line(&test), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut dep_infos: Vec<PathBuf> = messages.lines().flat_map(dep_infos_of_message).collect();
    let manifest = fs::read_to_string(command::root().join("lb-ebpf/Cargo.toml"))?;
    for program in manifest::names_in(&manifest, "[[bin]]") {
        dep_infos.extend(newest(&command::target_dir(), &format!("{program}.d")));
    }
    Ok(dep_infos)
}

/// The dep-info files beside the artifacts that one of cargo's messages names.
fn dep_infos_of_message(message: &str) -> Vec<PathBuf> {
    if !message.contains("\"reason\":\"compiler-artifact\"") {
        return Vec::new();
    }
    let paths = message.split('"').filter(|word| word.starts_with('/'));
    let dep_infos = paths.filter_map(|path| dep_info(Path::new(path)));
    dep_infos.filter(|path| path.is_file()).collect()
}

/// `deps/liblb_common-0f.rmeta` and `deps/golden-0f` → `deps/lb_common-0f.d`, `deps/golden-0f.d`;
/// a build script's artifact is `build/lb-agent-0f/build-script-build`, its dep-info
/// `build/lb-agent-0f/build_script_build-0f.d`.
fn dep_info(artifact: &Path) -> Option<PathBuf> {
    let folder = artifact.parent()?;
    let stem = artifact.file_stem()?.to_str()?;
    if stem == "build-script-build" {
        let (_, hash) = folder.file_name()?.to_str()?.rsplit_once('-')?;
        return Some(folder.join(format!("build_script_build-{hash}.d")));
    }
    let is_library = artifact.extension().is_some_and(|extension| extension != "d");
    let stem = if is_library { stem.strip_prefix("lib").unwrap_or(stem) } else { stem };
    Some(folder.join(format!("{stem}.d")))
}

/// The newest file of this name below `folder`.
fn newest(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut folders = vec![folder.to_path_buf()];
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let skip = ["incremental", ".fingerprint", "doc"];
            if entry.path().is_dir() && !skip.iter().any(|skip| entry.file_name() == *skip) {
                folders.push(entry.path());
            } else if entry.file_name() == name {
                let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
                newest = newest.max(Some((modified, entry.path())));
            }
        }
    }
    newest.map(|(_, path)| path)
}

/// The sources that a dep-info file names, as paths from the workspace's folder. Its lines are
/// those of a makefile: `target: source source …`, blanks in names escaped by a backslash.
fn sources(dep_info: &str, root: &Path) -> Vec<String> {
    let mut sources = Vec::new();
    for line in dep_info.lines() {
        let Some((_, list)) = line.split_once(": ") else { continue };
        for source in list.replace("\\ ", "\0").split(' ') {
            let path = root.join(source.replace('\0', " "));
            if let Ok(path) = path.strip_prefix(root) {
                sources.push(path.to_string_lossy().into_owned());
            }
        }
    }
    sources
}

fn orphans<'a>(files: &'a [String], reached: &BTreeSet<String>) -> Vec<&'a String> {
    files.iter().filter(|file| !reached.contains(*file)).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::{dep_info, dep_infos_of_message, orphans, sources};

    #[test]
    fn an_orphan_is_found() {
        let dep_info = "/w/target/debug/deps/x-0f.d: lb-agent/src/lib.rs /w/lb-agent/src/a\\ b.rs\n\
                        \n\
                        lb-agent/src/lib.rs:\n";
        let reached: BTreeSet<String> = sources(dep_info, Path::new("/w")).into_iter().collect();
        let files = ["lb-agent/src/a b.rs", "lb-agent/src/lib.rs", "lb-agent/src/orphan.rs"];
        let files = files.map(str::to_owned);
        assert_eq!(orphans(&files, &reached), ["lb-agent/src/orphan.rs"]);
    }

    #[test]
    fn dep_info_stands_beside_the_artifact() {
        let dep_info = |path| dep_info(Path::new(path)).unwrap().display().to_string();
        assert_eq!(dep_info("/t/deps/liblb_common-0f.rmeta"), "/t/deps/lb_common-0f.d");
        assert_eq!(dep_info("/t/deps/golden-0f"), "/t/deps/golden-0f.d");
        assert_eq!(
            dep_info("/t/build/lb-agent-0f/build-script-build"),
            "/t/build/lb-agent-0f/build_script_build-0f.d"
        );
    }

    #[test]
    fn only_artifacts_are_looked_at() {
        assert!(
            dep_infos_of_message("{\"reason\":\"build-finished\",\"x\":\"/etc/passwd\"}")
                .is_empty()
        );
    }
}
