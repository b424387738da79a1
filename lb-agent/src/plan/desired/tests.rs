// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::{num::NonZeroU16, sync::Arc};

use super::*;
use crate::{
    model::{issue::Problem, service::Service},
    plan::fixture::{endpoint, service, slice},
};

/// A snapshot and what is desired of it, changed Service by Service.
#[derive(Default)]
struct World {
    snapshot: Snapshot,
    desired: Desired,
}

impl World {
    fn put(&mut self, service: Service) -> Changed {
        let name = service.name.clone();
        self.snapshot.services.insert(name.clone(), Arc::new(service));
        self.update(&[&name])
    }

    fn remove(&mut self, name: &str) -> Changed {
        let name = ObjectName::new("default", name);
        self.snapshot.services.remove(&name);
        self.update(&[&name])
    }

    fn update(&mut self, names: &[&ObjectName]) -> Changed {
        let touched = Touched::Some(names.iter().map(|&name| name.clone()).collect());
        let changed = self.desired.update(&self.snapshot, &touched);
        assert_same(&self.desired, &compile(&self.snapshot).0);
        changed
    }

    /// Who has `192.0.2.1:80/TCP`.
    fn holder(&self) -> Option<String> {
        let frontend = Frontend::new(
            "192.0.2.1".parse().unwrap(),
            NonZeroU16::new(80).unwrap(),
            lb_common::protocol::Protocol::TCP,
        );
        let claim = self.desired.winner(&frontend.unwrap())?;
        Some(claim.owner.service.name.to_string())
    }
}

/// Change by change or all at once: the same is desired.
fn assert_same(one: &Desired, two: &Desired) {
    assert_eq!(one.ports, two.ports);
    assert_eq!(one.services, two.services);
    assert_eq!(one.demand, two.demand);
    let holders = |desired: &Desired| {
        let mut holders: Vec<_> =
            desired.frontends().map(|it| (*it, desired.winner(it).cloned())).collect();
        holders.sort_by_key(|(frontend, _)| *frontend);
        holders
    };
    assert_eq!(holders(one), holders(two));
    assert!(one.issues().eq(two.issues()));
}

/// A Service that wants externalIP 192.0.2.1, port 80.
fn wanting(name: &str, cluster_ip: &str, created_secs: i64) -> Service {
    let mut service = service(name, &[cluster_ip], &["http=80"]);
    service.external_ips = vec!["192.0.2.1".parse().unwrap()];
    service.created_secs = created_secs;
    service
}

#[test]
fn col_02_the_elder_has_the_frontend_then_the_name_decides() {
    let services = [
        wanting("young", "10.96.0.1", 30),
        wanting("b-old", "10.96.0.2", 10),
        wanting("a-old", "10.96.0.3", 10),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut world = World::default();
        for index in order {
            world.put(services[index].clone());
        }
        assert_eq!(world.holder().unwrap(), "a-old");
        let issues: Vec<_> = world.desired.issues().map(|issue| issue.to_string()).collect();
        assert_eq!(issues.len(), 2);
        assert!(issues[0].starts_with(
            "Service default/b-old: spec.externalIPs: 192.0.2.1:80/TCP is already served for default/a-old"
        ));
    }
}

#[test]
fn col_02_when_the_winner_goes_the_next_takes_over_without_an_event_of_its_own() {
    let mut world = World::default();
    world.put(wanting("old", "10.96.0.1", 10));
    world.put(wanting("young", "10.96.0.2", 30));
    world.put(wanting("middle", "10.96.0.3", 20));
    let changed = world.remove("old");
    assert_eq!(world.holder().unwrap(), "middle");
    let names: Vec<_> = changed.ports.iter().map(|name| &*name.text).collect();
    assert_eq!(names, ["default/middle:http/TCP", "default/old:http/TCP"]);
    world.remove("middle");
    world.remove("young");
    assert_eq!(world.holder(), None);
    assert_eq!(world.desired.issues().count(), 0);
    assert_same(&world.desired, &Desired::default());
}

#[test]
fn col_02_a_cluster_ip_can_be_claimed_by_an_external_ip_too() {
    let mut world = World::default();
    world.put(wanting("old", "10.96.0.1", 10));
    world.put(service("ip", &["192.0.2.1"], &["=80"]));
    assert_eq!(world.holder().unwrap(), "ip", "created at 1");
    let taken = world.desired.issues().next().unwrap();
    assert!(matches!(taken.problem, Problem::Taken { ref winner, .. } if &*winner.name == "ip"));
}

#[test]
fn col_02_node_ports_collide_by_protocol_and_family() {
    let with_node_port = |name: &str, ip: &str, port: &str, created_secs| {
        let mut service = service(name, &[ip], &[port]);
        service.ports[0].node_port = NonZeroU16::new(30000);
        Service { created_secs, ..service }
    };
    let mut world = World::default();
    world.put(with_node_port("tcp", "10.96.0.1", "a=80", 1));
    world.put(with_node_port("udp", "10.96.0.2", "a=80/UDP", 2));
    world.put(with_node_port("v6", "fd00::1", "a=80", 3));
    assert_eq!(world.desired.issues().count(), 0);
    world.put(with_node_port("late", "10.96.0.4", "a=81", 4));
    assert_eq!(world.desired.issues().count(), 1);
}

