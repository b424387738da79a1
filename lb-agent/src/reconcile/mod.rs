// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keeps the maps equal to what the cluster says: change, compile, plan, apply, report.
//!
//! ```text
//! Change ─► Snapshot ─► Desired ─► Planner ─► Op, Op, Op ─► Datapath
//!              └──────────── Report ◄───────────┘
//! ```
//!
//! Invariant: one task owns the snapshot, the planner and the maps. An error never stops it:
//! what is served goes on being served, the maps are read again and the difference is
//! planned anew.

pub mod question;
mod task;

use std::collections::BTreeSet;

use lb_common::maps::Capacities;

use crate::{
    datapath::{self, Datapath, Failed, Grace, Growth},
    model::{
        ObjectName,
        change::Change,
        issue::Issue,
        rules::Rules,
        snapshot::{Snapshot, Touched},
    },
    plan::{
        demand::Demand,
        desired::{Changed, Desired},
        diff::Planner,
        difference::{Difference, differences},
        health_checks::HealthChecks,
        held_up::HeldUp,
        left_out::left_out,
        op::Op,
        port::PortName,
        shortage::Ceiling,
        stale::{self, Served},
        stranded::Stranded,
        tables::Tables,
    },
};

pub use task::{DatagramSink, IssueSink, Reports, SkippedSink, run};

/// The cluster, what it means, and the maps that are made equal to it.
#[derive(Debug)]
pub struct Reconciler<D> {
    datapath: D,
    snapshot: Snapshot,
    desired: Desired,
    /// What the maps hold; `None` when that has to be read from them.
    planner: Option<Planner>,
    /// What was compiled and is not planned yet.
    changed: Changed,
    /// What could not be written at the last try, and, while there is no planner, what was
    /// known to find no room.
    held_up: Vec<Issue>,
    /// Whether all else was written at the last try.
    is_partial: bool,
    /// Why the maps are no larger, and the sizes that were wanted then.
    ceiling: (Ceiling, Option<Capacities>),
    health_checks: HealthChecks,
    /// Whether nobody was told of the health checks yet.
    is_unchecked: bool,
    /// UDP service ports that changed since [`Reconciler::take_datagrams`].
    datagrams: BTreeSet<PortName>,
    /// What somebody else did to the maps, since [`Reconciler::take_damage`].
    damage: Vec<Difference>,
    ops: u64,
}

