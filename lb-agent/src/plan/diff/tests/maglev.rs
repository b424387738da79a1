// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Maglev tables in the maps (SVC-11).

use std::net::IpAddr;

use lb_common::service::Algorithm;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::model::service::{Choice, Forwarding};

/// `default/web` and its like, by Maglev.
fn maglev(name: &str, address: &str) -> Service {
    let choice = Choice::Maglev { length: None, forwarding: Forwarding::Snat };
    Service { choice, ..service(name, &[address], &["http=80"]) }
}

/// How `default/<name>` picks, and the backend of each of its slots.
fn table(world: &World, address: &str) -> (Algorithm, Vec<IpAddr>) {
    let tables = &world.planner.tables;
    let Some(Frontend::V4(key)) = Frontend::new(
        address.parse().unwrap(),
        80.try_into().unwrap(),
        lb_common::protocol::Protocol::TCP,
    ) else {
        panic!("{address} is no IPv4 address")
    };
    let set = tables.services.at(tables.frontends4[&key].service).inside;
    let slots = tables.slots.range(set.base, set.count()).unwrap();
    let backends = slots.iter().map(|slot| tables.backends.at(slot.backend).address.to_ip());
    (set.algorithm(), backends.collect())
}

fn issues(world: &World) -> Vec<String> {
    let node = ObjectName::new("", "here");
    world.planner.issues(&node, Ceiling::Limit).map(|issue| issue.to_string()).collect()
}

fn endpoints(lasts: impl IntoIterator<Item = u8>) -> Vec<Build> {
    lasts.into_iter().map(|last| endpoint(&format!("10.0.0.{last}"))).collect()
}

#[test]
fn svc_11_a_table_is_written_once_and_a_change_is_a_new_one() {
    let mut world = World::new(Capacities::MINIMUM);
    world.put(maglev("web", "10.96.0.1"));
    world.endpoints(endpoints(1..4));
    assert_eq!(letters(&world.step()), "BBBSNRF");
    let (algorithm, before) = table(&world, "10.96.0.1");
    assert_eq!((algorithm, before.len()), (Algorithm::Maglev, 2_039));
    assert_eq!(letters(&world.step()), "");
    world.planner = Planner::restore(world.planner.tables.clone(), Capacities::MINIMUM);
    assert_eq!(letters(&world.planner.plan_all(&world.desired, &|_| 0)), "", "after a restart");
    world.endpoints(endpoints(2..4));
    assert_eq!(letters(&world.step()), "SIO|L");
    let (_, after) = table(&world, "10.96.0.1");
    let gone: IpAddr = "10.0.0.1".parse().unwrap();
    let moved = before.iter().zip(&after).filter(|(old, new)| **old != gone && old != new).count();
    assert!(moved < before.len() / 100, "{moved} of {}", before.len());
    world.put(service("web", &["10.96.0.1"], &["http=80"]));
    assert_eq!(letters(&world.step()), "SIO|");
    assert_eq!(table(&world, "10.96.0.1").0, Algorithm::Random);
}

#[test]
fn svc_11_a_set_whose_table_finds_no_room_is_random_until_there_is_some() {
    let mut world = World::new(Capacities { slots: 4_096, ..Capacities::MINIMUM });
    world.put(maglev("first", "10.96.0.1"));
    world.put(maglev("web", "10.96.0.2"));
    let mut slice = slice("first-1", &["http=8080"], endpoints(1..3));
    slice.service = ObjectName::new("default", "first");
    world.snapshot.slices.entry(slice.service.clone()).or_default().insert(Arc::new(slice));
    world.endpoints(endpoints(1..3));
    world.step();
    assert_eq!(table(&world, "10.96.0.1").0, Algorithm::Maglev);
    let (algorithm, backends) = table(&world, "10.96.0.2");
    assert_eq!((algorithm, backends.len()), (Algorithm::Random, 2));
    assert_eq!(
        issues(&world),
        ["Service default/web: service port default/web:http/TCP (IPv4): \
          map SLOTS is full: served with endpoints chosen at random, not by Maglev until there is \
          room; raise --max-entries slots, or remove Services"]
    );
    world.remove("first");
    world.step();
    world.step();
    assert_eq!(table(&world, "10.96.0.2").0, Algorithm::Maglev);
    assert_eq!(issues(&world), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Two nodes that learn of endpoints in another order, each of them with others meanwhile,
    /// end with the same table.
    #[test]
    fn svc_11_all_nodes_have_the_same_table_whatever_came_before(
        ways in [vec(vec(0_u8..20, 1..8), 0..4), vec(vec(0_u8..20, 1..8), 0..4)],
        last in vec(0_u8..20, 1..12),
    ) {
        let tables = ways.map(|way| {
            let mut world = World::new(Capacities::MINIMUM);
            world.put(maglev("web", "10.96.0.1"));
            let mut last = last.clone();
            let turn = way.len() % last.len();
            last.rotate_left(turn);
            for lasts in way.into_iter().chain([last]) {
                world.endpoints(endpoints(lasts));
                world.step();
            }
            table(&world, "10.96.0.1")
        });
        prop_assert_eq!(&tables[0], &tables[1]);
        prop_assert_eq!(tables[0].0, Algorithm::Maglev);
    }
}
