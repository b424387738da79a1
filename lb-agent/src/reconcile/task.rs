// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loop around a [`Reconciler`]: when to sync, when to retire, when to try again, and
//! what to tell.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use lb_common::maps;
use tokio::{
    sync::{mpsc, watch},
    task::{self, JoinHandle},
    time::{self, Instant as Deadline},
};

use self::devices::Follower;
use super::{Reconciler, SyncError, question::Question};
use crate::{
    datapath::{self, Datapath, load::Skipped},
    model::{change::Change, issue::Issue, local_ports::LocalPorts},
    observe::{
        backlog::Backlog,
        health::Pulse,
        metrics::{Fill, SyncMetrics},
    },
    plan::{difference::Difference, health_checks::HealthChecks, stale},
    pods::Ends,
    source::chain,
};

mod devices;

/// Whom the loop tells how it fares.
pub struct Reports {
    /// Health.
    pub pulse: watch::Sender<Pulse>,
    /// Metrics.
    pub metrics: SyncMetrics,
    /// What waits, for kube-proxy's metrics.
    pub backlog: Backlog,
    /// How full the maps are.
    pub fills: watch::Sender<Vec<Fill>>,
    /// Health-check node ports, whenever they change.
    pub health_checks: watch::Sender<HealthChecks>,
    /// What others than the loop cannot do now.
    pub found: watch::Receiver<Vec<Issue>>,
    /// What there is to say of FLOWS.
    pub flows: watch::Receiver<Vec<Issue>>,
    /// The ports that the kernel gives to programs.
    pub local_ports: watch::Receiver<LocalPorts>,
    /// What somebody wants to know of the cluster.
    pub questions: mpsc::Receiver<Question>,
    /// Called with what is ignored, whenever that changes.
    pub issues: IssueSink,
    /// Called with the devices that are served without XDP although it was asked for, whenever
    /// that changes.
    pub skipped: SkippedSink,
    /// Called with the UDP service ports that changed, when they are in the maps and the
    /// programs run.
    pub datagrams: DatagramSink,
}

/// Takes the whole list of what is ignored.
pub type IssueSink = Box<dyn FnMut(&[Issue]) + Send>;

/// Takes the whole list of devices without XDP.
pub type SkippedSink = Box<dyn FnMut(&[Skipped]) + Send>;

/// Takes what became of UDP service ports. Must not block.
pub type DatagramSink = Box<dyn FnMut(Vec<stale::Update>) + Send>;

/// When things are due, and what was told last.
struct Loop {
    reports: Reports,
    /// When the oldest change came that is not in the maps yet.
    pending: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    retry: Option<Deadline>,
    /// Changes that come after a failure wait until then: each makes all be read again.
    hold: Option<Deadline>,
    retire: Option<Deadline>,
    /// The latest moment for the next retirement, however busy it is.
    retire_limit: Option<Deadline>,
    /// The grace period that goes on, on a thread of its own.
    grace: Option<JoinHandle<Result<(), datapath::Error>>>,
    report: Option<Deadline>,
    resync: Deadline,
    /// What is ignored, as it was last told; `None` before the first time.
    known: Option<BTreeSet<Issue>>,
    /// NodePorts that programs may be given, as far as the maps were known last.
    given: Option<Issue>,
    writes: u64,
    attached: bool,
    /// Where packets are translated.
    devices: Follower,
}

/// What woke the loop.
enum Wake {
    Changes(Option<Vec<Change>>),
    Retry,
    Retire,
    Grace(Result<(), datapath::Error>),
    Report,
    Question(Question),
    Resync,
}

/// Runs until the source ends. `attach` is called when the first list is in the maps, since
/// programs that are new must not run before; and again, at every sync, until it succeeds.
pub async fn run<D: Datapath>(
    mut reconciler: Reconciler<D>,
    mut changes: mpsc::Receiver<Vec<Change>>,
    (reports, pods): (Reports, Ends),
    mut attach: impl FnMut(&mut D) -> Result<(), String>,
) {
    let mut this = Loop::new(reports, pods);
    loop {
        match this.wait(&mut changes).await {
            Wake::Changes(None) => return,
            Wake::Changes(Some(batch)) => {
                this.queue(&batch, &reconciler);
                reconciler.take(batch);
                this.sync(&mut reconciler);
            }
            Wake::Retry => this.sync(&mut reconciler),
            Wake::Retire => this.retire(&mut reconciler),
            Wake::Grace(outcome) => this.take_away(&mut reconciler, outcome),
            Wake::Report => this.report(&reconciler),
            Wake::Question(question) => {
                if question.wants_repair() {
                    this.resync = Deadline::now();
                }
                question.answer(&mut reconciler);
            }
            Wake::Resync => {
                this.resync = Deadline::now() + RESYNC;
                this.devices.doubt();
                this.resync(&mut reconciler);
            }
        }
        this.attach(&mut reconciler, &mut attach);
        this.follow(&mut reconciler);
        this.tell_datagrams(&mut reconciler);
    }
}

