// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What holds for every plan between any two clusters.

use lb_common::{
    affinity::Member,
    backend::{Backend, State},
    service::{FrontendKind, Service, ServiceFlags, SetWord},
    slot::Slot,
};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    model::snapshot::{Snapshot, Touched},
    plan::{
        arbitrary,
        desired::compile,
        difference::differences,
        refs::Broken,
        view::{self, Outcome, View},
    },
};

const CAPACITIES: Capacities = Capacities::MINIMUM;

/// Sizes that most clusters do not fit in.
const TINY: Capacities = Capacities {
    frontends: 9,
    services: 10,
    slots: 24,
    backends: 12,
    members: 12,
    ..Capacities::MINIMUM
};

fn unused(_: u32) -> u64 {
    0
}

/// The tables of a snapshot, made from nothing.
fn tables_of(snapshot: &Snapshot) -> Tables {
    let mut tables = Tables::default();
    for op in plan(&tables.clone(), &compile(snapshot).0, &CAPACITIES, unused).0 {
        tables.apply(&op);
    }
    tables
}

/// Executes ops one by one. After each the references hold, and whoever is served before and
/// after is served by the old set or by the new one.
fn execute(tables: &mut Tables, ops: &[Op], after: Option<&Wanted>) -> Result<(), TestCaseError> {
    let before = view::of_tables(tables);
    for (position, op) in ops.iter().enumerate() {
        let admitted = tables.admits(op);
        tables.apply(op);
        let broken = tables.check_refs();
        prop_assert_eq!(&broken, &Vec::<Broken>::new(), "after op {}, {:?}", position, op);
        let takes_away = matches!(
            op,
            Op::Grace
                | Op::Service { .. }
                | Op::Life { .. }
                | Op::Name { text: None, .. }
                | Op::Member { .. }
                | Op::SourceRange { admission: None, .. }
        );
        prop_assert!(admitted || takes_away, "op {}, {:?}", position, op);
        if let Some(after) = after {
            check_between(&before, &view::of_tables(tables), after)?;
        }
    }
    Ok(())
}

/// What is wanted of the frontends, and of the service ports that lose some of theirs.
struct Wanted {
    frontends: View,
    ports: BTreeMap<(String, bool, FrontendKind), Outcome>,
}

impl Wanted {
    fn of(desired: &Desired) -> Self {
        Self { frontends: view::of_desired(desired), ports: view::ports_of(desired) }
    }
}

fn check_between(before: &View, now: &View, after: &Wanted) -> Result<(), TestCaseError> {
    for (frontend, old) in before {
        let Some(new) = after.frontends.get(frontend) else { continue };
        let Some(now) = now.get(frontend) else {
            return Err(TestCaseError::fail(format!("{frontend} is gone for a moment")));
        };
        // One that changes hands may see its old owner's new set first.
        let key = (old.name.clone(), frontend.is_ipv6(), old.kind);
        let last = after.ports.get(&key).unwrap_or(new);
        let sets = [old, new, last];
        prop_assert!(sets.iter().any(|set| now.inside == set.inside), "{}", frontend);
        prop_assert!(sets.iter().any(|set| now.outside == set.outside), "{}", frontend);
        // LB-06: nobody comes in who could not before and will not after, nor the reverse.
        for client in view::strangers() {
            let admits =
                |set: &Outcome| set.admitted.as_ref().is_none_or(|it| it.contains(&client));
            let is_known = sets.iter().any(|set| admits(set) == admits(now));
            prop_assert!(is_known, "{} admits {}: {}", frontend, client, admits(now));
        }
    }
    Ok(())
}

