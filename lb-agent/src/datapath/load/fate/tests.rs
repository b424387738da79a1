// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which maps survive which damage.

use lb_common::maps;

use super::*;

/// Maps as an agent with the smallest sizes leaves them.
fn intact() -> Vec<Found> {
    SHAPES.iter().map(|shape| Found::Map(describe(shape, &Capacities::MINIMUM))).collect()
}

fn describe(shape: &Shape, sizes: &Capacities) -> MapDescription {
    MapDescription {
        map_type: shape.map_type,
        id: 1,
        key_size: shape.key_size,
        value_size: shape.value_size,
        max_entries: (shape.entries)(sizes),
        flags: shape.flags,
    }
}

fn damage(found: &mut [Found], name: &str) {
    let place = SHAPES.iter().position(|shape| shape.name == name).unwrap();
    if let Found::Map(map) = &mut found[place] {
        map.value_size += 8;
    }
}

fn origins(fates: &[Fate], origin: Origin) -> Vec<&'static str> {
    fates.iter().filter(|fate| fate.origin == origin).map(|fate| fate.name).collect()
}

#[test]
fn what_fits_is_kept_and_never_shrinks() {
    let small = Capacities { services: 16, sockets: 1 << 10, ..Capacities::MINIMUM };
    let fates = decide(&intact(), &small);
    assert!(fates.iter().all(|fate| fate.origin == Origin::Kept));
    let services = fates.iter().find(|fate| fate.name == maps::SERVICES).unwrap();
    assert_eq!(services.entries, Capacities::MINIMUM.services);
    assert!(misfits(&intact()).is_empty());
}

#[test]
fn tables_and_loads_grow_together_and_the_rest_is_shared() {
    let large = Capacities { backends: 1 << 20, ..Capacities::MINIMUM };
    let fates = decide(&intact(), &large);
    assert_eq!(
        origins(&fates, Origin::Grown),
        [
            maps::FRONTENDS4,
            maps::FRONTENDS6,
            maps::SERVICES,
            maps::SLOTS,
            maps::BACKENDS,
            maps::BACKEND_LOAD,
            maps::MEMBERS,
            maps::NAMES,
            maps::SOURCE_RANGES
        ]
    );
    assert!(origins(&fates, Origin::Fresh).is_empty());
}

#[test]
fn a_table_that_does_not_fit_takes_all_that_names_its_indexes() {
    let mut found = intact();
    damage(&mut found, maps::SLOTS);
    let fates = decide(&found, &Capacities::MINIMUM);
    let kept = [
        maps::BACKENDS,
        maps::BACKEND_LOAD,
        maps::SERVICE_CIDRS,
        maps::NODE_ADDRS,
        maps::SOCKETS,
        maps::SOCKETS_OVER,
        maps::FLOWS,
        maps::BYPASS,
        maps::POD_DEVICES,
        maps::COUNTERS,
        maps::EVENTS,
        maps::CONFIG,
    ];
    assert_eq!(origins(&fates, Origin::Kept), kept, "sockets name backends alone");
    assert_eq!(misfits(&found).iter().map(|misfit| misfit.map).collect::<Vec<_>>(), [maps::SLOTS]);
}

#[test]
fn without_backends_nothing_stays_that_names_anything() {
    let mut found = intact();
    damage(&mut found, maps::BACKENDS);
    let fates = decide(&found, &Capacities::MINIMUM);
    let kept = [
        maps::SERVICE_CIDRS,
        maps::NODE_ADDRS,
        maps::BYPASS,
        maps::POD_DEVICES,
        maps::COUNTERS,
        maps::EVENTS,
        maps::CONFIG,
    ];
    assert_eq!(origins(&fates, Origin::Kept), kept);
    let misfit = misfits(&found)[0].to_string();
    assert_eq!(misfit, "BACKENDS has value size 40 instead of 32");
}

#[test]
fn a_map_of_the_right_shape_that_the_programs_do_not_use_is_somebody_elses() {
    let mut found = intact();
    let ids = |found: &[Found]| {
        let ids = found.iter().filter_map(|found| match found {
            Found::Map(map) => Some(map.id),
            _ => None,
        });
        ids.collect()
    };
    let used = ids(&found);
    disown(&mut found, &used);
    assert_eq!(found, intact());
    for found in &mut found {
        if let Found::Map(map) = found {
            map.id = 2;
        }
    }
    disown(&mut found, &used);
    assert_eq!(misfits(&found).len(), SHAPES.len() - 1, "no program uses NAMES");
    assert!(misfits(&found).iter().all(|misfit| misfit.wrong == Wrong::Stray));
}

#[test]
fn sockets_and_their_counts_fall_together() {
    let mut found = intact();
    damage(&mut found, maps::SOCKETS_OVER);
    let fates = decide(&found, &Capacities::MINIMUM);
    let fresh = [maps::BACKEND_LOAD, maps::SOCKETS, maps::SOCKETS_OVER];
    assert_eq!(origins(&fates, Origin::Fresh), fresh);
}

#[test]
fn a_map_that_nothing_names_falls_alone() {
    let mut found = intact();
    damage(&mut found, maps::COUNTERS);
    let fates = decide(&found, &Capacities::MINIMUM);
    assert_eq!(origins(&fates, Origin::Fresh), [maps::COUNTERS]);
}

#[test]
fn an_empty_directory_is_no_misfit_and_a_half_written_one_is() {
    let mut found = vec![Found::Nothing; SHAPES.len()];
    assert!(misfits(&found).is_empty());
    assert_eq!(origins(&decide(&found, &Capacities::MINIMUM), Origin::Fresh).len(), SHAPES.len());
    found[3] = intact()[3];
    assert_eq!(misfits(&found).len(), SHAPES.len() - 1);
    found[3] = Found::Junk;
    assert_eq!(misfits(&found).len(), SHAPES.len());
}