impl Loop {
    fn new(reports: Reports, devices: Ends) -> Self {
        Self {
            reports,
            pending: None,
            failures: 0,
            retry: None,
            hold: None,
            retire: None,
            retire_limit: None,
            grace: None,
            report: None,
            resync: Deadline::now() + RESYNC,
            known: None,
            given: None,
            writes: 0,
            attached: false,
            devices: Follower::new(devices),
        }
    }

    /// Changes go before everything else, so that a busy cluster is served first; all but
    /// leftovers that have waited too long. After a failure they go on nearly as before: what
    /// fails at every try must not hold up the rest.
    async fn wait(&mut self, changes: &mut mpsc::Receiver<Vec<Change>>) -> Wake {
        tokio::select! {
            biased;
            () = at(self.retire_limit) => Wake::Retire,
            outcome = ended(&mut self.grace) => Wake::Grace(outcome),
            batch = next(self.hold, changes) => Wake::Changes(batch),
            () = at(self.retry) => Wake::Retry,
            () = at(self.retire) => Wake::Retire,
            () = self.devices.moved() => Wake::Report,
            () = at(self.report) => Wake::Report,
            () = changed(&mut self.reports.found) => Wake::Report,
            () = changed(&mut self.reports.flows) => Wake::Report,
            () = changed(&mut self.reports.local_ports) => Wake::Report,
            Some(question) = self.reports.questions.recv() => Wake::Question(question),
            () = at(Some(self.resync)) => Wake::Resync,
        }
    }

    /// Notes that changes came and wait.
    fn queue<D: Datapath>(&mut self, batch: &[Change], reconciler: &Reconciler<D>) {
        let pending = *self.pending.get_or_insert_with(Instant::now);
        self.reports.backlog.queue(batch, reconciler.snapshot());
        self.reports.pulse.send_modify(|pulse| {
            pulse.listed = true;
            pulse.oldest_pending = Some(pending);
        });
    }

    fn sync<D: Datapath>(&mut self, reconciler: &mut Reconciler<D>) {
        let is_full = reconciler.planner().is_none();
        self.sync_since(Instant::now(), is_full, reconciler);
    }

    /// Compares the maps with what they should hold. A look at them is enough as long as
    /// nobody else writes to them.
    fn resync<D: Datapath>(&mut self, reconciler: &mut Reconciler<D>) {
        let started = Instant::now();
        match reconciler.compare() {
            Ok(()) => {
                self.tell_damage(&reconciler.take_damage());
                self.sync_since(started, true, reconciler);
            }
            Err(error) => {
                self.reports.backlog.sync_failed();
                self.settle(Err(error), reconciler, started);
            }
        }
    }

    /// Tells what somebody else did to the maps, which the next sync mends.
    fn tell_damage(&self, damage: &[Difference]) {
        for difference in damage {
            self.reports.metrics.repaired.get_or_create(&[("map", difference.map)]).inc();
        }
        for Difference { map, object, problem } in damage.iter().take(MOST_DAMAGE) {
            tracing::warn!(map, object, problem, "somebody else wrote to the maps; repairing");
        }
        if let Some(more) = damage.len().checked_sub(MOST_DAMAGE).filter(|more| *more > 0) {
            tracing::warn!(more, "somebody else wrote to the maps; repairing");
        }
    }

    fn sync_since<D: Datapath>(
        &mut self,
        started: Instant,
        full: bool,
        reconciler: &mut Reconciler<D>,
    ) {
        let result = reconciler.sync();
        match &result {
            Ok(()) => self.reports.backlog.synced(started.elapsed(), full, SystemTime::now()),
            Err(_) => self.reports.backlog.sync_failed(),
        }
        let in_force = result.is_ok() || reconciler.held_up().is_some();
        if in_force && let Some(checks) = reconciler.new_health_checks() {
            self.reports.health_checks.send_replace(checks.clone());
        }
        self.settle(result, reconciler, started);
    }

