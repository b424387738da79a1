// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What we need to know of a `Cargo.toml`: read line by line, since ours are written plainly.

/// The `name = "…"` of each table called `header` in a manifest.
pub(crate) fn names_in(manifest: &str, header: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == header;
        } else if let Some(name) = line.strip_prefix("name = ").filter(|_| inside) {
            names.push(name.trim_matches('"').to_owned());
        }
    }
    names
}

/// The crates that a manifest names, as they are written in code, and those of the toolchain.
pub(crate) fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut crates: Vec<String> = ["std", "core", "alloc"].map(str::to_owned).into();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(['.', ' ', '=']).filter(|_| inside) {
            crates.push(name.replace('-', "_"));
        }
    }
    crates
}

/// The folders of the workspace's crates.
pub(crate) const PACKAGES: &[&str] = &["lb-common", "lb-ebpf", "lb-agent", "xtask", "tests"];

#[cfg(test)]
mod tests {
    use super::{dependencies, names_in};

    #[test]
    fn names_come_from_their_own_tables_only() {
        let manifest =
            "[lib]\nname = \"lab\"\n[[test]]\nname = \"golden\"\n[[bin]]\nname = \"demo\"";
        assert_eq!(names_in(manifest, "[[test]]"), ["golden"]);
        assert_eq!(names_in(manifest, "[[bin]]"), ["demo"]);
    }

    #[test]
    fn crates_are_read_from_a_manifest() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nlb-common.workspace = true\n\
                        aya = { version = \"1\" }\n[dev-dependencies]\nrstest = \"0\"\n[[bin]]\npath = \"p\"";
        let crates = dependencies(manifest);
        assert!(
            ["std", "lb_common", "aya", "rstest"]
                .iter()
                .all(|name| crates.contains(&(*name).to_owned()))
        );
        assert!(!crates.contains(&"path".to_owned()));
    }
}
