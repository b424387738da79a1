// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loop's timing, on a clock that stands still until everybody waits.

use std::sync::{Arc, Mutex, MutexGuard};

use lb_common::maps::Capacities;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    datapath::{Error, Failed, fake::Fake},
    model::{ObjectName, change::Object},
    plan::{op::Op, tables::Tables},
    reconcile::tests::cluster,
};

/// Maps that the test sees too.
#[derive(Clone)]
struct Shared(Arc<Mutex<Fake>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Fake> {
        self.0.lock().unwrap()
    }
}

impl Datapath for Shared {
    fn capacities(&self) -> Capacities {
        self.lock().capacities()
    }
    fn dump(&mut self) -> Result<Tables, Error> {
        self.lock().dump()
    }
    fn apply(&mut self, ops: &[Op]) -> Result<(), Failed> {
        self.lock().apply(ops)
    }
    fn load(&self, backend: u32) -> u64 {
        self.lock().load(backend)
    }
    fn writes(&self) -> u64 {
        self.lock().writes()
    }
    fn grow(&mut self, wanted: &Capacities) -> Result<bool, Error> {
        self.lock().grow(wanted)
    }
}

/// A loop at work.
struct Bed {
    maps: Shared,
    changes: mpsc::Sender<Vec<Change>>,
    pulse: watch::Receiver<Pulse>,
    metrics: SyncMetrics,
    attached: Arc<Mutex<u32>>,
    task: JoinHandle<()>,
}

impl Bed {
    /// `unattachable`: how often attaching fails.
    fn start(fake: Fake, unattachable: u32) -> Self {
        let maps = Shared(Arc::new(Mutex::new(fake)));
        let (changes, receiver) = mpsc::channel(1);
        let (sender, pulse) = watch::channel(Pulse::default());
        let metrics = SyncMetrics::default();
        let reports = Reports {
            pulse: sender,
            metrics: metrics.clone(),
            fills: watch::channel(Vec::new()).0,
            issues: Box::new(|_| {}),
        };
        let attached = Arc::new(Mutex::new(0));
        let tries = attached.clone();
        let attach = move |_: &mut Shared| {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            if *tries > unattachable { Ok(()) } else { Err("not yet".to_owned()) }
        };
        let reconciler = Reconciler::new(maps.clone());
        let task = tokio::spawn(run(reconciler, receiver, reports, attach));
        Self { maps, changes, pulse, metrics, attached, task }
    }

    async fn send(&self, changes: Vec<Change>) {
        self.changes.send(changes).await.unwrap();
        pass(1).await;
    }

    fn frontends(&self) -> usize {
        self.maps.lock().tables.frontends4.len()
    }

    fn names(&self) -> usize {
        self.maps.lock().tables.names.len()
    }
}

/// Lets so many milliseconds pass.
async fn pass(milliseconds: u64) {
    time::sleep(Duration::from_millis(milliseconds)).await;
}

fn gone(number: u8) -> Change {
    Change::Service(Object::gone(ObjectName::new("default", format!("web-{number}"))))
}

#[tokio::test(start_paused = true)]
async fn syn_01_nothing_is_written_or_attached_before_the_first_list_and_then_it_is_ready() {
    let bed = Bed::start(Fake::new(1), 0);
    pass(100_000).await;
    assert_eq!((bed.maps.lock().writes, *bed.attached.lock().unwrap()), (0, 0));
    assert!(!bed.pulse.borrow().applied);
    bed.send(cluster(3, 2)).await;
    assert_eq!(bed.frontends(), 3);
    let pulse = bed.pulse.borrow().clone();
    assert!(pulse.listed && pulse.applied && pulse.self_test == Some(Ok(())));
    assert_eq!((pulse.oldest_pending, *bed.attached.lock().unwrap()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn leftovers_go_when_it_is_quiet_and_at_the_latest_after_a_second() {
    let bed = Bed::start(Fake::new(1), 0);
    bed.send(cluster(3, 2)).await;
    bed.send(vec![gone(1)]).await;
    assert_eq!((bed.frontends(), bed.names()), (2, 3), "the name waits for a grace period");
    pass(60).await;
    assert_eq!(bed.names(), 2);
    bed.send(vec![gone(2)]).await;
    for round in 0..60_u8 {
        bed.send(vec![super::super::tests::slice(3, round % 5)]).await;
        pass(20).await;
    }
    assert_eq!(bed.names(), 1, "changes never paused");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_without_a_change_and_is_pending_until_then() {
    let bed = Bed::start(Fake::new(1), 0);
    bed.send(cluster(2, 2)).await;
    bed.maps.lock().refused = vec![Op::Name { id: 3, text: Some("default/web-3:http/TCP".into()) }];
    bed.send(cluster(3, 2)).await;
    pass(3_000).await;
    assert_eq!(bed.frontends(), 2);
    assert!(bed.pulse.borrow().oldest_pending.is_some());
    let failures = bed.metrics.failures.get();
    assert!((3..10).contains(&failures), "{failures} tries in 3 s");
    bed.maps.lock().refused.clear();
    pass(10_000).await;
    assert_eq!(bed.frontends(), 3);
    assert_eq!(bed.pulse.borrow().oldest_pending, None);
}

#[tokio::test(start_paused = true)]
async fn syn_06_what_others_break_is_mended_even_if_changes_never_pause() {
    let bed = Bed::start(Fake::new(1), 0);
    bed.send(cluster(3, 2)).await;
    bed.maps.lock().tables.frontends4.clear();
    for round in 0..40_u8 {
        bed.send(vec![super::super::tests::slice(3, round % 5)]).await;
        pass(1_000).await;
    }
    assert_eq!(bed.frontends(), 3);
    assert_eq!(bed.maps.lock().tables.check_refs(), Vec::new());
}

#[tokio::test(start_paused = true)]
async fn a_comparison_that_finds_no_difference_writes_nothing() {
    let bed = Bed::start(Fake::new(1), 0);
    bed.send(cluster(3, 2)).await;
    pass(1_000).await;
    let writes = bed.maps.lock().writes;
    pass(300_000).await;
    assert_eq!(bed.maps.lock().writes, writes);
}

#[tokio::test(start_paused = true)]
async fn attaching_is_tried_until_it_works_and_the_end_of_the_source_is_the_end() {
    let bed = Bed::start(Fake::new(1), 2);
    bed.send(cluster(1, 1)).await;
    assert_eq!(bed.pulse.borrow().self_test, Some(Err("not yet".to_owned())));
    pass(120_000).await;
    assert_eq!(bed.pulse.borrow().self_test, Some(Ok(())));
    assert_eq!(*bed.attached.lock().unwrap(), 3);
    drop(bed.changes);
    bed.task.await.unwrap();
}