    /// Begins a grace period for what is left over, unless one goes on: then what is left over
    /// by now waits for the next.
    fn retire<D: Datapath>(&mut self, reconciler: &mut Reconciler<D>) {
        (self.retire, self.retire_limit) = (None, None);
        if self.grace.is_none() {
            self.grace = reconciler.part().map(task::spawn_blocking);
        }
    }

    /// A grace period is over. If all was read again meanwhile, it was not for what is left
    /// over now.
    fn take_away<D: Datapath>(
        &mut self,
        reconciler: &mut Reconciler<D>,
        outcome: Result<(), datapath::Error>,
    ) {
        self.grace = None;
        if !reconciler.is_parting() {
            return self.retire(reconciler);
        }
        let started = Instant::now();
        let result = match outcome {
            Ok(()) => reconciler.take_away(),
            Err(error) => {
                reconciler.distrust();
                Err(error.into())
            }
        };
        if result.is_err() {
            self.reports.backlog.cleanup_failed();
        }
        self.settle(result, reconciler, started);
    }

    /// Notes how a sync went, and when what follows from it is due.
    fn settle<D: Datapath>(
        &mut self,
        result: Result<(), SyncError>,
        reconciler: &Reconciler<D>,
        started: Instant,
    ) {
        let now = Deadline::now();
        self.report.get_or_insert(now + REPORT);
        let writes = reconciler.datapath().writes();
        let written = writes.saturating_sub(std::mem::replace(&mut self.writes, writes));
        match result {
            Ok(()) => {
                self.reports.metrics.observe(started.elapsed(), written);
                (self.failures, self.retry, self.hold, self.pending) = (0, None, None, None);
                if reconciler.has_leftovers() {
                    self.retire = Some(now + QUIET);
                    self.retire_limit.get_or_insert(now + BUSY);
                }
            }
            Err(error) => {
                self.failures += 1;
                self.reports.metrics.failures.inc();
                let delay = backoff(self.failures);
                tracing::error!(error = chain(&error), retry_in = ?delay, "sync failed");
                (self.retry, self.hold) = (Some(now + delay), Some(now + delay.min(HOLD)));
                if reconciler.held_up().is_some() {
                    self.pending = None;
                }
            }
        }
        let (pending, synced) = (self.pending, self.failures == 0);
        let held_up = reconciler
            .held_up()
            .map_or_else(Vec::new, |issues| issues.iter().map(ToString::to_string).collect());
        self.reports.pulse.send_modify(|pulse| {
            pulse.oldest_pending = pending;
            pulse.held_up = held_up;
            pulse.node_ineligible = !reconciler.snapshot().node.eligible;
            if synced {
                pulse.last_applied = Some(SystemTime::now());
            }
        });
    }

    /// Attaches the programs after the first sync that succeeded, and again until it works.
    /// A sync that wrote all but what fails at every try is as good: after some tries, since
    /// other programs may run that still serve what failed by chance.
    fn attach<D: Datapath>(
        &mut self,
        reconciler: &mut Reconciler<D>,
        attach: &mut impl FnMut(&mut D) -> Result<(), String>,
    ) {
        let listed = self.reports.pulse.borrow().listed;
        let is_partial = reconciler.held_up().is_some() && self.failures >= TRIES;
        if self.attached || !listed || (self.failures > 0 && !is_partial) {
            return;
        }
        let outcome = attach(reconciler.datapath_mut());
        // The self-test's writes are not the cluster's.
        self.writes = reconciler.datapath().writes();
        self.attached = outcome.is_ok();
        self.report(reconciler);
        self.reports.pulse.send_modify(|pulse| {
            if let Err(reason) = &outcome
                && pulse.self_test != Some(outcome.clone())
            {
                tracing::error!(reason, "sockets on this node are not balanced");
            }
            pulse.applied = true;
            pulse.self_test = Some(outcome);
        });
    }

    /// Serves clients through the devices that there are now.
    fn follow<D: Datapath>(&mut self, reconciler: &mut Reconciler<D>) {
        if !self.attached {
            return;
        }
        let (snapshot, datapath) = reconciler.split();
        self.devices.follow(snapshot, datapath);
        // Its writes are not the cluster's.
        self.writes = datapath.writes();
        if self.devices.tell(datapath.skipped(), &mut self.reports) {
            self.report.get_or_insert(Deadline::now() + REPORT);
        }
    }