/// No trace of anything that is not desired.
pub(super) fn check_clean(tables: &Tables, desired: &Desired) -> Result<(), TestCaseError> {
    let used: BTreeSet<_> = desired
        .port_names()
        .filter_map(|name| desired.port(name))
        .filter(|port| desired.won(port).next().is_some())
        .flat_map(|port| &port.endpoints.candidates)
        .map(|candidate| candidate.address)
        .collect();
    for (index, backend) in tables.backends.iter() {
        let alive = backend.life.state() != State::Dead;
        prop_assert!(!alive || used.contains(&backend.address), "backend {}", index);
    }
    let named: BTreeSet<_> = tables.named_services().map(|(index, _)| index).collect();
    for (index, record) in tables.services.iter().filter(|(index, _)| !named.contains(index)) {
        prop_assert_eq!(record.inside.count() + record.outside.count(), 0, "record {}", index);
    }
    let ids: BTreeSet<_> = named.iter().map(|index| tables.services.at(*index).id).collect();
    prop_assert!(tables.names.keys().all(|id| ids.contains(id)));
    prop_assert!(tables.members.keys().all(|key| ids.contains(&key.service_id)));
    let guarded = |id: u32| {
        let records = named.iter().map(|index| tables.services.at(*index));
        records.clone().any(|it| it.id == id && it.flags().contains(ServiceFlags::SOURCE_RANGES))
    };
    prop_assert!(tables.source_ranges.keys().all(|key| guarded(key.guard.service_id)));
    Ok(())
}

/// A quarter of the usual number of cases: each checks the tables after every op.
pub(super) fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases / 4, ..config }
}

/// Somebody else writes to the maps.
fn damage(tables: &mut Tables, kind: u8, at: prop::sample::Index) {
    let frontends: BTreeSet<_> = tables.frontends().collect();
    let Some(frontend) = frontends.iter().nth(at.index(frontends.len().max(1))) else { return };
    let service = tables.frontend(frontend).unwrap().service;
    let record = tables.services.at(service);
    let slot = tables.slots.at(record.inside.base);
    match kind {
        0 => tables.apply(&frontend.op(None)),
        1 => tables.apply(&frontend.op(Some(frontend.value(service + 1)))),
        2 => tables.services.put(service, Service::default()),
        3 => tables.services.put(service, Service { flags: ServiceFlags::all().bits(), ..record }),
        4 => tables
            .services
            .put(service, Service { inside: SetWord { base: 1, count_and_rule: 3 }, ..record }),
        5 => tables.slots.put(record.inside.base, Slot::default()),
        6 => tables.slots.put(record.inside.base, Slot { generation: 99, ..slot }),
        7 => tables.backends.put(slot.backend, Backend::default()),
        8 => tables.backends.put(slot.backend, tables.backends.at(slot.backend + 1)),
        9 => _ = tables.names.remove(&record.id),
        10 => tables.members.retain(|key, _| key.service_id != record.id),
        11 => tables.node_addresses.clear(),
        12 => tables.services.put(service, Service { id: record.id + 1, ..record }),
        _ => {
            let key = MemberKey { service_id: record.id, backend: 77 };
            tables.members.insert(key, Member::default());
        }
    }
}

