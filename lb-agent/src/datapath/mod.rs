// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The maps that ops are executed on: the kernel's, or a fake in memory.
//!
//! Invariant: this room decides nothing. It executes ops in their order and says how far it
//! came.

pub mod arrays;
pub mod cgroup;
pub mod collector;
pub mod conntrack;
pub mod device;
pub mod diag;
pub mod events;
pub mod fake;
pub mod filters;
pub mod hashes;
pub mod kernel;
pub mod load;
pub mod maps;
mod netlink;
pub mod netns;
pub mod probe;
pub mod route;
pub mod selftest;
pub mod syscall;
pub mod trace;
pub mod view;
pub mod wire;

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, Ipv6Addr},
};

use lb_common::maps::Capacities;

use self::load::{Devices, LoadError, Skipped};
use crate::plan::{op::Op, tables::Tables};

/// Something that holds the maps.
pub trait Datapath {
    /// How many elements each map can hold now.
    fn capacities(&self) -> Capacities;

    /// Everything that the agent owns, as it is now. Programs that started before may still
    /// use what it does not name, until a grace period is over.
    fn dump(&mut self) -> Result<Tables, Error>;

    /// A wait for a grace period, which begins when it is called. It blocks, touches no map,
    /// and may be called on another thread.
    fn grace(&mut self) -> Grace;

    /// Executes ops in their order, up to the first that fails. Ops that follow each other
    /// and write the same hash map may go to the kernel in one batch, in any order among
    /// themselves.
    fn apply(&mut self, ops: &[Op]) -> Result<(), Failed>;

    /// Has packets translated that come through these devices and no others: those of clients
    /// outside through `uplinks`, those of pods through `pods`. `own`: the node's addresses, under
    /// which it sends on to other nodes what is for pods there. Why some devices are not served, if
    /// any are not.
    ///
    /// # Errors
    /// When it cannot be told which devices are served.
    fn set_devices(
        &mut self,
        uplinks: &Devices,
        pods: &Devices,
        own: Own,
    ) -> Result<Vec<LoadError>, LoadError>;

    /// The devices that the last [`Datapath::set_devices`] left without XDP although the operator
    /// asked for it.
    fn skipped(&self) -> &[Skipped] {
        &[]
    }

    /// Takes packets that come in by these devices for those of pods, inside of the cluster. To
    /// be called before [`Datapath::set_devices`] has the programs run there.
    ///
    /// # Errors
    /// Some devices may be taken for that by now, and others not.
    fn set_pod_devices(&mut self, devices: &BTreeSet<u32>) -> Result<(), Error>;

    /// Leaves the sockets alone of the network namespaces with these cookies, and of no others.
    ///
    /// # Errors
    /// As above.
    fn set_bypass(&mut self, namespaces: &BTreeSet<u64>) -> Result<(), Error>;

    /// BACKEND_LOAD: how many sockets use a backend.
    fn load(&self, backend: u32) -> u64;

    /// Words and elements that were written since the start.
    fn writes(&self) -> u64;

    /// Makes room for `wanted`, as far as it is allowed, by a new generation of maps with the
    /// same contents. The caller dumps again after [`Growth::Grown`].
    ///
    /// # Errors
    /// When the new generation is made and not all programs run over it: try again at once.
    fn grow(&mut self, wanted: &Capacities) -> Result<Growth, Error>;
}

/// The node's own address of each family, where there is one.
pub type Own = (Option<Ipv4Addr>, Option<Ipv6Addr>);

/// What became of [`Datapath::grow`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Growth {
    /// There is more room.
    Grown,
    /// There is no more room to be had: the operator's limit.
    AtLimit,
    /// The kernel did not make larger maps. All is as it was before.
    Refused,
}

/// Waits until no program still uses what it read before the call.
pub type Grace = Box<dyn FnOnce() -> Result<(), Error> + Send>;

/// How far [`Datapath::apply`] came.
#[derive(Debug, thiserror::Error)]
#[error("{source}; {done} ops were executed before")]
pub struct Failed {
    /// This many ops were executed. The next one was not; of what follows it, nothing was.
    pub done: usize,
    /// Why.
    #[source]
    pub source: Error,
}

/// An operation on the maps that failed. All are worth trying again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A map could not be read or written.
    #[error("cannot {operation} map {map}: {source}")]
    Map {
        /// What was tried: `read`, `update`, `delete from`, `create`.
        operation: &'static str,
        /// The map's name.
        map: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The grace period did not come.
    #[error("cannot wait for a grace period: {source}")]
    Grace {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether a map has no room: trying again helps only after something was removed.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Map { source, .. } => source.raw_os_error() == Some(libc::E2BIG),
            Self::Grace { .. } => false,
        }
    }
}

/// The smaller of two sizes, map by map.
pub fn at_most(wanted: &Capacities, limits: &Capacities) -> Capacities {
    Capacities {
        frontends: wanted.frontends.min(limits.frontends),
        services: wanted.services.min(limits.services),
        slots: wanted.slots.min(limits.slots),
        backends: wanted.backends.min(limits.backends),
        members: wanted.members.min(limits.members),
        source_ranges: wanted.source_ranges.min(limits.source_ranges),
        sockets: wanted.sockets.min(limits.sockets),
        sockets_over: wanted.sockets_over.min(limits.sockets_over),
        affinity: wanted.affinity.min(limits.affinity),
        flows: wanted.flows.min(limits.flows),
    }
}

/// The larger of two sizes, map by map.
pub fn at_least(have: &Capacities, wanted: &Capacities) -> Capacities {
    Capacities {
        frontends: have.frontends.max(wanted.frontends),
        services: have.services.max(wanted.services),
        slots: have.slots.max(wanted.slots),
        backends: have.backends.max(wanted.backends),
        members: have.members.max(wanted.members),
        source_ranges: have.source_ranges.max(wanted.source_ranges),
        sockets: have.sockets.max(wanted.sockets),
        sockets_over: have.sockets_over.max(wanted.sockets_over),
        affinity: have.affinity.max(wanted.affinity),
        flows: have.flows.max(wanted.flows),
    }
}
