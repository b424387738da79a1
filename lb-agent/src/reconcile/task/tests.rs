// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loop's timing, on a clock that stands still until everybody waits.

use std::sync::{Arc, Mutex, MutexGuard};

use lb_common::{maps::Capacities, protocol::Protocol};
use tokio::task::JoinHandle;

use super::*;
use crate::{
    datapath::{
        Error, Failed, Grace, Growth, Own,
        fake::Fake,
        load::{Devices, LoadError},
    },
    model::{
        ObjectName,
        change::Object,
        local_ports::LocalPorts,
        pod::{Mark, Pod},
        uplinks::Uplinks,
    },
    observe::{health::Health, metrics::ProxyMetrics},
    plan::{op::Op, tables::Tables},
    reconcile::tests::{cluster, service, slice},
};

/// Maps that the test sees too.
#[derive(Clone)]
struct Shared {
    fake: Arc<Mutex<Fake>>,
    /// The next grace period lasts until something comes here.
    gate: Arc<Mutex<Option<std::sync::mpsc::Receiver<()>>>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Fake> {
        self.fake.lock().unwrap()
    }
}

impl Datapath for Shared {
    fn capacities(&self) -> Capacities {
        self.lock().capacities()
    }
    fn dump(&mut self) -> Result<Tables, Error> {
        self.lock().dump()
    }
    fn grace(&mut self) -> Grace {
        let wait = self.lock().grace();
        let gate = self.gate.lock().unwrap().take();
        Box::new(move || {
            if let Some(gate) = gate {
                gate.recv().unwrap();
            }
            wait()
        })
    }
    fn apply(&mut self, ops: &[Op]) -> Result<(), Failed> {
        self.lock().apply(ops)
    }
    fn set_devices(
        &mut self,
        uplinks: &Devices,
        pods: &Devices,
        own: Own,
    ) -> Result<Vec<LoadError>, LoadError> {
        self.lock().set_devices(uplinks, pods, own)
    }

    fn set_pod_devices(&mut self, devices: &BTreeSet<u32>) -> Result<(), Error> {
        self.lock().set_pod_devices(devices)
    }

    fn set_bypass(&mut self, namespaces: &BTreeSet<u64>) -> Result<(), Error> {
        self.lock().set_bypass(namespaces)
    }
    fn load(&self, backend: u32) -> u64 {
        self.lock().load(backend)
    }
    fn writes(&self) -> u64 {
        self.lock().writes()
    }
    fn grow(&mut self, wanted: &Capacities) -> Result<Growth, Error> {
        self.lock().grow(wanted)
    }
}

/// A loop at work.
struct Bed {
    finder: watch::Sender<Vec<Issue>>,
    maps: Shared,
    changes: mpsc::Sender<Vec<Change>>,
    pulse: watch::Receiver<Pulse>,
    metrics: SyncMetrics,
    attached: Arc<Mutex<u32>>,
    /// What was last told to be ignored.
    issues: Arc<Mutex<Vec<String>>>,
    /// UDP service ports that were told of, by batch.
    datagrams: Arc<Mutex<Vec<usize>>>,
    task: JoinHandle<()>,
}

impl Bed {
    /// `unattachable`: how often attaching fails.
    fn start(fake: Fake, unattachable: u32) -> Self {
        let maps = Shared { fake: Arc::new(Mutex::new(fake)), gate: Arc::default() };
        let (changes, receiver) = mpsc::channel(1);
        let (sender, pulse) = watch::channel(Pulse::default());
        let metrics = SyncMetrics::default();
        let issues = Arc::new(Mutex::new(Vec::new()));
        let told = issues.clone();
        let (finder, found) = watch::channel(Vec::new());
        let (_, local_ports) = watch::channel(LocalPorts::default());
        let datagrams = Arc::new(Mutex::new(Vec::new()));
        let udp = datagrams.clone();
        let reports = Reports {
            pulse: sender,
            metrics: metrics.clone(),
            backlog: Backlog::new(ProxyMetrics::default(), SystemTime::UNIX_EPOCH),
            fills: watch::channel(Vec::new()).0,
            health_checks: watch::channel(HealthChecks::default()).0,
            found,
            flows: watch::channel(Vec::new()).1,
            local_ports,
            questions: mpsc::channel(1).1,
            issues: Box::new(move |issues| {
                *told.lock().unwrap() = issues.iter().map(ToString::to_string).collect();
            }),
            skipped: Box::new(|_| {}),
            datagrams: Box::new(move |updates| udp.lock().unwrap().push(updates.len())),
        };
        // Nobody looks for pods: there are none.
        let (_, pods) = crate::pods::finder(std::path::PathBuf::new(), std::path::PathBuf::new());
        let attached = Arc::new(Mutex::new(0));
        let tries = attached.clone();
        let attach = move |_: &mut Shared| {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            if *tries > unattachable { Ok(()) } else { Err("not yet".to_owned()) }
        };
        let reconciler = Reconciler::new(maps.clone());
        let task = tokio::spawn(run(reconciler, receiver, (reports, pods), attach));
        Self { finder, maps, changes, pulse, metrics, attached, issues, datagrams, task }
    }

