// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Places of the pins, and how a new generation takes the place of the running one.
//!
//! ```text
//! <bpf-root>/v1/maps/NAME          the maps of the running programs
//!              /programs/NAME      the running programs
//!              /build              a symbolic link to nowhere: its target is their build id
//!              /links/NAME         the attachments
//!              /building/{maps,programs,build}   a generation that is being made
//!              /next/{maps,programs,build}       a complete one; what it shares stays in maps
//! ```
//!
//! What is in `building` is worth nothing: an agent died there. What is in `next` is later
//! than what is live, since the agent writes to it from the moment that it is complete; so
//! the next agent goes on with it, whether the links run from it yet or not.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lb_common::{
    backend::BackendLoad,
    maps::{self, LAYOUT_VERSION},
};

use super::error::{LoadError, file};
use crate::datapath::{arrays::Array, syscall};

/// The pins below one bpf-root.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    layout: PathBuf,
}

/// The life of a generation's pins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Being made.
    Building,
    /// Complete, not yet attached.
    Next,
    /// Attached.
    Live,
}

impl Pins {
    /// The pins of this agent's layout.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), layout: root.join(format!("v{LAYOUT_VERSION}")) }
    }

    /// The directory of this layout's pins.
    pub(super) fn layout(&self) -> &Path {
        &self.layout
    }

    /// The pin of a map.
    pub(super) fn map(&self, stage: Stage, name: &str) -> PathBuf {
        self.directory(stage).join("maps").join(name)
    }

    /// The pin of a program.
    pub(super) fn program(&self, stage: Stage, name: &str) -> PathBuf {
        self.directory(stage).join("programs").join(name)
    }

    /// The pin of a link.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.layout.join("links").join(name)
    }

    /// The pins of the running programs.
    pub(super) fn programs(&self) -> Result<Vec<PathBuf>, LoadError> {
        entries(&self.layout.join("programs"))
    }

    /// The pins of the links.
    pub(super) fn links(&self) -> Result<Vec<PathBuf>, LoadError> {
        entries(&self.layout.join("links"))
    }

    /// Every pin in a part of the directory of any layout.
    pub(super) fn every(&self, part: &str) -> Vec<PathBuf> {
        let parts = self.all_layouts().into_iter().map(|layout| layout.join(part));
        parts.flat_map(|part| entries(&part).unwrap_or_default()).collect()
    }

    /// Whether any map is pinned.
    pub(super) fn have_maps(&self) -> bool {
        let maps = fs::read_dir(self.layout.join("maps"));
        maps.is_ok_and(|mut maps| maps.next().is_some())
    }

    /// The latest complete pin of a map; it may not exist.
    pub(super) fn latest_map(&self, name: &str) -> PathBuf {
        let next = self.map(Stage::Next, name);
        if next.exists() { next } else { self.map(Stage::Live, name) }
    }

    /// The stage that the latest complete programs are in.
    pub(super) fn latest_programs(&self) -> Stage {
        if self.directory(Stage::Next).exists() { Stage::Next } else { Stage::Live }
    }

    /// Makes the directories and removes what an earlier agent left half made.
    pub(super) fn prepare(&self) -> Result<(), LoadError> {
        for part in ["maps", "programs", "links"] {
            let path = self.layout.join(part);
            fs::create_dir_all(&path).map_err(file("create", path))?;
        }
        self.abandon()
    }

    /// Makes room for a generation.
    pub(super) fn start(&self) -> Result<(), LoadError> {
        let building = self.directory(Stage::Building);
        remove(&building)?;
        for part in ["maps", "programs"] {
            let path = building.join(part);
            fs::create_dir_all(&path).map_err(file("create", path))?;
        }
        Ok(())
    }

    /// Removes a generation that could not be made.
    pub(super) fn abandon(&self) -> Result<(), LoadError> {
        remove(&self.directory(Stage::Building))
    }

    /// Declares the generation complete. It takes over the maps of an earlier complete one
    /// that was never attached.
    pub(super) fn complete(&self) -> Result<(), LoadError> {
        let (building, next) = (self.directory(Stage::Building), self.directory(Stage::Next));
        if next.exists() {
            for earlier in entries(&next.join("maps"))? {
                let Some(name) = earlier.file_name() else { continue };
                let path = building.join("maps").join(name);
                if !path.exists() {
                    rename(&earlier, &path)?;
                }
            }
            remove(&next)?;
        }
        rename(&building, &next)
    }

    /// Puts a complete generation in the place of the running one, which no program runs
    /// from any more. Can be repeated after a failure at any point.
    pub(super) fn commit(&self) -> Result<(), LoadError> {
        let next = self.directory(Stage::Next);
        if !next.exists() {
            return Ok(());
        }
        self.hand_over_load();
        let build = |stage| self.directory(stage).join(BUILD);
        remove(&build(Stage::Live))?;
        let mut maps = entries(&next.join("maps"))?;
        // First, so that it is not handed over again when the rest was moved in part.
        maps.sort_by_key(|path| !path.ends_with(maps::BACKEND_LOAD));
        for map in maps {
            self.promote(&map, "maps")?;
        }
        for program in entries(&next.join("programs"))? {
            self.promote(&program, "programs")?;
        }
        // Last, so that programs that were moved in part have no build id.
        if fs::symlink_metadata(build(Stage::Next)).is_ok() {
            rename(&build(Stage::Next), &build(Stage::Live))?;
        }
        remove(&next)
    }

    /// The layouts of other versions that have pins here.
    pub(super) fn other_layouts(&self) -> Vec<PathBuf> {
        let mut layouts = self.all_layouts();
        layouts.retain(|path| *path != self.layout);
        layouts
    }

    /// The layouts that have pins here: directories named `v` and a number.
    pub(super) fn all_layouts(&self) -> Vec<PathBuf> {
        let mut layouts = entries(&self.root).unwrap_or_default();
        layouts.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok())
        });
        layouts
    }

    /// The build id of a stage's programs; `None` if they are incomplete.
    pub(super) fn build_id(&self, stage: Stage) -> Option<String> {
        let target = fs::read_link(self.directory(stage).join(BUILD)).ok()?;
        target.into_os_string().into_string().ok()
    }

    /// Notes the build id of the programs that are being made: a symbolic link, since a BPF
    /// file system holds no plain files.
    pub(super) fn set_build_id(&self, id: &str) -> Result<(), LoadError> {
        let path = self.directory(Stage::Building).join(BUILD);
        std::os::unix::fs::symlink(id, &path).map_err(file("create", path))
    }

    /// Adds the sockets that the old generation counted to the new one's, which started at 0
    /// when the old one went on counting. Not if the sockets' records are new, too.
    fn hand_over_load(&self) {
        let open = |stage| {
            let path = self.map(stage, maps::BACKEND_LOAD);
            let map = syscall::object_get(&path).ok()?;
            let len = syscall::describe_map(&map).ok()?.max_entries;
            Array::<BackendLoad>::map(&map, len).ok()
        };
        if self.map(Stage::Next, maps::SOCKETS).exists() {
            return;
        }
        let (Some(mut old), Some(mut new)) = (open(Stage::Live), open(Stage::Next)) else {
            return;
        };
        for index in 0..old.len() {
            // Taken before it is given: a repetition after a crash adds nothing twice.
            let sockets = old.take(index);
            if sockets != 0 {
                new.add(index, sockets);
            }
        }
    }

    fn promote(&self, from: &Path, part: &str) -> Result<(), LoadError> {
        let Some(name) = from.file_name() else { return Ok(()) };
        rename(from, &self.layout.join(part).join(name))
    }

    fn directory(&self, stage: Stage) -> PathBuf {
        match stage {
            Stage::Building => self.layout.join("building"),
            Stage::Next => self.layout.join("next"),
            Stage::Live => self.layout.clone(),
        }
    }
}

/// Removes a pin, or a directory with all that is in it; nothing there is no error.
pub(super) fn remove(path: &Path) -> Result<(), LoadError> {
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Moves a pin over another one, if there is one. A directory in its place is no pin of ours.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), LoadError> {
    if from.is_file() && to.is_dir() {
        remove(to)?;
    }
    fs::rename(from, to).map_err(file("rename", from))
}

/// The entries of a directory; none if it is not there.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(file("list", directory)),
    }
}

/// The name of the link to the build id.
const BUILD: &str = "build";
