// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An agent's loop in its barest form, over maps that fail.

use std::collections::BTreeSet;

use lb_agent::{
    datapath::{Datapath as _, fake::Fake},
    model::snapshot::{Snapshot, Touched},
    plan::{
        desired::{Desired, compile},
        diff::{Planner, plan},
        op::Op,
        port::Frontend,
    },
};
use lb_common::maps::Capacities;

/// The maps, and what the agent knows of them.
pub(crate) struct Driver {
    pub(crate) fake: Fake,
    /// The sizes that the agent takes the maps to have.
    pub(crate) believed: Capacities,
    /// Whether a grace period is over only after the next plan.
    pub(crate) overlaps: bool,
    desired: Desired,
    /// `None` after a start and after a failure: the maps are to be read again.
    planner: Option<Planner>,
}

impl Driver {
    pub(crate) fn new(seed: u64) -> Self {
        let fake = Fake::new(seed);
        let believed = fake.capacities();
        Self { fake, believed, overlaps: false, desired: Desired::default(), planner: None }
    }

    /// The agent is started again on the same maps.
    pub(crate) fn restart(&mut self) {
        self.fake.crash_after = None;
        self.planner = None;
        self.desired = Desired::default();
    }

    /// Tries until everything is written, or as often as is allowed; says how often.
    pub(crate) fn converge(&mut self, snapshot: &Snapshot, allowed: usize) -> usize {
        (1..=allowed).find(|_| self.attempt(snapshot)).unwrap_or(allowed)
    }

    /// One try. After it the references hold, whatever failed.
    pub(crate) fn attempt(&mut self, snapshot: &Snapshot) -> bool {
        let done = self.try_once(snapshot);
        assert_eq!(self.fake.tables.check_refs(), vec![]);
        done
    }

    fn try_once(&mut self, snapshot: &Snapshot) -> bool {
        let changed = self.desired.update(snapshot, &Touched::All);
        let loads = self.fake.loads.clone();
        let load = |backend| loads.get(&backend).copied().unwrap_or(0);
        let (mut planner, ops) = if let Some(mut planner) = self.planner.take() {
            let ops = planner.plan(&self.desired, &changed, &load);
            (planner, ops)
        } else {
            if self.fake.grace()().is_err() {
                return false;
            }
            let Ok(tables) = self.fake.dump() else { return false };
            let mut planner = Planner::restore(tables, self.believed);
            let ops = planner.plan_all(&self.desired, &load);
            (planner, ops)
        };
        if !self.execute(&mut planner, &ops) || !self.take_away(&mut planner) {
            return false;
        }
        assert_eq!(planner.tables(), &self.fake.tables, "the planner knows what is in the maps");
        let is_done = !planner.has_leftovers();
        self.planner = Some(planner);
        is_done
    }

    /// Takes away what is left over: at once, or what was when the try before this one ended.
    fn take_away(&mut self, planner: &mut Planner) -> bool {
        let is_over = planner.is_parting() || !self.overlaps;
        if planner.part() && self.fake.grace()().is_err() {
            return false;
        }
        if !is_over {
            return true;
        }
        let leftovers = planner.take_away();
        self.execute(planner, &leftovers)
    }

    /// Executes ops. After one that fails, those that do not need it are executed still.
    fn execute(&mut self, planner: &mut Planner, ops: &[Op]) -> bool {
        let Err(failed) = self.fake.apply(ops) else {
            planner.confirm(ops);
            return true;
        };
        planner.confirm(&ops[..failed.done]);
        let rest = ops[failed.done + 1..].iter().take_while(|op| **op != Op::Grace);
        for op in rest {
            if planner.tables().admits(op) && self.fake.apply(std::slice::from_ref(op)).is_ok() {
                planner.confirm(std::slice::from_ref(op));
            }
        }
        false
    }

    /// Exactly what is desired is served, and nothing is left to write.
    pub(crate) fn check(&self, snapshot: &Snapshot, what: &str) {
        let (desired, _) = compile(snapshot);
        let frontends: BTreeSet<_> = self.fake.tables.frontends().collect();
        assert_eq!(frontends, served(&desired), "{what}");
        let (ops, issues) = plan(&self.fake.tables, &desired, &self.believed, |_| 0);
        assert_eq!((ops, issues), (vec![], vec![]), "{what}");
    }
}

/// The frontends that somebody has.
pub(crate) fn served(desired: &Desired) -> BTreeSet<Frontend> {
    desired.frontends().copied().collect()
}
