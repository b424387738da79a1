// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The functional core: from a snapshot of the cluster to ordered writes of the kernel's maps.
//!
//! It owns every rule that decides which sockets go where, and every index, id and region in
//! the maps. It never does I/O, reads no clock, logs nothing: data in, data out.
//!
//! ```text
//! Snapshot ─► compile ─► Desired ─► diff (against Tables) ─► Op, Op, Op ─► datapath
//! ```

pub mod admission;
pub mod alloc;
mod attempt;
pub mod backends;
pub mod claims;
pub mod cluster_ips;
pub mod compile;
pub mod demand;
pub mod desired;
pub mod diff;
pub mod difference;
pub mod eligible;
pub mod health_checks;
pub mod held_up;
pub mod left_out;
pub mod lookup;
pub mod maglev;
pub mod op;
pub mod phases;
pub mod place;
pub mod port;
mod ranges;
pub mod refs;
mod restore;
mod retire;
pub mod room;
pub mod shortage;
pub mod stale;
pub mod stranded;
pub mod tables;
pub mod topology;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod fixture;
#[cfg(test)]
pub(crate) mod view;