/// Why the maps are not what they should be. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Ops failed.
    #[error("the maps could not be changed; trying again")]
    Apply(#[from] Failed),
    /// The maps could not be read or enlarged, or no grace period came.
    #[error("the maps could not be read; trying again")]
    Dump(#[from] datapath::Error),
}

impl<D: Datapath> Reconciler<D> {
    /// Over maps of which nothing is known yet.
    pub fn new(datapath: D) -> Self {
        Self {
            datapath,
            snapshot: Snapshot::default(),
            desired: Desired::default(),
            planner: None,
            changed: Changed::default(),
            held_up: Vec::new(),
            is_partial: false,
            ceiling: (Ceiling::None, None),
            health_checks: HealthChecks::default(),
            is_unchecked: false,
            datagrams: BTreeSet::new(),
            damage: Vec::new(),
            ops: 0,
        }
    }

    /// Under other rules than the usual ones; before anything is taken up.
    #[must_use]
    pub const fn with_rules(mut self, rules: Rules) -> Self {
        self.snapshot.rules = rules;
        self
    }

    /// Takes up changes and compiles what they touch.
    pub fn take(&mut self, batch: impl IntoIterator<Item = Change>) {
        let mut touched = Touched::default();
        for change in batch {
            touched.merge(self.snapshot.apply(change));
        }
        let changed = self.desired.update(&self.snapshot, &touched);
        self.datagrams.extend(changed.ports.iter().filter(|name| name.is_udp()).cloned());
        self.changed.merge(changed);
        self.is_unchecked |= self.health_checks.update(&self.snapshot, &touched);
    }

    /// What became of each UDP service port that changed since the last call. To be asked for
    /// when it is in the maps (CT-08).
    pub fn take_datagrams(&mut self) -> Vec<stale::Update> {
        let names = std::mem::take(&mut self.datagrams).into_iter();
        names.map(|name| (name.clone(), Served::of(&self.desired, &name))).collect()
    }

    /// Makes the maps equal to what was taken up. Where all is as it should be, nothing is
    /// written.
    ///
    /// # Errors
    /// What was done stays; the next call reads the maps and goes on from there.
    pub fn sync(&mut self) -> Result<(), SyncError> {
        self.make_room()?;
        let changed = std::mem::take(&mut self.changed);
        self.plan_and_execute(&changed)?;
        // What this took away may be the room that something waits for.
        if self.planner.as_ref().is_some_and(Planner::has_retry) {
            return self.plan_and_execute(&Changed::default());
        }
        Ok(())
    }

    fn plan_and_execute(&mut self, changed: &Changed) -> Result<(), SyncError> {
        let Self { datapath, desired, planner, .. } = self;
        let load = |backend| datapath.load(backend);
        let ops = match planner {
            Some(planner) if changed.is_empty() && !planner.has_retry() => return Ok(()),
            Some(planner) => planner.plan(desired, changed, &load),
            None => {
                // What the dump does not name is given away.
                (datapath.grace())()?;
                let tables = datapath.dump()?;
                let mut fresh = Planner::restore(tables, datapath.capacities());
                let load = |backend| datapath.load(backend);
                let ops = fresh.plan_all(desired, &load);
                *planner = Some(fresh);
                ops
            }
        };
        self.execute(&ops)
    }

    /// A grace period to be waited for, on any thread, before [`Reconciler::take_away`]; `None`
    /// if nothing is left over, or one goes on already. Syncs may go on meanwhile.
    pub fn part(&mut self) -> Option<Grace> {
        self.planner.as_mut()?.part().then(|| self.datapath.grace())
    }

    /// Whether a grace period goes on after which something is to be taken away.
    pub fn is_parting(&self) -> bool {
        self.planner.as_ref().is_some_and(Planner::is_parting)
    }

    /// Takes away what nobody used any more when the grace period began that is over now, and
    /// tries again what found no room.
    ///
    /// # Errors
    /// As [`Reconciler::sync`].
    pub fn take_away(&mut self) -> Result<(), SyncError> {
        let ops = self.planner.as_mut().map_or_else(Vec::new, Planner::take_away);
        self.execute(&ops)?;
        if self.planner.as_ref().is_some_and(Planner::has_retry) { self.sync() } else { Ok(()) }
    }

    /// Whether something waits for a grace period, or for the end of one.
    pub fn has_leftovers(&self) -> bool {
        self.planner.as_ref().is_some_and(Planner::has_leftovers)
    }

    /// Reads the maps. If they are not what they should be, somebody else wrote to them, and
    /// the next [`Reconciler::sync`] mends it.
    ///
    /// # Errors
    /// As [`Reconciler::sync`].
    pub fn compare(&mut self) -> Result<(), SyncError> {
        self.ceiling.1 = None;
        if let Some(planner) = &self.planner {
            match self.datapath.dump() {
                Ok(tables) if tables == *planner.tables() => {}
                Ok(tables) => {
                    self.damage.extend(differences(planner.tables(), &tables));
                    self.distrust();
                }
                Err(error) => {
                    self.distrust();
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// What [`Reconciler::compare`] found that somebody else had done to the maps, since the last
    /// call.
    pub fn take_damage(&mut self) -> Vec<Difference> {
        std::mem::take(&mut self.damage)
    }

    /// Reads the maps and says in what they are not what they should be: what the agent wrote
    /// last, or, while it does not know what they hold, what it would write. With it comes what
    /// they hold.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn differences(&mut self) -> Result<(Vec<Difference>, Tables), datapath::Error> {
        let tables = self.datapath.dump()?;
        if let Some(planner) = &self.planner {
            return Ok((differences(planner.tables(), &tables), tables));
        }
        let mut planner = Planner::restore(tables.clone(), self.datapath.capacities());
        let ops = planner.plan_all(&self.desired, &|backend| self.datapath.load(backend));
        let mut wanted = tables.clone();
        for op in &ops {
            wanted.apply(op);
        }
        Ok((differences(&wanted, &tables), tables))
    }

    /// Has the next [`Reconciler::sync`] compare everything with what the maps really hold,
    /// and try again to enlarge them if that failed.
    pub fn distrust(&mut self) {
        let node = self.node();
        let full = self.planner.take();
        self.held_up.extend(full.iter().flat_map(|planner| planner.issues(&node, self.ceiling.0)));
        self.ceiling.1 = None;
    }

    /// What could not be written at the last try, if the rest was: nothing but these service
    /// ports waits for the next try.
    pub fn held_up(&self) -> Option<&[Issue]> {
        self.is_partial.then_some(&self.held_up)
    }

    /// Everything that is ignored or waits for room now.
    pub fn issues(&self) -> Vec<Issue> {
        let node = self.node();
        let found = self.snapshot.issues.values().flatten().chain(&self.held_up).cloned();
        let full = self.planner.iter().flat_map(|planner| planner.issues(&node, self.ceiling.0));
        let mut issues: Vec<_> = found.chain(self.desired.issues()).chain(full).collect();
        issues.sort_unstable();
        issues
    }

    /// The endpoints that a service port does not use, a line each. `local`: of its local set.
    pub fn left_out(&self, name: &PortName, local: bool) -> Vec<String> {
        left_out(&self.snapshot, name, local).iter().map(ToString::to_string).collect()
    }

    /// This node, as an object.
    fn node(&self) -> ObjectName {
        ObjectName::new("", self.snapshot.node.name.clone())
    }

    /// The health-check node ports, if they are others than at the last call.
    pub fn new_health_checks(&mut self) -> Option<&HealthChecks> {
        std::mem::take(&mut self.is_unchecked).then_some(&self.health_checks)
    }

    /// How many service ports a Local policy leaves without endpoints on this node.
    pub const fn stranded(&self) -> &Stranded {
        self.desired.stranded()
    }

    /// The cluster as it was taken up.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What the maps hold, as far as it is known.
    pub const fn planner(&self) -> Option<&Planner> {
        self.planner.as_ref()
    }

    /// The maps.
    pub const fn datapath(&self) -> &D {
        &self.datapath
    }

    /// The maps, for whoever attaches the programs.
    pub const fn datapath_mut(&mut self) -> &mut D {
        &mut self.datapath
    }

    /// The cluster, and the maps for whoever makes the programs follow it.
    pub const fn split(&mut self) -> (&Snapshot, &mut D) {
        (&self.snapshot, &mut self.datapath)
    }

    /// Ops that were executed since the start, graces left out.
    pub const fn ops(&self) -> u64 {
        self.ops
    }

    /// Enlarges the maps before they are more than three quarters full. Where that cannot be,
    /// what fits is served all the same.
    fn make_room(&mut self) -> Result<(), SyncError> {
        let demand = self.desired.demand();
        if !is_tight(&self.datapath.capacities(), demand) {
            self.ceiling = (Ceiling::None, None);
            return Ok(());
        }
        let wanted = demand.capacities();
        if self.ceiling.1 == Some(wanted) {
            return Ok(());
        }
        match self.datapath.grow(&wanted)? {
            Growth::Grown => {
                self.distrust();
                self.ceiling.0 = Ceiling::None;
            }
            Growth::AtLimit => self.ceiling = (Ceiling::Limit, Some(wanted)),
            Growth::Refused => self.ceiling = (Ceiling::Refused, Some(wanted)),
        }
        Ok(())
    }

    fn execute(&mut self, ops: &[Op]) -> Result<(), SyncError> {
        (self.held_up, self.is_partial) = (Vec::new(), false);
        let Err(failed) = self.datapath.apply(ops) else {
            self.confirm(ops);
            return Ok(());
        };
        self.confirm(ops.get(..failed.done).unwrap_or_default());
        let rest = ops.get(failed.done..).and_then(<[_]>::split_first);
        let ops = rest.map_or_else(Vec::new, |(op, rest)| {
            let reason = failed.source.to_string();
            let mut held_up = self.salvage(rest, &reason);
            held_up.insert(0, HeldUp { op: op.clone(), reason });
            held_up
        });
        let planner = self.planner.as_ref();
        let held_up = planner.map(|it| it.held_up(&self.desired, &self.node(), &ops));
        self.distrust();
        let held_up = held_up.unwrap_or_default();
        self.is_partial = !held_up.is_empty() && held_up.len() < self.desired.port_names().count();
        self.held_up.extend(held_up);
        Err(failed.into())
    }

    /// Executes what does not need an op that failed: one that fails at every try must not
    /// hold up the other Services. Nothing is taken away: that needs all of the plan. What
    /// could not be executed is the answer.
    fn salvage(&mut self, ops: &[Op], reason: &str) -> Vec<HeldUp> {
        let mut held_up = Vec::new();
        for op in ops.iter().take_while(|op| op.is_write()) {
            let admitted = self.planner.as_ref().is_some_and(|it| it.tables().admits(op));
            let outcome = admitted.then(|| self.datapath.apply(std::slice::from_ref(op)));
            match outcome {
                Some(Ok(())) => self.confirm(std::slice::from_ref(op)),
                Some(Err(failed)) => {
                    held_up.push(HeldUp { op: op.clone(), reason: failed.source.to_string() });
                }
                None if op.takes_away() => {}
                None => held_up.push(HeldUp { op: op.clone(), reason: reason.to_owned() }),
            }
        }
        held_up
    }

    fn confirm(&mut self, ops: &[Op]) {
        self.ops += ops.iter().filter(|op| op.is_write()).count() as u64;
        if let Some(planner) = &mut self.planner {
            planner.confirm(ops);
        }
    }
}

/// Whether a map would be more than three quarters full. SLOTS counts twice: for a moment
/// the old and the new sets stand side by side.
fn is_tight(have: &Capacities, demand: &Demand) -> bool {
    let tight = |needed: usize, have: u32| needed.saturating_mul(4) > have as usize * 3;
    tight(demand.frontends4.max(demand.frontends6), have.frontends)
        || tight(demand.services, have.services)
        || tight(demand.slots.saturating_mul(2), have.slots)
        || tight(demand.source_ranges, have.source_ranges)
        || tight(demand.backends, have.backends)
        || tight(demand.members, have.members)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