#[test]
fn col_03_a_frontend_that_is_freed_and_taken_in_one_update_has_its_new_owner() {
    for (from, to) in [("a", "b"), ("b", "a")] {
        let mut world = World::default();
        world.put(service(from, &["192.0.2.1"], &["http=80"]));
        world.snapshot.services.clear();
        let new = service(to, &["192.0.2.1"], &["http=80"]);
        world.snapshot.services.insert(new.name.clone(), Arc::new(new));
        world.update(&[&ObjectName::new("default", "a"), &ObjectName::new("default", "b")]);
        assert_eq!(world.holder().unwrap(), to);
        assert_eq!(world.desired.issues().count(), 0);
    }
}

#[test]
fn col_04_a_renamed_port_keeps_its_frontend() {
    let mut world = World::default();
    world.put(service("web", &["192.0.2.1"], &["http=80"]));
    let changed = world.put(service("web", &["192.0.2.1"], &["www=80"]));
    assert_eq!(world.holder().unwrap(), "web");
    assert_eq!((changed.ports.len(), changed.frontends.len()), (2, 1));
}

#[test]
fn a_service_that_is_made_again_is_younger() {
    let mut world = World::default();
    world.put(wanting("a", "10.96.0.1", 10));
    world.put(wanting("b", "10.96.0.2", 20));
    world.put(wanting("a", "10.96.0.1", 30));
    assert_eq!(world.holder().unwrap(), "b");
}

#[test]
fn upd_02_what_does_not_matter_changes_nothing() {
    let mut world = World::default();
    let mut web = service("web", &["10.96.0.1"], &["http=80"]);
    assert!(!world.put(web.clone()).is_empty());
    assert!(world.put(web.clone()).is_empty());
    web.health_check_node_port = NonZeroU16::new(32000);
    assert!(world.put(web).is_empty());
    assert!(world.desired.update(&world.snapshot, &Touched::All).is_empty());
}

#[test]
fn upd_03_one_port_changes_and_its_sibling_does_not() {
    let mut world = World::default();
    world.put(service("web", &["10.96.0.1"], &["http=80", "admin=9000"]));
    let changed = world.put(service("web", &["10.96.0.1"], &["http=81", "admin=9000"]));
    let names: Vec<_> = changed.ports.iter().map(|name| &*name.text).collect();
    assert_eq!(names, ["default/web:http/TCP"]);
    assert_eq!(changed.frontends.len(), 2);
}

#[test]
fn upd_07_a_second_family_leaves_the_first_alone() {
    let mut world = World::default();
    world.put(service("web", &["10.96.0.1"], &["http=80"]));
    let changed = world.put(service("web", &["10.96.0.1", "fd00::1"], &["http=80"]));
    assert!(changed.ports.iter().all(|name| name.family == crate::model::Family::V6));
    let changed = world.put(service("web", &["10.96.0.1"], &["http=80"]));
    assert!(changed.ports.iter().all(|name| name.family == crate::model::Family::V6));
}

#[test]
fn eps_03_slices_that_came_first_take_effect_with_their_service() {
    let mut world = World::default();
    let early = slice("a", &["http=80"], vec![endpoint("10.0.0.1")]);
    let of = early.service.clone();
    world.snapshot.slices.entry(of).or_default().insert(Arc::new(early));
    for _ in 0..2 {
        world.put(service("web", &["10.96.0.1"], &["http=80"]));
        let name = world.desired.port_names().next().unwrap().clone();
        assert_eq!(world.desired.port(&name).unwrap().endpoints.candidates.len(), 1);
        world.remove("web");
    }
}

#[test]
fn nod_02_only_what_follows_the_node_is_touched_when_its_zone_changes() {
    let mut world = World::default();
    let zoned =
        vec![endpoint("10.0.0.1").for_zones(&["a"]), endpoint("10.0.0.2").for_zones(&["b"])];
    let zoned = slice("a", &["http=80"], zoned);
    let of = zoned.service.clone();
    world.snapshot.slices.entry(of).or_default().insert(Arc::new(zoned));
    world.put(service("web", &["10.96.0.1"], &["http=80"]));
    world.put(service("other", &["10.96.0.2"], &["http=80"]));
    world.snapshot.node.zone = Some("a".into());
    let changed = world.desired.update(&world.snapshot, &Touched::All);
    let names: Vec<_> = changed.ports.iter().map(|name| &*name.text).collect();
    assert_eq!(names, ["default/web:http/TCP"]);
}

#[test]
fn node_addresses_are_followed() {
    let mut world = World::default();
    world.snapshot.node_addresses.insert("192.0.2.7".parse().unwrap());
    assert!(world.desired.update(&world.snapshot, &Touched::All).node_addresses);
    assert!(!world.desired.update(&world.snapshot, &Touched::All).node_addresses);
    assert_eq!(world.desired.node_addresses().len(), 1);
}

#[test]
fn met_08_the_count_follows_every_change() {
    let mut world = World::default();
    world.snapshot.node.name = "here".into();
    let slice = slice("a", &["http=80"], vec![endpoint("10.0.0.1").on("there")]);
    let of = slice.service.clone();
    world.snapshot.slices.entry(of).or_default().insert(Arc::new(slice));
    let mut web = service("web", &["10.96.0.1"], &["http=80"]);
    web.internal_policy = crate::model::service::TrafficPolicy::Local;
    world.put(web.clone());
    assert_eq!(world.desired.stranded().internal(crate::model::Family::V4), 1);
    world.put(web.clone());
    assert_eq!(world.desired.stranded().internal(crate::model::Family::V4), 1);
    world.remove("web");
    assert_eq!(*world.desired.stranded(), Stranded::default());
}
