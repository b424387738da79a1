// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What becomes of each pinned map: pure.

use std::{collections::BTreeSet, fmt};

use lb_common::maps::{self, Capacities};

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
    /// A map, but not the one that the pinned programs use.
    Stray(MapDescription),
}

/// A pinned map that cannot be used as it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Misfit {
    /// The map's name.
    pub map: &'static str,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What is wrong with a pinned map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// It is not there, although others are.
    Missing,
    /// What is there is no map.
    NoMap,
    /// It is a map of another shape.
    Shape(MapDescription),
    /// It is a map that the pinned programs do not use: somebody put it there.
    Stray,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { map, wrong } = self;
        match wrong {
            Wrong::Missing => write!(f, "{map} is missing"),
            Wrong::NoMap => write!(f, "{map} is no map"),
            Wrong::Stray => write!(f, "{map} is not the one that the programs use"),
            Wrong::Shape(found) => write!(f, "{map} {}", difference(map, found)),
        }
    }
}

/// The first thing in which a map differs from its shape.
fn difference(map: &str, found: &MapDescription) -> String {
    let Some(shape) = SHAPES.iter().find(|shape| shape.name == map) else {
        return "is unknown".to_owned();
    };
    let properties = [
        ("map type", found.map_type, shape.map_type),
        ("key size", found.key_size, shape.key_size),
        ("value size", found.value_size, shape.value_size),
        ("flags", found.flags, shape.flags),
    ];
    let other = properties.into_iter().find(|(_, found, wanted)| found != wanted);
    other.map_or_else(
        || format!("has {} entries", found.max_entries),
        |(what, found, wanted)| format!("has {what} {found} instead of {wanted}"),
    )
}

/// Tells maps that the pinned programs use from others that stand in their place. `used` is
/// the ids of all maps that those programs use.
pub(super) fn disown(found: &mut [Found], used: &BTreeSet<u32>) {
    for (shape, found) in SHAPES.iter().zip(found) {
        if let Found::Map(map) = *found
            && shape.fits(&map)
            // No program reads the names.
            && shape.name != maps::NAMES
            && !used.contains(&map.id)
        {
            *found = Found::Stray(map);
        }
    }
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
    // Sockets' records name backends and nothing else; all else names more.
    let backends = all_fit(&[Role::Backend]);
    let tables = backends && all_fit(&[Role::Table]);
    let sockets = backends && all_fit(&[Role::Load, Role::Socket]);
    let grow = tables
        && pairs().any(|(shape, found)| match (shape.role, found) {
            (Role::Table | Role::Backend | Role::Load, Found::Map(map)) => {
                map.max_entries < (shape.entries)(wanted)
            }
            _ => false,
        });
    pairs()
        .map(|(shape, found)| {
            let keep = match shape.role {
                Role::Table => tables,
                Role::Backend => backends,
                Role::Flow => backends && fits(shape, found),
                Role::Load | Role::Socket => sockets,
                Role::Dependent => tables && fits(shape, found),
                Role::Alone => fits(shape, found),
            };
            let grows = grow && matches!(shape.role, Role::Table | Role::Backend | Role::Load);
            let has = match found {
                Found::Map(map) => map.max_entries,
                Found::Nothing | Found::Junk | Found::Stray(_) => 0,
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
        .map(|(shape, found)| {
            let wrong = match found {
                Found::Nothing => Wrong::Missing,
                Found::Junk => Wrong::NoMap,
                Found::Map(map) => Wrong::Shape(*map),
                Found::Stray(_) => Wrong::Stray,
            };
            Misfit { map: shape.name, wrong }
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
