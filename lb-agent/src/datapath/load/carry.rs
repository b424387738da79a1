// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies a generation's tables into a larger one: the same indexes and ids, so whatever
//! names them stays right.

use std::{io, path::Path};

use bytemuck::Pod;
use lb_common::maps;

use super::{error::LoadError, pins::Pins};
use crate::datapath::{arrays::Array, hashes::Hash, maps::Maps, syscall};

/// Fills the tables of a new generation from the latest complete one. BACKEND_LOAD stays
/// empty: it is handed over when the old programs have stopped counting.
pub(super) fn tables(pins: &Pins, to: &mut Maps) -> Result<(), LoadError> {
    let from = |name| pins.latest_map(name);
    hash(maps::FRONTENDS4, &from(maps::FRONTENDS4), &mut to.frontends4)?;
    hash(maps::FRONTENDS6, &from(maps::FRONTENDS6), &mut to.frontends6)?;
    hash(maps::MEMBERS, &from(maps::MEMBERS), &mut to.members)?;
    hash(maps::SOURCE_RANGES, &from(maps::SOURCE_RANGES), &mut to.source_ranges)?;
    hash(maps::NAMES, &from(maps::NAMES), &mut to.names)?;
    array(maps::SERVICES, &from(maps::SERVICES), &mut to.services)?;
    array(maps::SLOTS, &from(maps::SLOTS), &mut to.slots)?;
    array(maps::BACKENDS, &from(maps::BACKENDS), &mut to.backends)
}

fn hash<K: Pod, V: Pod>(
    map: &'static str,
    from: &Path,
    to: &mut Hash<K, V>,
) -> Result<(), LoadError> {
    let from = aya::maps::MapData::from_pin(from)
        .and_then(Hash::<K, V>::new)
        .map_err(|source| LoadError::Map { operation: "open", map, source })?;
    let put = |keys: &[K], values: &[V]| to.put_all(keys, values).map_err(|failed| failed.source);
    from.read_all(put).map_err(|source| LoadError::Copy { map, source })
}

fn array<T: Pod>(map: &'static str, from: &Path, to: &mut Array<T>) -> Result<(), LoadError> {
    let mut copy = || -> io::Result<()> {
        let from = syscall::object_get(from)?;
        let len = syscall::describe_map(&from)?.max_entries;
        to.write_from(0, &Array::<T>::map(&from, len)?.written());
        Ok(())
    };
    copy().map_err(|source| LoadError::Copy { map, source })
}
