// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pinned maps and programs, read by path: for `show` and `explain`. Works beside a
//! running agent and without one; writes nothing.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use lb_common::{
    addr::Addr,
    affinity::{AffinityKey, AffinityPin},
    counter::Counter,
    flow::{FlowEntry, FlowKey},
    maps::{self, LAYOUT_VERSION},
    socket::{Held, SocketRecord},
};

use super::{
    Error, kernel,
    load::{self, PinnedProgram},
    maps::Maps,
};
use crate::plan::tables::Tables;

/// The pins below one bpf-root.
#[derive(Debug)]
pub struct View {
    root: PathBuf,
    maps: Maps,
}

/// The half of a flow with a key, if it is there.
pub type FindHalf<'a> = dyn Fn(&FlowKey) -> io::Result<Option<FlowEntry>> + 'a;

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
    /// The pins cannot be opened.
    #[error(transparent)]
    Open(#[from] load::LoadError),
    /// A map cannot be read.
    #[error(transparent)]
    Read(#[from] Error),
}

impl View {
    /// The pins of this layout below a bpf-root.
    pub fn open(root: &Path) -> Result<Self, ViewError> {
        if !load::has_pins(root) {
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
        records.retain(|record| record.held().intersects(Held::CONNECTED | Held::DATAGRAM));
        Ok(records)
    }

    /// Hands every half of a flow to a function, with what finds other halves. What comes and
    /// goes meanwhile may be in it or not.
    pub fn each_half(
        &self,
        mut take: impl FnMut(&FlowKey, &FlowEntry, &FindHalf<'_>) -> io::Result<()>,
    ) -> Result<(), ViewError> {
        let find = |key: &FlowKey| self.maps.flows.get(key);
        let read = self.maps.flows.read_all(|keys, halves| {
            keys.iter().zip(halves).try_for_each(|(key, half)| take(key, half, &find))
        });
        let unreadable = |source| Error::Map { operation: "read", map: maps::FLOWS, source };
        Ok(read.map_err(unreadable)?)
    }

    /// A half of a flow.
    pub fn half(&self, key: &FlowKey) -> Result<Option<FlowEntry>, ViewError> {
        let unreadable = |source| Error::Map { operation: "read", map: maps::FLOWS, source };
        Ok(self.maps.flows.get(key).map_err(unreadable)?)
    }

    /// The node's own addresses, IPv4 and IPv6, that flows to other nodes' backends leave with;
    /// zero for none.
    pub fn own_addresses(&self) -> (Addr, Addr) {
        self.maps.config.read(0).map_or_else(Default::default, |it| (it.snat4, it.snat6))
    }

    /// The cookies of the network namespaces that are left alone.
    pub fn bypassed(&self) -> Result<BTreeSet<u64>, ViewError> {
        let unreadable = |source| Error::Map { operation: "read", map: maps::BYPASS, source };
        let all = self.maps.bypass.dump().map_err(unreadable)?;
        Ok(all.into_iter().map(|(cookie, _)| cookie).collect())
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
    pub fn programs(&self) -> Result<Vec<PinnedProgram>, ViewError> {
        Ok(load::pinned_programs(&self.root)?)
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of affinity pins.
pub fn now_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs())
}