    /// Tells what became of UDP service ports, once new sockets get it (CT-08).
    fn tell_datagrams<D: Datapath>(&mut self, reconciler: &mut Reconciler<D>) {
        if self.attached && self.failures == 0 {
            let updates = reconciler.take_datagrams();
            if !updates.is_empty() {
                (self.reports.datagrams)(updates);
            }
        }
    }

    /// Tells what is ignored and how full the maps are. Not part of a sync: it costs by the
    /// number of issues.
    fn report<D: Datapath>(&mut self, reconciler: &Reconciler<D>) {
        self.report = None;
        if let Some(planner) = reconciler.planner() {
            let usage = planner.usage().into_iter().map(|usage| Fill {
                map: usage.map,
                used: usage.used as u64,
                capacity: usage.capacity.into(),
                waiting: usage.waiting as u64,
            });
            let usage: Vec<_> = usage.collect();
            let used = |map| {
                let fill = usage.iter().find(|fill| fill.map == map);
                fill.map_or(0, |fill| i64::try_from(fill.used).unwrap_or(i64::MAX))
            };
            self.reports.metrics.services.set(used(maps::NAMES));
            self.reports.metrics.backends.set(used(maps::BACKENDS));
            self.reports.fills.send_replace(usage);
            let local_ports = self.reports.local_ports.borrow_and_update();
            let node_ports = planner.tables().node_ports.keys().map(|it| maps::node_port_of(*it));
            self.given = local_ports.issue(&reconciler.node(), node_ports);
        }
        self.reports.backlog.set_stranded(reconciler.stranded());
        let found = self.reports.found.borrow_and_update().clone();
        let found = found.into_iter().chain(self.reports.flows.borrow_and_update().clone());
        let issues = reconciler.issues().into_iter().chain(found).chain(self.given.clone());
        let issues = issues.chain(self.devices.issues(&reconciler.node()));
        let issues: BTreeSet<_> = issues.collect();
        self.reports.metrics.issues.set(i64::try_from(issues.len()).unwrap_or(i64::MAX));
        if self.known.as_ref() == Some(&issues) {
            return;
        }
        let known = self.known.take().unwrap_or_default();
        for issue in issues.difference(&known) {
            tracing::warn!(%issue, "ignored");
        }
        for issue in known.difference(&issues) {
            tracing::info!(%issue, "no longer ignored");
        }
        let list: Vec<_> = issues.iter().cloned().collect();
        (self.reports.issues)(&list);
        self.known = Some(issues);
    }
}

/// The next changes, not before a moment.
async fn next(
    hold: Option<Deadline>,
    changes: &mut mpsc::Receiver<Vec<Change>>,
) -> Option<Vec<Change>> {
    if let Some(hold) = hold {
        time::sleep_until(hold).await;
    }
    changes.recv().await
}

/// The end of a grace period; never, if none goes on.
async fn ended(
    grace: &mut Option<JoinHandle<Result<(), datapath::Error>>>,
) -> Result<(), datapath::Error> {
    let Some(grace) = grace else { return std::future::pending().await };
    grace.await.unwrap_or_else(|error| Err(datapath::Error::Grace { source: error.into() }))
}

/// Never, if nobody is left to change it.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Never, if there is no deadline.
async fn at(deadline: Option<Deadline>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// 100 ms, doubled with every failure in a row, 10 s at most.
fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(7);
    (Duration::from_millis(100) * 2_u32.pow(doublings)).min(Duration::from_secs(10))
}

/// Leftovers are taken away when no change came for so long: one grace period is enough for
/// all that a rollout leaves over.
const QUIET: Duration = Duration::from_millis(50);
/// Leftovers are taken away after so long whatever happens.
const BUSY: Duration = Duration::from_secs(1);
/// After a failure the next change waits so long.
const HOLD: Duration = Duration::from_millis(200);
/// The first list is as good as written when this many tries left the same few out.
const TRIES: u32 = 3;
/// What is ignored is told so long after a sync.
const REPORT: Duration = Duration::from_millis(500);
/// So many repairs of one comparison are logged one by one.
const MOST_DAMAGE: usize = 10;
/// The maps are read and compared with what is desired this often, however busy it is:
/// somebody else may have changed them (SYN-06).
const RESYNC: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
