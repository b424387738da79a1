// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Duplicate versions of dependencies: each needs a line with a reason in `deny.toml`.
//!
//! cargo-deny checks this and more, and takes minutes to build; so every test run does this part
//! with what cargo itself knows, and `cargo xtask ci --deny` runs the whole of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env::consts::ARCH,
    fs,
};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// A version of a crate that may be there beside another.
#[derive(Debug, PartialEq, Eq)]
struct Skip {
    name: String,
    /// The version, or its first numbers.
    version: String,
}

/// Fails when two versions of a crate are compiled into the product, its tests or these verbs,
/// unless deny.toml says why; and when deny.toml excuses what is no longer there.
///
/// # Errors
///
/// As said; the message names the crates.
pub(crate) fn duplicates() -> Result<()> {
    let deny = fs::read_to_string(command::root().join("deny.toml"))
        .context("deny.toml cannot be read")?;
    let target = format!("{ARCH}-unknown-linux-gnu");
    let mut tree = command::cargo();
    tree.args(["tree", "--workspace", "--duplicates", "--depth", "0", "--prefix", "none"]);
    tree.args(["--edges", "normal,build,dev", "--target", &target]);
    let output = tree.output().context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("`{}`: {}", command::line(&tree), String::from_utf8_lossy(&output.stderr));
    }
    let amiss = amiss(&String::from_utf8_lossy(&output.stdout), &skips(&deny)?);
    if !amiss.is_empty() {
        bail!("{}", amiss.join("\n"));
    }
    Ok(())
}

/// All of deny.toml, by cargo-deny, which is installed if it is not there.
///
/// # Errors
///
/// When it cannot be installed, or finds something.
pub(crate) fn all() -> Result<()> {
    if command::find("cargo-deny").is_none() {
        println!("deny: cargo install builds cargo-deny, some minutes");
        let mut install = command::cargo();
        install.args(["install", "--locked", "cargo-deny"]).current_dir("/");
        command::run(install.env_remove("CARGO_TARGET_DIR"))?;
    }
    // Advisories come from a repository that not every machine reaches; they are the release's.
    command::run(command::cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

/// What is wrong with the crates that `cargo tree --duplicates` lists. It lists a version twice
/// when two sets of features are built; that is no duplicate.
fn amiss(tree: &str, skips: &[Skip]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version.trim_start_matches('v'));
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    let mut amiss = Vec::new();
    for (name, versions) in &versions {
        let is_skipped = |version: &&&str| skips.iter().any(|skip| skip.is(name, version));
        let left: Vec<&str> =
            versions.iter().filter(|version| !is_skipped(version)).copied().collect();
        if left.len() > 1 {
            amiss.push(format!(
                "{name} is there as {}: bring them together, or say why in deny.toml",
                left.join(" and ")
            ));
        }
    }
    for skip in skips {
        let used = versions.get(skip.name.as_str()).into_iter().flatten();
        if !used.into_iter().any(|version| skip.is(&skip.name, version)) {
            amiss.push(format!(
                "deny.toml excuses {}@{}, which is no duplicate any more: delete the line",
                skip.name, skip.version
            ));
        }
    }
    amiss
}

/// The lines `{ crate = "name@version", reason = "…" }` of deny.toml.
fn skips(deny: &str) -> Result<Vec<Skip>> {
    let mut skips = Vec::new();
    for line in deny.lines().filter(|line| line.trim_start().starts_with("{ crate = ")) {
        let words: Vec<&str> = line.split('"').collect();
        let [_, spec, between, reason, ..] = words.as_slice() else {
            bail!("deny.toml: `{line}` has no reason");
        };
        if between.trim() != ", reason =" || reason.is_empty() {
            bail!("deny.toml: `{line}` has no reason");
        }
        let (name, version) = spec.split_once('@').with_context(|| format!("`{spec}`: no @"))?;
        skips.push(Skip { name: name.to_owned(), version: version.to_owned() });
    }
    Ok(skips)
}

impl Skip {
    /// Whether this excuses the crate `name` at `version`.
    fn is(&self, name: &str, version: &str) -> bool {
        let rest = version.strip_prefix(&self.version);
        self.name == name && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::{amiss, skips};

    const TREE: &str = "base64 v0.22.1\n\nbase64 v0.23.1\n\nlibc v0.2.1\n\nlibc v0.2.1\n\n\
                        syn v2.0.1 (proc-macro)\n\nsyn v3.0.1 (*)\n";

    #[test]
    fn a_duplicate_needs_a_reason() {
        assert_eq!(amiss(TREE, &[]).len(), 2);
        let deny = "skip = [\n    { crate = \"base64@0.22\", reason = \"r\" },\n    \
                    { crate = \"syn@2\", reason = \"r\" },\n]";
        assert_eq!(amiss(TREE, &skips(deny).unwrap()), Vec::<String>::new());
        assert!(skips("{ crate = \"base64@0.22\" }").is_err());
    }

    #[test]
    fn a_stale_excuse_is_found() {
        let skips = skips("{ crate = \"gone@1\", reason = \"r\" }").unwrap();
        assert!(amiss("", &skips)[0].contains("gone@1"));
    }
}
