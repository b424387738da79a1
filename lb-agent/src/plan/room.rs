// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How many elements the hash maps still take.

use lb_common::maps::{self, Capacities, NODE_ADDRS_LEN, SERVICE_CIDRS_LEN};

use super::{port::Frontend, tables::Tables};

/// Free elements. What a plan removes is not counted: it goes after what the plan adds.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// FRONTENDS4.
    pub frontends4: usize,
    /// FRONTENDS6.
    pub frontends6: usize,
    /// NAMES.
    pub names: usize,
    /// MEMBERS.
    pub members: usize,
    /// SOURCE_RANGES.
    pub source_ranges: usize,
    /// NODE_ADDRS.
    pub node_addresses: usize,
    /// SERVICE_CIDRS.
    pub service_cidrs: usize,
}

impl Room {
    /// What tables leave of the maps.
    pub fn of(tables: &Tables, capacities: &Capacities) -> Self {
        let free = |capacity: u32, held: usize| (capacity as usize).saturating_sub(held);
        Self {
            frontends4: free(capacities.frontends, tables.frontends4.len()),
            frontends6: free(capacities.frontends, tables.frontends6.len()),
            names: free(capacities.services, tables.names.len()),
            members: free(capacities.members, tables.members.len()),
            source_ranges: free(capacities.source_ranges, tables.source_ranges.len()),
            service_cidrs: free(SERVICE_CIDRS_LEN, tables.service_cidrs.len()),
            node_addresses: free(NODE_ADDRS_LEN, tables.node_addresses.len()),
        }
    }

    /// Takes room for a new frontend; the map that has none is the error.
    pub const fn take_frontend(&mut self, frontend: &Frontend) -> Result<(), &'static str> {
        match frontend {
            Frontend::V4(_) => take(&mut self.frontends4, 1, maps::FRONTENDS4),
            Frontend::V6(_) => take(&mut self.frontends6, 1, maps::FRONTENDS6),
            Frontend::NodePort { .. } => Ok(()),
        }
    }

    /// Takes room for a new name.
    pub const fn take_name(&mut self) -> Result<(), &'static str> {
        take(&mut self.names, 1, maps::NAMES)
    }

    /// Takes room for a new source range.
    pub const fn take_range(&mut self) -> Result<(), &'static str> {
        take(&mut self.source_ranges, 1, maps::SOURCE_RANGES)
    }

    /// Takes room for new members.
    pub const fn take_members(&mut self, count: usize) -> Result<(), &'static str> {
        take(&mut self.members, count, maps::MEMBERS)
    }
}

const fn take(free: &mut usize, count: usize, map: &'static str) -> Result<(), &'static str> {
    match free.checked_sub(count) {
        Some(left) => {
            *free = left;
            Ok(())
        }
        None => Err(map),
    }
}
