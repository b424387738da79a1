// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plans that are made while a grace period goes on: what a program may still read is neither
//! taken away nor given to somebody else.

use lb_common::backend::State;
use proptest::{collection::vec, prelude::*};

use super::{
    properties::{check_clean, config},
    *,
};
use crate::{
    model::snapshot::Touched,
    plan::{arbitrary, refs::Broken, view},
};

/// What programs may have in their hands. Each element has the latest moment at which a
/// program may have started that can still come to it.
#[derive(Default)]
struct Readers {
    now: u64,
    /// When the grace period began that goes on.
    begun: Option<u64>,
    /// Every program that started before has ended.
    ended: u64,
    records: HashMap<u32, u64>,
    slots: HashMap<u32, u64>,
    backends: HashMap<u32, u64>,
}

impl Readers {
    fn begin(&mut self) {
        self.now += 1;
        self.begun = Some(self.now);
    }

    fn end(&mut self) {
        self.ended = self.begun.take().expect("a grace period has begun");
    }

    fn may_read(&self, elements: &HashMap<u32, u64>, index: u32) -> bool {
        elements.get(&index).is_some_and(|started| *started >= self.ended)
    }

    /// Programs that start now, and those that go on reading.
    fn look(&mut self, tables: &Tables) {
        self.now += 1;
        for (index, _) in tables.named_services() {
            self.records.insert(index, self.now);
        }
        for (&index, &started) in &self.records {
            let record = tables.services.at(index);
            for set in [record.inside, record.outside] {
                for slot in set.base..set.base + set.count() {
                    raise(&mut self.slots, slot, started);
                }
            }
        }
        for (&slot, &started) in &self.slots {
            raise(&mut self.backends, tables.slots.at(slot).backend, started);
        }
    }

    /// Whether an op changes what nobody may read.
    fn allows(&self, op: &Op) -> bool {
        match op {
            Op::Service { index, .. } => !self.may_read(&self.records, *index),
            Op::Slots { base, slots } => {
                (*base..).zip(slots).all(|(slot, _)| !self.may_read(&self.slots, slot))
            }
            Op::Backend { index, .. } => !self.may_read(&self.backends, *index),
            Op::Life { index, life } => {
                life.state() != State::Dead || !self.may_read(&self.backends, *index)
            }
            _ => true,
        }
    }

    fn execute(&mut self, planner: &mut Planner, ops: &[Op]) -> Result<(), TestCaseError> {
        for (position, op) in ops.iter().enumerate() {
            prop_assert!(self.allows(op), "op {} changes what is in use: {:?}", position, op);
            planner.confirm(std::slice::from_ref(op));
            let broken = planner.tables().check_refs();
            prop_assert_eq!(&broken, &Vec::<Broken>::new(), "after op {}, {:?}", position, op);
            self.look(planner.tables());
        }
        Ok(())
    }
}

fn raise(elements: &mut HashMap<u32, u64>, index: u32, started: u64) {
    let latest = elements.entry(index).or_default();
    *latest = started.max(*latest);
}

fn unused(_: u32) -> u64 {
    0
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_programs_may_still_read_outlives_every_plan_of_a_grace_period(
        steps in vec((arbitrary::snapshot(), any::<bool>(), any::<bool>()), 2..9),
    ) {
        let mut planner = Planner::restore(Tables::default(), Capacities::MINIMUM);
        let mut desired = Desired::default();
        let mut readers = Readers::default();
        for (snapshot, begins, ends) in steps {
            let changed = desired.update(&snapshot, &Touched::All);
            let ops = planner.plan(&desired, &changed, &unused);
            readers.execute(&mut planner, &ops)?;
            prop_assert_eq!(view::of_tables(planner.tables()), view::of_desired(&desired));
            if ends && planner.is_parting() {
                readers.end();
                let ops = planner.take_away();
                readers.execute(&mut planner, &ops)?;
                prop_assert_eq!(view::of_tables(planner.tables()), view::of_desired(&desired));
            }
            if begins && planner.part() {
                readers.begin();
            }
        }
        for _ in 0..3 {
            if planner.is_parting() || planner.part() {
                readers.begun.get_or_insert(readers.now + 1);
                readers.end();
                let ops = planner.take_away();
                readers.execute(&mut planner, &ops)?;
            }
        }
        prop_assert!(!planner.has_leftovers());
        check_clean(planner.tables(), &desired)?;
        let (again, _) = plan(planner.tables(), &desired, &Capacities::MINIMUM, unused);
        prop_assert_eq!(again, vec![], "a restart that finds no change writes nothing");
    }
}
