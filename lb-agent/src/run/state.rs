// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a running agent leaves for `show` beside the maps: the list of what it ignored, the pods
//! whose sockets it leaves alone, and the devices where it leaves XDP out.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::issue::Issue;

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

/// A pod whose sockets are left alone.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PodLine {
    /// Namespace and name.
    pub pod: String,
    /// What marks it.
    pub mark: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The devices that lead to it, by name.
    pub devices: Vec<String>,
    /// The cookie of its network namespace, if that is known.
    pub namespace: Option<u64>,
}

/// A device where XDP is left out although it was asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceLine {
    /// Its name.
    pub device: String,
    /// Why.
    pub reason: String,
}

/// What is ignored, or needs a hand.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct IssueLine {
    /// All of it in one sentence.
    pub ignored: String,
    /// The object's kind.
    #[serde(default)]
    pub kind: String,
    /// Its namespace and name.
    #[serde(default)]
    pub object: String,
    /// The field.
    #[serde(default)]
    pub field: String,
    /// What is wrong with it.
    #[serde(default)]
    pub problem: String,
    /// The rule of docs/behaviour.md, if there is one.
    #[serde(default)]
    pub rule: String,
    /// What to do.
    #[serde(default)]
    pub remedy: String,
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

/// What the agent ignored when it last looked; none if no agent ever ran. Of a line that another
/// build wrote otherwise the text alone is known.
pub fn issues(bpf_root: &Path) -> Result<Vec<IssueLine>, StateError> {
    let parse = |line: String| match serde_json::from_str(&line) {
        Ok(issue) => issue,
        Err(_) => IssueLine { ignored: line.clone(), problem: line, ..IssueLine::default() },
    };
    Ok(read(bpf_root, ISSUES)?.into_iter().map(parse).collect())
}

/// The pods whose sockets were left alone at the last look. A line that another build wrote
/// otherwise is left out.
pub fn pods(bpf_root: &Path) -> Result<Vec<PodLine>, StateError> {
    let lines = read(bpf_root, PODS)?;
    Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The devices where XDP was left out at the last look. Lines as above.
pub fn devices(bpf_root: &Path) -> Result<Vec<DeviceLine>, StateError> {
    let lines = read(bpf_root, DEVICES)?;
    Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Replaces the list of what is ignored; a reader sees the old list or the new one.
pub fn write_issues(bpf_root: &Path, issues: &[Issue]) -> Result<(), StateError> {
    let lines = issues.iter().map(IssueLine::from);
    write(bpf_root, ISSUES, lines.filter_map(|line| serde_json::to_string(&line).ok()))
}

/// The same with the list of pods.
pub fn write_pods(bpf_root: &Path, pods: &[PodLine]) -> Result<(), StateError> {
    write(bpf_root, PODS, pods.iter().filter_map(|pod| serde_json::to_string(pod).ok()))
}

/// The same with the list of devices.
pub fn write_devices(bpf_root: &Path, devices: &[DeviceLine]) -> Result<(), StateError> {
    write(bpf_root, DEVICES, devices.iter().filter_map(|line| serde_json::to_string(line).ok()))
}

fn read(bpf_root: &Path, name: &str) -> Result<Vec<String>, StateError> {
    let path = directory(bpf_root).join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(StateError { path, source }),
    }
}

fn write(
    bpf_root: &Path,
    name: &str,
    lines: impl Iterator<Item = String>,
) -> Result<(), StateError> {
    let directory = directory(bpf_root);
    let path = directory.join(name);
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.replace('\n', " "));
        text.push('\n');
    }
    let write = || {
        fs::create_dir_all(&directory)?;
        let fresh = directory.join(format!("{name}.new"));
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &path)
    };
    write().map_err(|source| StateError { path: path.clone(), source })
}

/// The file that the one who monitors has locked.
pub fn monitor_lock(bpf_root: &Path) -> PathBuf {
    directory(bpf_root).join("monitor")
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

impl From<&Issue> for IssueLine {
    fn from(issue: &Issue) -> Self {
        Self {
            ignored: issue.to_string(),
            kind: issue.kind.to_string(),
            object: issue.object.to_string(),
            field: issue.field.clone(),
            problem: issue.problem.to_string(),
            rule: issue.problem.rule().to_owned(),
            remedy: issue.problem.remedy(),
        }
    }
}

/// Where programs keep what need not survive a reboot (FHS 3.15).
const STATE_ROOT: &str = "/run/sluice";
/// The list of what was ignored.
const ISSUES: &str = "issues";
/// The list of pods.
const PODS: &str = "pods";
/// The list of devices.
const DEVICES: &str = "devices";

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