/// What each service port has, by name: to see that it does not move.
fn places(tables: &Tables) -> BTreeMap<(Box<str>, u32), u32> {
    let records = tables.named_services().map(|(index, _)| (index, tables.services.at(index)));
    let key = |record: &Service| {
        (tables.names[&record.id].as_ref().into(), record.flags().bits() & 0b1_0011)
    };
    records.map(|(index, record)| (key(&record), index)).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_prefix_is_sound_and_the_end_is_what_is_desired(
        one in arbitrary::snapshot(),
        two in arbitrary::snapshot(),
    ) {
        let mut tables = tables_of(&one);
        let (desired, _) = compile(&two);
        let wanted = Wanted::of(&desired);
        let (ops, issues) = plan(&tables, &desired, &CAPACITIES, unused);
        prop_assert!(issues.is_empty());
        execute(&mut tables, &ops, Some(&wanted))?;
        prop_assert_eq!(view::of_tables(&tables), wanted.frontends);
        prop_assert_eq!(&tables.node_addresses, desired.node_addresses());
        check_clean(&tables, &desired)?;
        let (again, _) = plan(&tables, &desired, &CAPACITIES, unused);
        prop_assert_eq!(again, vec![], "a restart that finds no change writes nothing");
    }

    #[test]
    fn change_by_change_ends_where_a_restart_would(
        steps in vec((arbitrary::snapshot(), any::<bool>()), 1..5),
    ) {
        let mut planner = Planner::restore(Tables::default(), CAPACITIES);
        let mut desired = Desired::default();
        let mut tables = Tables::default();
        let mut run = |planner: &mut Planner, ops: Vec<Op>, after: Option<&Wanted>| {
            execute(&mut tables, &ops, after)?;
            planner.confirm(&ops);
            prop_assert_eq!(planner.tables(), &tables);
            Ok(())
        };
        for (snapshot, retires) in steps {
            let changed = desired.update(&snapshot, &Touched::All);
            let wanted = Wanted::of(&desired);
            let ops = planner.plan(&desired, &changed, &unused);
            run(&mut planner, ops, Some(&wanted))?;
            prop_assert_eq!(&view::of_tables(planner.tables()), &wanted.frontends);
            if retires {
                let ops = planner.retire();
                run(&mut planner, ops, Some(&wanted))?;
                prop_assert!(!planner.has_leftovers());
            }
        }
        let ops = planner.retire();
        run(&mut planner, ops, None)?;
        check_clean(planner.tables(), &desired)?;
        let (again, _) = plan(planner.tables(), &desired, &CAPACITIES, unused);
        prop_assert_eq!(again, vec![], "a restart that finds no change writes nothing");
    }

    #[test]
    fn killed_at_any_op_the_next_start_converges(
        one in arbitrary::snapshot(),
        two in arbitrary::snapshot(),
        three in arbitrary::snapshot(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut tables = tables_of(&one);
        let (ops, _) = plan(&tables, &compile(&two).0, &CAPACITIES, unused);
        let done = at.index(ops.len() + 1);
        execute(&mut tables, &ops[..done], None)?;
        let (desired, _) = compile(&three);
        let wanted = Wanted::of(&desired);
        let (ops, _) = plan(&tables, &desired, &CAPACITIES, unused);
        execute(&mut tables, &ops, Some(&wanted))?;
        prop_assert_eq!(view::of_tables(&tables), wanted.frontends);
        check_clean(&tables, &desired)?;
        prop_assert_eq!(plan(&tables, &desired, &CAPACITIES, unused).0, vec![]);
    }

    #[test]
    fn another_service_moves_nothing(snapshot in arbitrary::snapshot(), gone in 0_usize..6) {
        let mut less = snapshot.clone();
        let Some(name) = snapshot.services.keys().nth(gone) else { return Ok(()) };
        less.services.remove(name);
        let mut tables = tables_of(&less);
        let (before, ids) = (places(&tables), tables.names.clone());
        let (ops, _) = plan(&tables, &compile(&snapshot).0, &CAPACITIES, unused);
        execute(&mut tables, &ops, None)?;
        let after = places(&tables);
        for (port, index) in before {
            prop_assert!(after.get(&port).is_none_or(|now| *now == index), "{:?}", port);
        }
        for (id, name) in ids {
            prop_assert!(tables.names.get(&id).is_none_or(|now| *now == name));
        }
    }

    #[test]
    fn order_of_arrival_does_not_decide_what_is_served(
        snapshot in arbitrary::snapshot(),
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut partial = Snapshot { services: HashMap::default(), ..snapshot.clone() };
        let mut planner = Planner::restore(Tables::default(), CAPACITIES);
        let mut desired = Desired::default();
        let ops = planner.plan_all(&desired, &unused);
        planner.confirm(&ops);
        for index in order {
            let Some((name, service)) = snapshot.services.iter().nth(index) else { continue };
            partial.services.insert(name.clone(), service.clone());
            let touched = if index % 2 == 0 { Touched::one(name.clone()) } else { Touched::All };
            let changed = desired.update(&partial, &touched);
            let ops = planner.plan(&desired, &changed, &unused);
            planner.confirm(&ops);
        }
        let wanted = view::of_desired(&compile(&snapshot).0);
        prop_assert_eq!(view::of_tables(planner.tables()), wanted);
    }

    #[test]
    fn full_maps_harm_nothing_that_is_served_and_recover(
        one in arbitrary::snapshot(),
        two in arbitrary::snapshot(),
    ) {
        let mut planner = Planner::restore(Tables::default(), TINY);
        let mut desired = Desired::default();
        let mut tables = Tables::default();
        for snapshot in [&one, &two, &Snapshot::default(), &one] {
            let before = view::of_tables(&tables);
            let changed = desired.update(snapshot, &Touched::All);
            for _ in 0..3 {
                let ops = planner.plan(&desired, &changed, &unused);
                execute(&mut tables, &ops, None)?;
                planner.confirm(&ops);
                let ops = planner.retire();
                execute(&mut tables, &ops, None)?;
                planner.confirm(&ops);
            }
            check_room(&tables)?;
            let (wanted, now) = (view::of_desired(&desired), view::of_tables(&tables));
            prop_assert!(now.keys().all(|frontend| wanted.contains_key(frontend)));
            let same = |frontend: &Frontend| {
                let held = desired.winner(frontend).map(|claim| claim.owner.name.text.to_string());
                held.as_ref() == now.get(frontend).map(|outcome| &outcome.name)
            };
            prop_assert!(now.keys().all(same), "served for another service port");
            if !planner.is_full() {
                prop_assert_eq!(&now, &wanted);
            }
            for (frontend, old) in before {
                let stays = desired.winner(&frontend).is_some_and(|claim| *claim.owner.name.text == *old.name);
                prop_assert!(!stays || now.contains_key(&frontend), "{} was harmed", frontend);
            }
        }
        let (ops, issues) = plan(&tables, &desired, &CAPACITIES, unused);
        prop_assert!(issues.is_empty());
        execute(&mut tables, &ops, Some(&Wanted::of(&desired)))?;
        prop_assert_eq!(view::of_tables(&tables), view::of_desired(&desired));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn syn_06_what_others_did_to_the_maps_is_repaired(
        snapshot in arbitrary::snapshot(),
        damages in vec((0_u8..14, any::<prop::sample::Index>()), 1..4),
    ) {
        let mut tables = tables_of(&snapshot);
        let sound = tables.clone();
        prop_assert_eq!(differences(&sound, &tables), vec![]);
        for (kind, at) in damages {
            damage(&mut tables, kind, at);
        }
        prop_assert_eq!(differences(&sound, &tables).is_empty(), sound == tables);
        let (desired, _) = compile(&snapshot);
        for op in plan(&tables, &desired, &CAPACITIES, unused).0 {
            tables.apply(&op);
        }
        prop_assert_eq!(tables.check_refs(), vec![]);
        prop_assert_eq!(view::of_tables(&tables), view::of_desired(&desired));
        prop_assert_eq!(&tables.node_addresses, desired.node_addresses());
        prop_assert_eq!(plan(&tables, &desired, &CAPACITIES, unused).0, vec![]);
    }
}

fn check_room(tables: &Tables) -> Result<(), TestCaseError> {
    prop_assert!(tables.frontends4.len() <= TINY.frontends as usize);
    prop_assert!(tables.frontends6.len() <= TINY.frontends as usize);
    prop_assert!(tables.names.len() <= TINY.services as usize);
    prop_assert!(tables.members.len() <= TINY.backends as usize);
    prop_assert!(tables.services.iter().all(|(index, _)| index < TINY.services));
    prop_assert!(tables.backends.iter().all(|(index, _)| index < TINY.backends));
    prop_assert!(tables.slots.iter().all(|(index, _)| index < TINY.slots));
    Ok(())
}
