// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a lab leaves on the machine, and its removal by name.
//!
//! `/run/sluice-lab/<id>/state.json` names the owner and every place. Removal
//! needs the id alone: all that a lab makes carries it (cgroup, namespaces,
//! pins, directory), so a crashed lab is removed whatever its state file says.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use lb_agent::run::state;
use serde::{Deserialize, Serialize};

use crate::{
    bpffs, cgroup,
    id::{Owner, RunId},
    netns::{self, Batch},
    place::Place,
};

/// One lab as its state file tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub id: RunId,
    /// Who made it.
    pub owner: Owner,
    /// Whether it is meant to outlive its owner (`lab up`).
    pub keep: bool,
    /// Every namespace in which something can run.
    pub places: Vec<Place>,
}

impl State {
    /// Takes a fresh id: the directory with the owner in it appears in one
    /// rename, so no other process ever sees a lab without an owner.
    pub fn claim(keep: bool) -> Result<Self> {
        fs::create_dir_all(RUN_DIR)
            .with_context(|| format!("creating {RUN_DIR} (root is needed)"))?;
        let owner = Owner::current()?;
        for _ in 0..CLAIM_TRIES {
            let state = Self { id: RunId::fresh(), owner: owner.clone(), keep, places: Vec::new() };
            let draft = Path::new(RUN_DIR).join(format!(".{}-{}", state.id, owner.pid));
            fs::create_dir(&draft)?;
            state.write_to(&draft)?;
            // Renaming onto a directory that is not empty fails: the id is taken.
            if fs::rename(&draft, state.dir()).is_ok() {
                return Ok(state);
            }
            fs::remove_dir_all(&draft)?;
        }
        Err(anyhow!("no free lab id in {CLAIM_TRIES} tries below {RUN_DIR}"))
    }

    /// Reads the state of one lab.
    pub fn load(id: &RunId) -> Result<Self> {
        let path = dir(id).join(STATE_FILE);
        let text =
            fs::read(&path).with_context(|| format!("no lab {id}: reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parsing {}", path.display()))
    }

    /// Every lab that has a readable state, whoever made it.
    pub fn all() -> Vec<Self> {
        known_ids().iter().filter_map(|id| Self::load(id).ok()).collect()
    }

    /// Its directory: logs, manifests, control plane files.
    pub fn dir(&self) -> PathBuf {
        dir(&self.id)
    }

    /// Writes the state file anew.
    pub fn save(&self) -> Result<()> {
        self.write_to(&self.dir())
    }

    /// Whether nobody needs it any more: the owner is gone and did not keep it.
    pub fn is_crashed(&self) -> bool {
        !self.keep && !self.owner.is_alive()
    }

    /// The place of that name.
    pub fn place(&self, name: &str) -> Result<&Place> {
        self.places.iter().find(|place| place.name == name).with_context(|| {
            let names: Vec<_> = self.places.iter().map(|place| place.name.as_str()).collect();
            format!("lab {} has no {name}; it has {}", self.id, names.join(", "))
        })
    }

    /// Writes to a neighbour, then renames.
    fn write_to(&self, dir: &Path) -> Result<()> {
        let path = dir.join(STATE_FILE);
        let partial = dir.join(".state.partial");
        fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&partial, &path).with_context(|| format!("writing {}", path.display()))
    }
}

/// Removes every trace of a lab: processes, cgroups, namespaces, pins, files.
/// What is already gone is no error.
///
/// # Errors
/// All steps are tried; the first failure is told.
pub fn remove(id: &RunId) -> Result<()> {
    // Two may clear away the same crashed lab. What one has just removed makes the other's
    // batch fail, and is not there any more when that one looks again.
    let mut removed = remove_once(id);
    for _ in 1..REMOVAL_ATTEMPTS {
        if removed.is_ok() {
            break;
        }
        removed = remove_once(id);
    }
    removed
}

