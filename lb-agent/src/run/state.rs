// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a running agent leaves for `show` beside the maps: the list of what it ignored.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A state file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct StateError {
    /// The file.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// The directory of an agent's state, one for each bpf-root. It is on a tmpfs and as
/// short-lived as the pins: a reboot clears both.
pub fn directory(bpf_root: &Path) -> PathBuf {
    let slug: String = bpf_root
        .to_string_lossy()
        .trim_matches('/')
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' })
        .collect();
    Path::new(STATE_ROOT).join(slug)
}

/// What the agent ignored when it last looked, one line each; none if no agent ever ran.
pub fn issues(bpf_root: &Path) -> Result<Vec<String>, StateError> {
    let path = directory(bpf_root).join(ISSUES);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(StateError { path, source }),
    }
}

/// Replaces the list of what is ignored; a reader sees the old list or the new one.
pub fn write_issues<T: ToString>(
    bpf_root: &Path,
    issues: impl IntoIterator<Item = T>,
) -> Result<(), StateError> {
    let directory = directory(bpf_root);
    let path = directory.join(ISSUES);
    let mut text = String::new();
    for issue in issues {
        text.push_str(&issue.to_string().replace('\n', " "));
        text.push('\n');
    }
    let write = || {
        fs::create_dir_all(&directory)?;
        let fresh = directory.join("issues.new");
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &path)
    };
    write().map_err(|source| StateError { path: path.clone(), source })
}

/// Removes an agent's state; none is no error.
pub fn remove(bpf_root: &Path) -> Result<(), StateError> {
    let path = directory(bpf_root);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StateError { path, source: error })
        }
        _ => Ok(()),
    }
}

/// Where programs keep what need not survive a reboot (FHS 3.15).
const STATE_ROOT: &str = "/run/sluice";
/// The list of what was ignored.
const ISSUES: &str = "issues";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_root_has_a_directory_of_its_own() {
        assert_eq!(
            directory(Path::new("/sys/fs/bpf/sluice")),
            Path::new("/run/sluice/sys-fs-bpf-sluice")
        );
        assert_ne!(directory(Path::new("/a/b")), directory(Path::new("/a/c")));
    }
}
