// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pinned maps and programs, read by path: for `show` and `explain`. Works beside a
//! running agent and without one; writes nothing.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use lb_common::{
    affinity::{AffinityKey, AffinityPin},
    counter::Counter,
    maps::{self, LAYOUT_VERSION},
    socket::{Held, SocketRecord},
};

use super::{Error, kernel, load, maps::Maps, syscall};
use crate::plan::tables::Tables;

/// The pins below one bpf-root.
#[derive(Debug)]
pub struct View {
    root: PathBuf,
    maps: Maps,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// No agent ever ran with this root.
    #[error(
        "{} has no pinned maps of layout {LAYOUT_VERSION}; did an agent run here, with this --bpf-root?",
        path.display()
    )]
    Absent {
        /// The bpf-root.
        path: PathBuf,
    },
    /// The maps cannot be opened.
    #[error(transparent)]
    Open(#[from] load::LoadError),
    /// A map cannot be read.
    #[error(transparent)]
    Read(#[from] Error),
    /// A pinned program or link cannot be read.
    #[error("{}: {source}", path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A pinned program.
#[derive(Debug)]
pub struct Program {
    /// The hook's name.
    pub name: String,
    /// The kernel's id.
    pub id: u32,
    /// The link that attaches it.
    pub link: Option<u32>,
}

impl View {
    /// The pins of this layout below a bpf-root.
    pub fn open(root: &Path) -> Result<Self, ViewError> {
        if !root.join(layout()).join("maps").is_dir() {
            return Err(ViewError::Absent { path: root.to_owned() });
        }
        Ok(Self { root: root.to_owned(), maps: load::open_pinned(root)? })
    }

    /// The bpf-root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every map that the agent owns.
    pub fn tables(&self) -> Result<Tables, ViewError> {
        Ok(kernel::dump(&self.maps)?)
    }

    /// How many sockets a backend serves.
    pub fn load(&self, backend: u32) -> u64 {
        self.maps.backend_load.read(backend).map_or(0, |load| load.sockets)
    }

    /// The records of every socket that dialled a Service.
    pub fn sockets(&self) -> Result<Vec<SocketRecord>, ViewError> {
        let mut records = kernel::sockets(&self.maps)?;
        records.retain(|record| record.held.intersects(Held::CONNECTED | Held::DATAGRAM));
        Ok(records)
    }

    /// Every ClientIP pin.
    pub fn pins(&self) -> Result<Vec<(AffinityKey, AffinityPin)>, ViewError> {
        let pins = self.maps.affinity.dump();
        let unreadable = |source| Error::Map { operation: "read", map: maps::AFFINITY, source };
        Ok(pins.map_err(unreadable)?)
    }

    /// Every counter's sum over the CPUs.
    pub fn counters(&self) -> Result<Vec<(Counter, u64)>, ViewError> {
        Ok(kernel::counters(&self.maps)?)
    }

    /// Every pinned program, in the order of their names.
    pub fn programs(&self) -> Result<Vec<Program>, ViewError> {
        let links = self.links()?;
        let mut programs = Vec::new();
        for path in entries(&self.root.join(layout()).join("programs"))? {
            let Ok(program) = syscall::object_get(&path).and_then(syscall::describe_program) else {
                // The build id stands among the programs.
                continue;
            };
            let link = links.get(&program.id).copied();
            programs.push(Program { link, name: program.name, id: program.id });
        }
        programs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(programs)
    }

    /// Link ids by the program that each link holds.
    fn links(&self) -> Result<BTreeMap<u32, u32>, ViewError> {
        let mut links = BTreeMap::new();
        for path in entries(&self.root.join(layout()).join("links"))? {
            let link = syscall::object_get(&path)
                .and_then(syscall::describe_link)
                .map_err(|source| ViewError::Pin { path, source })?;
            links.insert(link.program, link.id);
        }
        Ok(links)
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of affinity pins.
pub fn now_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs())
}

fn layout() -> String {
    format!("v{LAYOUT_VERSION}")
}

/// The entries of a directory; none if it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, ViewError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|source| ViewError::Pin { path: directory.to_owned(), source }),
    }
}
