// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::Arc;

use lb_common::{
    affinity::{AffinityKey, Member},
    maps::Capacities,
    translate::{Client, Destination, Scope, ServiceView, translate},
    verdict::Verdict,
};

use super::*;
use crate::{
    model::snapshot::Snapshot,
    plan::{
        desired::compile,
        diff::plan,
        fixture::{endpoint, service, slice},
        lookup::Playground,
        port::Frontend,
    },
};

/// `default/web` at 10.96.0.1:80 with two backends and affinity.
fn sound() -> Tables {
    let mut web = service("web", &["10.96.0.1"], &["http=80"]);
    web.affinity_secs = Some(60);
    let slice = slice("a", &["http=8080"], vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    let mut snapshot = Snapshot::default();
    let slices = snapshot.slices.entry(web.name.clone()).or_default();
    slices.insert(Arc::new(slice));
    snapshot.services.insert(web.name.clone(), Arc::new(web));
    let mut tables = Tables::default();
    for op in plan(&Tables::default(), &compile(&snapshot).0, &Capacities::MINIMUM, |_| 0).0 {
        assert!(tables.admits(&op));
        tables.apply(&op);
    }
    assert_eq!(tables.check_refs(), vec![]);
    tables
}

fn broken(damage: impl FnOnce(&mut Tables)) -> Vec<Broken> {
    let mut tables = sound();
    damage(&mut tables);
    let mut broken = tables.check_refs();
    broken.sort();
    broken.dedup();
    broken
}

fn frontend(tables: &Tables) -> Frontend {
    tables.frontends().next().unwrap()
}

#[test]
fn every_broken_reference_is_found() {
    let redirect = |tables: &mut Tables, service| {
        let frontend = frontend(tables);
        tables.apply(&frontend.op(Some(frontend.value(service))));
    };
    assert_eq!(broken(|tables| redirect(tables, 0)), [Broken::Service { service: 0 }]);
    assert_eq!(broken(|tables| redirect(tables, 9)), [Broken::Service { service: 9 }]);
    let retag = |tables: &mut Tables| {
        tables.frontends4.values_mut().for_each(|value| value.tag += 1);
    };
    assert_eq!(broken(retag), [Broken::Tag { map: maps::FRONTENDS4, service: 1 }]);
    let free = |tables: &mut Tables| {
        let record = tables.services.at(1);
        tables.services.put(1, Service { flags: ServiceFlags::FREE.bits(), ..record });
    };
    assert_eq!(broken(free), [Broken::Service { service: 1 }]);
    let die = |tables: &mut Tables| {
        let Backend { mut life, .. } = tables.backends.at(2);
        life.state = State::Dead as u8;
        tables.apply(&Op::Life { index: 2, life });
    };
    let slot = Broken::Slot { service: 1, slot: 1, backend: 2 };
    assert_eq!(broken(die), [slot, Broken::Member { id: 1, backend: 2 }]);
    let stranger = |tables: &mut Tables| {
        let record = tables.services.at(1);
        let key = MemberKey { service_id: record.id, backend: 2 };
        tables.apply(&Op::Member { key, member: None });
    };
    assert_eq!(broken(stranger), [Broken::NotMember { id: 1, backend: 2 }]);
    let nameless = |tables: &mut Tables| tables.names.clear();
    let members = [1, 2].map(|backend| Broken::Member { id: 1, backend });
    assert_eq!(broken(nameless), [vec![Broken::Name { id: 1 }], members.to_vec()].concat());
}

#[test]
fn what_would_break_a_reference_is_not_admitted() {
    let tables = sound();
    let set = SetWord::new(1, 2, lb_common::service::Algorithm::Random).unwrap();
    let (frontend, record) = (frontend(&tables), tables.services.at(1));
    let key = MemberKey { service_id: record.id, backend: 1 };
    let mut dead = tables.backends.at(1).life;
    dead.state = State::Dead as u8;
    let lesser = Member { inside: 0, ..tables.members[&key] };
    let breaking = [
        frontend.op(Some(frontend.value(7))),
        Op::Inside { index: 1, set },
        Op::Outside { index: 1, set },
        Op::Slots { base: 9, slots: [Slot { backend: 9, ..Slot::default() }].into() },
        Op::Life { index: 1, life: dead },
        Op::Member { key, member: Some(lesser) },
        Op::Member { key, member: None },
        Op::Member { key: MemberKey { service_id: 8, ..key }, member: Some(lesser) },
        Op::Name { id: 1, text: None },
        Op::Service { index: 2, record: Box::new(Service { id: 5, ..record }) },
        Op::Grace,
    ];
    for op in breaking {
        assert!(!tables.admits(&op), "{op:?}");
    }
    let harmless = [
        frontend.op(None),
        frontend.op(Some(frontend.value(1))),
        Op::Inside { index: 1, set: SetWord::REFUSE },
        Op::Service { index: 2, record: Box::new(record) },
    ];
    for op in harmless {
        assert!(tables.admits(&op), "{op:?}");
    }
}

/// A pod whose entropy is given.
struct Pod(u32);

impl Client for Pod {
    fn scope(&self) -> Scope {
        Scope::Inside
    }
    fn on_host(&self) -> bool {
        false
    }
    fn identity(&self) -> Addr {
        AffinityKey::namespace(1)
    }
    fn comes_from(&self, _: bool, test: impl Fn(Addr) -> bool) -> bool {
        test(std::net::Ipv4Addr::new(10, 0, 0, 77).into())
    }
    fn entropy(&self, _: &ServiceView) -> u32 {
        self.0
    }
    fn now_ns(&self) -> u64 {
        1
    }
}

#[test]
fn aff_03_tables_decide_as_the_programs_do_and_only_a_playground_keeps_pins() {
    let tables = sound();
    let Frontend::V4(key) = frontend(&tables) else { panic!("not IPv4") };
    let address = |verdict| match verdict {
        Verdict::Translate(target, _) => target.address.to_string(),
        other => panic!("not translated: {other:?}"),
    };
    let destination = Destination::V4(key);
    assert_eq!(address(translate(&tables, &Pod(0), &destination)), "10.0.0.1");
    assert_eq!(address(translate(&tables, &Pod(u32::MAX), &destination)), "10.0.0.2");
    let playground = Playground::new(&tables);
    assert_eq!(address(translate(&playground, &Pod(0), &destination)), "10.0.0.1");
    assert_eq!(address(translate(&playground, &Pod(u32::MAX), &destination)), "10.0.0.1");
    assert_eq!(playground.pins.borrow().len(), 1);
}