    async fn send(&self, changes: Vec<Change>) {
        self.changes.send(changes).await.unwrap();
        pass(1).await;
    }

    /// Waits for real time to bring something about.
    async fn until(&self, is_so: impl Fn(&Self) -> bool, what: &str) {
        for _ in 0..2_000 {
            if is_so(self) {
                return;
            }
            pass(1).await;
        }
        panic!("{what}");
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

/// CT-08: sockets are disconnected when new ones get what is new: not before the programs
/// run, nor while a change is not in the maps.
#[tokio::test(start_paused = true)]
async fn ct_08_udp_ports_are_told_when_they_are_in_the_maps() {
    let bed = Bed::start(Fake::new(1), 1);
    let told = || bed.datagrams.lock().unwrap().clone();
    let [before, after] = [1, 2].map(dns);
    bed.send(before).await;
    assert_eq!(told(), [0; 0], "attaching failed");
    pass(60_000).await;
    assert_eq!(told(), [1]);
    bed.maps.lock().faults_percent = 100;
    bed.send(after).await;
    assert_eq!((told().len(), bed.frontends()), (1, 1));
    bed.maps.lock().faults_percent = 0;
    pass(20_000).await;
    assert_eq!(told(), [1, 1]);
    bed.send(vec![gone(1)]).await;
    assert_eq!(told(), [1, 1, 1]);
}

/// A Service as a UDP one with an endpoint.
fn dns(number: u8) -> Vec<Change> {
    let mut changes = vec![service(number), slice(number, 1)];
    for change in &mut changes {
        match change {
            Change::Service(Object { value: Some(service), .. }) => {
                service.ports[0].protocol = Protocol::UDP;
            }
            Change::Slice(Object { value: Some(slice), .. }) => {
                slice.ports[0].protocol = Protocol::UDP;
            }
            other => panic!("{other:?} is neither Service nor slice"),
        }
    }
    changes
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

/// Whoever waits for readiness is told when clients outside are served, too.
#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_devices_are_served_or_it_is_known_why_they_are_not() {
    let ready = |bed: &Bed| Health::new(bed.pulse.clone(), Duration::from_mins(1)).readyz();
    let uplinks = |absent: &[&str]| {
        let devices = [(7, Arc::from("eth0")), (8, Arc::from("eth1"))].into();
        let absent = absent.iter().map(|name| Arc::from(*name)).collect();
        Change::Uplinks(Uplinks { devices, absent, ..Uplinks::default() })
    };
    // A marked pod, for which nobody has looked yet: what an earlier agent served stays as it is.
    let bed = Bed::start(Fake::new(1), 0);
    let mut first = cluster(1, 1);
    let pod = Pod { mark: Mark::Label, addresses: Vec::new() };
    let pod =
        Object { name: ObjectName::new("default", "vm"), value: Some(pod), issues: Vec::new() };
    first.extend([uplinks(&[]), Change::Pod(pod)]);
    bed.send(first).await;
    assert_eq!(bed.pulse.borrow().self_test, Some(Ok(())));
    assert!(!ready(&bed).0 && bed.pulse.borrow().devices.is_none());

    let mut fake = Fake::new(1);
    fake.unservable = Some(Arc::from("eth1"));
    let bed = Bed::start(fake, 0);
    let mut first = cluster(1, 1);
    first.push(uplinks(&["eth2"]));
    bed.send(first).await;
    let (is_ready, body) = ready(&bed);
    assert!(is_ready && body.contains("tc_ingress") && body.contains("eth1"), "{body}");
    pass(1_000).await;
    let issues = bed.issues.lock().unwrap().clone();
    let [absent, unserved] = &issues[..] else { panic!("{issues:?}") };
    assert!(absent.contains("devices: there is no eth2, which --devices names"), "{absent}");
    assert!(unserved.contains("not served as they should be") && unserved.contains("eth1"));
    // It is tried again without a change.
    bed.maps.lock().unservable = None;
    pass(31_000).await;
    assert_eq!(ready(&bed), (true, "{\"ready\":true}".to_owned()));
    assert_eq!(*bed.issues.lock().unwrap(), std::slice::from_ref(absent));
    bed.send(vec![uplinks(&[])]).await;
    pass(1_000).await;
    assert_eq!(*bed.issues.lock().unwrap(), Vec::<String>::new());
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
        bed.send(vec![slice(3, round % 5)]).await;
        pass(20).await;
    }
    assert_eq!(bed.names(), 1, "changes never paused");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_without_a_change_and_is_shown_until_then() {
    let bed = Bed::start(Fake::new(1), 0);
    bed.send(cluster(2, 2)).await;
    bed.maps.lock().refused = vec![Op::Name { id: 3, text: Some("default/web-3:http/TCP".into()) }];
    bed.send(cluster(3, 2)).await;
    pass(3_000).await;
    assert_eq!(bed.frontends(), 2);
    assert!(bed.pulse.borrow().held_up[0].contains("Service default/web-3: service port"));
    let failures = bed.metrics.failures.get();
    assert!((3..10).contains(&failures), "{failures} tries in 3 s");
    bed.maps.lock().refused.clear();
    pass(10_000).await;
    assert_eq!(bed.frontends(), 3);
    assert_eq!(bed.pulse.borrow().held_up, Vec::<String>::new());
    assert_eq!(*bed.issues.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_left_over_when_a_sync_fails_does_not_end_the_tries() {
    let bed = Bed::start(Fake::new(1), 0);
    bed.send(cluster(2, 2)).await;
    bed.send(vec![gone(1)]).await;
    bed.maps.lock().faults_percent = 100;
    bed.send(cluster(3, 2)).await;
    pass(60).await;
    assert_eq!(bed.pulse.borrow().held_up.len(), 2, "leftovers are due, and no reason to rest");
    bed.maps.lock().faults_percent = 0;
    pass(1_000).await;
    assert_eq!((bed.frontends(), bed.names()), (3, 3));
}

#[tokio::test]
async fn a_change_that_comes_during_a_grace_period_does_not_wait_for_its_end() {
    let bed = Bed::start(Fake::new(1), 0);
    bed.send(cluster(3, 2)).await;
    let (end, ends) = std::sync::mpsc::channel();
    *bed.maps.gate.lock().unwrap() = Some(ends);
    bed.send(vec![gone(1)]).await;
    bed.until(|bed| bed.maps.gate.lock().unwrap().is_none(), "a grace period begins").await;
    let index = |bed: &Bed, number: u32| {
        let tables = bed.maps.lock().tables.clone();
        let id = tables.names.iter().find(|(_, name)| name.contains(&format!("web-{number}:")));
        let id = id.map(|(id, _)| *id);
        tables.services.iter().find(|(_, record)| Some(record.id) == id).map(|(index, _)| index)
    };
    let freed = index(&bed, 1).unwrap();
    bed.send(cluster(5, 2).split_off(6)).await;
    bed.send(vec![gone(2)]).await;
    bed.until(|bed| bed.frontends() == 3, "three that are served").await;
    assert_eq!(bed.names(), 5, "what is left over is there still");
    assert!([4, 5].iter().all(|number| index(&bed, *number).unwrap() != freed));

    end.send(()).unwrap();
    bed.until(|bed| bed.names() == 4, "web-1 is taken away, not what came after").await;
    bed.until(|bed| bed.names() == 3, "web-2 follows after a grace period of its own").await;
    assert_eq!(bed.maps.lock().tables.check_refs(), Vec::new());
}

#[tokio::test(start_paused = true)]
async fn an_op_that_fails_at_every_try_of_a_cold_start_keeps_one_service_out_and_nothing_else() {
    let mut fake = Fake::new(1);
    let name = |id| Op::Name { id, text: Some("default/web-2:http/TCP".into()) };
    fake.refused = (1..10).map(name).collect();
    let bed = Bed::start(fake, 0);
    bed.send(cluster(3, 2)).await;
    assert_eq!(*bed.attached.lock().unwrap(), 0, "it may be by chance");
    pass(1_000).await;
    assert_eq!((bed.frontends(), *bed.attached.lock().unwrap()), (2, 1));
    let pulse = bed.pulse.borrow().clone();
    assert!(pulse.applied && pulse.self_test == Some(Ok(())) && pulse.oldest_pending.is_none());
    let (ready, body) = Health::new(bed.pulse.clone(), Duration::from_mins(1)).readyz();
    assert!(!ready && body.contains("default/web-2"), "{body}");
    let issues = bed.issues.lock().unwrap().clone();
    assert!(issues.len() == 1 && issues[0].contains("Service default/web-2"), "{issues:?}");

    pass(60_000).await;
    let writes = bed.maps.lock().writes;
    bed.send(vec![gone(3)]).await;
    assert_eq!(bed.frontends(), 1, "a change does not wait for the next try");
    assert!(bed.maps.lock().writes < writes + 10, "what is there is not written again");
    bed.maps.lock().refused.clear();
    pass(20_000).await;
    assert_eq!(bed.frontends(), 2);
    assert!(Health::new(bed.pulse.clone(), Duration::from_mins(1)).readyz().0);
    assert_eq!(*bed.issues.lock().unwrap(), Vec::<String>::new());
    assert_eq!(*bed.attached.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_no_write_succeeds_nothing_is_attached_and_it_is_pending() {
    let mut fake = Fake::new(1);
    fake.faults_percent = 100;
    let bed = Bed::start(fake, 0);
    bed.send(cluster(3, 2)).await;
    pass(60_000).await;
    assert_eq!((bed.frontends(), *bed.attached.lock().unwrap()), (0, 0));
    assert!(bed.pulse.borrow().oldest_pending.is_some());
    bed.maps.lock().faults_percent = 0;
    pass(20_000).await;
    assert_eq!((bed.frontends(), *bed.attached.lock().unwrap()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn syn_06_what_others_break_is_mended_even_if_changes_never_pause() {
    let bed = Bed::start(Fake::new(1), 0);
    bed.send(cluster(3, 2)).await;
    bed.maps.lock().tables.frontends4.clear();
    for round in 0..40_u8 {
        bed.send(vec![slice(3, round % 5)]).await;
        pass(1_000).await;
    }
    assert_eq!(bed.frontends(), 3);
    assert_eq!(bed.maps.lock().tables.check_refs(), Vec::new());
    let repaired = |map| bed.metrics.repaired.get_or_create(&[("map", map)]).get();
    assert!(repaired("FRONTENDS4") >= 3, "{}", repaired("FRONTENDS4"));
    assert_eq!(repaired("SLOTS"), 0);
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

#[tokio::test(start_paused = true)]
async fn what_others_find_is_told_with_the_rest() {
    let bed = Bed::start(Fake::new(1), 0);
    bed.send(cluster(1, 1)).await;
    let address = ([127, 0, 0, 1], 30000).into();
    let issue = Issue {
        kind: crate::model::issue::ObjectKind::Service,
        object: ObjectName::new("default", "web-1"),
        field: "spec.healthCheckNodePort".to_owned(),
        problem: crate::model::issue::Problem::HealthCheckPort { address, reason: "no".to_owned() },
    };
    bed.finder.send_replace(vec![issue.clone()]);
    pass(1).await;
    assert_eq!(*bed.issues.lock().unwrap(), [issue.to_string()]);
    bed.finder.send_replace(Vec::new());
    pass(1).await;
    assert!(bed.issues.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn that_nothing_is_ignored_is_told_at_first_and_not_after_each_sync() {
    let bed = Bed::start(Fake::new(1), 0);
    let leave = |text: &str| *bed.issues.lock().unwrap() = vec![text.to_owned()];
    leave("of an earlier agent");
    bed.send(cluster(1, 1)).await;
    assert!(bed.issues.lock().unwrap().is_empty());
    leave("nobody tells of it again");
    bed.send(vec![gone(1)]).await;
    pass(1_000).await;
    assert_eq!(*bed.issues.lock().unwrap(), ["nobody tells of it again"]);
}
