// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What becomes of each pinned map: pure.

use lb_common::maps::Capacities;

use crate::datapath::{
    maps::{Role, SHAPES, Shape},
    syscall::MapDescription,
};

/// What to do with one map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fate {
    /// The map's name.
    pub(super) name: &'static str,
    /// How many elements it will have.
    pub(super) entries: u32,
    /// Where it comes from.
    pub(super) origin: Origin,
}

/// Where a map comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// It is there and stays.
    Kept,
    /// A larger one with the same contents.
    Grown,
    /// An empty one.
    Fresh,
}

/// What was found under a map's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// Something that is no map.
    Junk,
    /// A map.
    Map(MapDescription),
}

/// A pinned map that cannot be used as it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Misfit {
    /// The map's name.
    pub map: &'static str,
    /// What is there instead; `None` if nothing or no map is.
    pub found: Option<MapDescription>,
}

/// Decides for every map, in the order of [`SHAPES`].
///
/// Maps that name indexes of others fall with them. `grow` says what the sizes of the maps
/// that can grow must at least be; they never shrink.
pub(super) fn decide(found: &[Found], wanted: &Capacities) -> Vec<Fate> {
    let pairs = || SHAPES.iter().zip(found);
    let all_fit = |roles: &[Role]| {
        pairs().all(|(shape, found)| !roles.contains(&shape.role) || fits(shape, found))
    };
    let tables = all_fit(&[Role::Table]);
    let sockets = tables && all_fit(&[Role::Load, Role::Socket]);
    let grow = tables
        && pairs().any(|(shape, found)| match (shape.role, found) {
            (Role::Table | Role::Load, Found::Map(map)) => {
                map.max_entries < (shape.entries)(wanted)
            }
            _ => false,
        });
    pairs()
        .map(|(shape, found)| {
            let keep = match shape.role {
                Role::Table => tables,
                Role::Load | Role::Socket => sockets,
                Role::Dependent => tables && fits(shape, found),
                Role::Alone => fits(shape, found),
            };
            let grows = grow && matches!(shape.role, Role::Table | Role::Load);
            let has = match found {
                Found::Map(map) => map.max_entries,
                Found::Nothing | Found::Junk => 0,
            };
            let wants = (shape.entries)(wanted);
            match (keep, grows) {
                (true, true) => fate(shape, has.max(wants), Origin::Grown),
                (true, false) => fate(shape, has, Origin::Kept),
                (false, _) => fate(shape, wants, Origin::Fresh),
            }
        })
        .collect()
}

/// The maps that are there, or missing among others that are, and do not fit.
pub(super) fn misfits(found: &[Found]) -> Vec<Misfit> {
    if found.iter().all(|found| *found == Found::Nothing) {
        return Vec::new();
    }
    let pairs = SHAPES.iter().zip(found).filter(|(shape, found)| !fits(shape, found));
    pairs
        .map(|(shape, found)| match found {
            Found::Map(map) => Misfit { map: shape.name, found: Some(*map) },
            Found::Nothing | Found::Junk => Misfit { map: shape.name, found: None },
        })
        .collect()
}

fn fits(shape: &Shape, found: &Found) -> bool {
    matches!(found, Found::Map(map) if shape.fits(map))
}

fn fate(shape: &Shape, entries: u32, origin: Origin) -> Fate {
    Fate { name: shape.name, entries, origin }
}

#[cfg(test)]
mod tests;