fn remove_once(id: &RunId) -> Result<()> {
    let steps = [
        cgroup::mount_point().and_then(|mount| cgroup::remove(&mount.join(id.prefix()))),
        remove_namespaces(id),
        remove_dir(bpffs::lab_dir(id)),
        remove_agents_files(id),
        remove_dir(Some(dir(id))),
    ];
    let first = steps.into_iter().find_map(Result::err);
    first.map_or(Ok(()), |error| Err(error.context(format!("removing lab {id}"))))
}

/// Removes each lab whose owner died without removing it; says which.
pub fn sweep() -> Result<Vec<RunId>> {
    let mut crashed: BTreeSet<RunId> = orphans()?;
    crashed.extend(State::all().into_iter().filter(State::is_crashed).map(|state| state.id));
    crashed.iter().try_for_each(remove)?;
    remove_drafts()?;
    Ok(crashed.into_iter().collect())
}

/// Removes directories of labs whose process died while it claimed an id.
fn remove_drafts() -> Result<()> {
    let drafts = names_in(Path::new(RUN_DIR)).into_iter().filter(|name| name.starts_with('.'));
    let mut dead = drafts.filter(|name| {
        let pid = name.rsplit_once('-').map(|(_, pid)| pid);
        pid.is_none_or(|pid| !Path::new("/proc").join(pid).exists())
    });
    dead.try_for_each(|name| remove_dir(Some(Path::new(RUN_DIR).join(name))))
}

/// Ids in names of namespaces and cgroups that have no directory. A lab's
/// directory comes first and goes last, so the names are listed first.
fn orphans() -> Result<BTreeSet<RunId>> {
    let namespaces =
        netns::with_prefix(NAME_PREFIX).into_iter().map(|netns| netns.name().to_owned());
    let cgroups = names_in(&cgroup::mount_point()?);
    let named: Vec<_> = namespaces.chain(cgroups).collect();
    let known = known_ids();
    let ids = named.iter().filter_map(|name| {
        let rest = name.strip_prefix(NAME_PREFIX)?;
        RunId::parse(rest.split('-').next()?).ok()
    });
    Ok(ids.filter(|id| !known.contains(id)).collect())
}

/// Ids that have a directory.
fn known_ids() -> BTreeSet<RunId> {
    names_in(Path::new(RUN_DIR)).iter().filter_map(|name| RunId::parse(name).ok()).collect()
}

/// Names of a directory's entries; none when it is not there.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Directory of one lab.
fn dir(id: &RunId) -> PathBuf {
    Path::new(RUN_DIR).join(id.to_string())
}

/// Deletes the lab's network namespaces; interfaces and routes go with them.
fn remove_namespaces(id: &RunId) -> Result<()> {
    let left = netns::with_prefix(&format!("{}-", id.prefix()));
    if left.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::default();
    for netns in left {
        batch.line(format!("netns del {}", netns.name()));
    }
    batch.run()
}

/// Removes what agents on the lab's nodes left beside their pins for `show`.
fn remove_agents_files(id: &RunId) -> Result<()> {
    let files = bpffs::lab_dir(id).map(|pins| state::directory(&pins));
    let place = files.as_ref().and_then(|files| Some((files.parent()?, files.file_name()?)));
    let Some((place, lab)) = place else { return Ok(()) };
    let prefix = format!("{}-", lab.to_string_lossy());
    let mut left = names_in(place).into_iter().filter(|name| name.starts_with(&prefix));
    left.try_for_each(|name| remove_dir(Some(place.join(name))))
}

/// Removes a directory tree; one that is not there is fine.
fn remove_dir(path: Option<PathBuf>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// How often a removal that met another one is tried.
const REMOVAL_ATTEMPTS: usize = 5;
/// Where labs keep their files.
const RUN_DIR: &str = "/run/sluice-lab";
/// The state file's name.
const STATE_FILE: &str = "state.json";
/// How names of namespaces and cgroups begin (`RunId::prefix`).
const NAME_PREFIX: &str = "sluice-";
/// Ids to try before giving up.
const CLAIM_TRIES: usize = 20;
