// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent run`: makes the tasks and ends them in order.
//!
//! ```text
//! source ─► reconcile ─► datapath          health, metrics ─► http
//!               └──────────── pulse, metrics ──────┘
//! ```

mod config_file;
pub mod local_ports;
pub mod questions;
mod servers;
pub mod state;
mod tuning;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use lb_common::maps::Capacities;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{servers::Sources, state::DeviceLine};

use crate::{
    config::{Config, Tuning},
    datapath::{
        cgroup,
        kernel::Kernel,
        load::{LoadError, Options, Skipped},
        selftest, syscall,
    },
    flows::{
        self, Fullness,
        size::{Node, entries},
    },
    model::ObjectName,
    observe::{
        backlog::Backlog,
        health::{Health, Pulse},
        http::BindError,
        kernel::Pinned,
        metrics::{ClientMetrics, Metrics},
    },
    plan::health_checks::HealthChecks,
    pods,
    reconcile::{self, IssueSink, Reconciler, Reports, SkippedSink},
    sockets::Sweeper,
    source::{self, Feed, events::Announcer},
};

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The source cannot start.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The kernel programs cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A server's address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There is no cgroup2 mount.
    #[error("no cgroup2 file system is mounted; run: mount -t cgroup2 none /sys/fs/cgroup/unified")]
    NoCgroup,
    /// The cgroup root is not the real one.
    #[error(
        "{} is not the root of the cgroup2 hierarchy: sockets outside of it would not be served; give the real root with --cgroup-root, or --allow-nested-cgroup to go on",
        path.display()
    )]
    NestedCgroup {
        /// The cgroup root.
        path: PathBuf,
    },
    /// The settings' file changed.
    #[error("{} has changed: ending, to be started with what it says now (CFG-01)", path.display())]
    ConfigChanged {
        /// The file.
        path: PathBuf,
    },
    /// The process cannot be set up.
    #[error("cannot {what}: {source}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl RunError {
    /// Whether a flag, file or address of the command line is to blame.
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::Source(error) => error.is_usage(),
            Self::Load(error) => error.is_usage(),
            Self::Bind(_) | Self::NestedCgroup { .. } => true,
            Self::NoCgroup | Self::ConfigChanged { .. } | Self::Process { .. } => false,
        }
    }
}

/// Runs until SIGTERM or SIGINT. The kernel programs go on without the agent.
pub fn run(config: Config) -> Result<(), RunError> {
    set_up(&config.tuning);
    syscall::keep_heap_small();
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(failed("start threads"))?;
    runtime.block_on(serve(config))
}

/// What needs more rights than the rest: with `--init-only` this is all that is done (CFG-07).
pub fn set_up(tuning: &Tuning) {
    tuning::set_oom_score(tuning.oom_score_adj);
    tuning::tune(&tuning.conntrack);
}

async fn serve(config: Config) -> Result<(), RunError> {
    let started = SystemTime::now();
    let stop = CancellationToken::new();
    end_on_signal(&stop)?;
    let client = ClientMetrics::default();
    let feed = source::start(config.source.clone(), client.sink()).await?;
    let cgroup_root = cgroup_root_of(config.cgroup_root.clone(), config.allow.nested_cgroup)?;
    let kernel = open(&config, &cgroup_root)?;
    let sources = (&feed, &client);
    let (finder, pods) = pods::finder(cgroup_root.clone(), config.bpf_root.clone());
    let finder = tokio::spawn(finder.run());
    let (reports, servers) = report(&config, sources, cgroup_root, started, &stop).await?;
    let reconciler = Reconciler::new(kernel).with_rules(config.rules);
    let Feed { changes, tasks: mut feed, .. } = feed;
    let outcome = tokio::select! {
        () = reconcile::run(reconciler, changes, (reports, pods), attach) => Ok(()),
        () = stop.cancelled() => Ok(()),
        path = config_file::changed(config.file) => Err(RunError::ConfigChanged { path }),
    };
    stop.cancel();
    feed.shutdown().await;
    finder.abort();
    servers.wait().await;
    tracing::info!("stopped; the kernel programs go on");
    outcome
}

/// Whom the loop tells how it fares, and the servers that answer from it.
async fn report(
    config: &Config,
    (feed, client): (&Feed, &ClientMetrics),
    cgroup_root: PathBuf,
    started: SystemTime,
    stop: &CancellationToken,
) -> Result<(Reports, TaskTracker), RunError> {
    let bpf_root = &config.bpf_root;
    let (pulse, pulses) = watch::channel(Pulse::default());
    let (fills, filled) = watch::channel(Vec::new());
    let (fullness, known) = watch::channel(Fullness::default());
    let pinned = Pinned { bpf_root: bpf_root.clone(), fills: filled, flows: known };
    let page = Metrics::new(Box::new(pinned), client, feed.status.clone());
    let (health_checks, checks) = watch::channel(HealthChecks::default());
    let (finder, found) = watch::channel(Vec::new());
    let (given, local_ports) = watch::channel(local_ports::read());
    tokio::spawn(local_ports::follow(given));
    let (asked, questions) = questions::channel();
    if let Err(error) = questions::answer(bpf_root, asked) {
        tracing::warn!(%error, "explain will not say which endpoints are not used");
    }
    let announcer = Announcer::new(feed.events.clone());
    let sources = Sources {
        health: Arc::new(Health::new(pulses, config.stale_after)),
        metrics: page.clone(),
        configz: config.configz.clone(),
        checks,
        finder,
        unrestricted: config.source.node_ports.unrestricted(),
        events: feed.events.clone(),
    };
    let servers = servers::start(config.binds, sources, stop).await?;
    let (teller, flows) = watch::channel(Vec::new());
    let sinks = flows::Sinks { fullness, issues: teller };
    let node = ObjectName::new("", config.source.node_name.clone());
    let asked = (node, config.max_flows);
    tokio::spawn(flows::run(bpf_root.clone(), asked, sinks, stop.clone()));
    let sweeper = Sweeper::new(bpf_root.clone(), cgroup_root, page.proxy.clone());
    let reports = Reports {
        pulse,
        metrics: page.sync.clone(),
        backlog: Backlog::new(page.proxy.clone(), started),
        fills,
        health_checks,
        found,
        flows,
        local_ports,
        questions,
        issues: issue_sink(bpf_root.clone(), announcer),
        skipped: skipped_sink(bpf_root.clone()),
        datagrams: sweeper.start().map_err(failed("start a thread"))?,
    };
    Ok((reports, servers))
}

/// Loads the programs, or takes over those that run.
fn open(config: &Config, cgroup_root: &Path) -> Result<Kernel, LoadError> {
    let options = Options {
        bpf_root: config.bpf_root.clone(),
        cgroup_root: cgroup_root.to_owned(),
        allow_foreign: config.allow.foreign_programs,
        no_tcx: config.no_tcx,
        xdp: config.xdp,
        limits: config.limits,
    };
    let of_node = || Node::here(tuning::conntrack_max(&config.tuning.conntrack)).flows();
    let flows = config.max_flows.map_or_else(of_node, u64::from);
    let kernel =
        Kernel::open(&options, &Capacities { flows: entries(flows), ..Capacities::MINIMUM })?;
    let room = kernel.sizes().flows / 2;
    tracing::info!(flows = room, "room for flows of clients outside");
    Ok(kernel)
}

/// Names what the process could not do.
fn failed(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Process { what, source }
}

/// Leaves what is ignored for `show`, and tells what is new.
fn issue_sink(bpf_root: PathBuf, mut announcer: Announcer) -> IssueSink {
    Box::new(move |issues| {
        announcer.update(issues);
        if let Err(error) = state::write_issues(&bpf_root, issues) {
            tracing::warn!(%error, "show services will not have what is ignored");
        }
    })
}

/// Leaves for `show programs` where XDP is left out.
fn skipped_sink(bpf_root: PathBuf) -> SkippedSink {
    Box::new(move |skipped| {
        let lines = skipped.iter().map(|Skipped { device, reason }| DeviceLine {
            device: device.to_string(),
            reason: (*reason).to_owned(),
        });
        if let Err(error) = state::write_devices(&bpf_root, &lines.collect::<Vec<_>>()) {
            tracing::warn!(%error, "show programs will not have where XDP is left out");
        }
    })
}

/// Attaches the programs and sees that they do their work.
fn attach(kernel: &mut Kernel) -> Result<(), String> {
    kernel.attach().map_err(|error| error.to_string())?;
    #[cfg(feature = "trace-datapath")]
    crate::datapath::trace::follow(kernel).map_err(|error| error.to_string())?;
    task::block_in_place(|| selftest::run(kernel)).map_err(|error| error.to_string())?;
    // Every object of the cluster has passed through the heap by now.
    syscall::trim_heap();
    Ok(())
}

/// The cgroup that programs attach to, which must be the root unless somebody insists.
fn cgroup_root_of(given: Option<PathBuf>, allow_nested: bool) -> Result<PathBuf, RunError> {
    let found = failed("read /proc/self/mountinfo");
    let path = match given {
        Some(path) => path,
        None => cgroup::find_mount().map_err(found)?.ok_or(RunError::NoCgroup)?,
    };
    let nested = cgroup::Cgroup::open(&path).is_ok_and(|cgroup| !cgroup.is_real_root());
    if nested && !allow_nested {
        return Err(RunError::NestedCgroup { path });
    }
    Ok(path)
}

/// Cancels when the process is asked to end.
fn end_on_signal(stop: &CancellationToken) -> Result<(), RunError> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let stop = stop.clone();
        let mut signal = signal(kind).map_err(failed("wait for signals"))?;
        tokio::spawn(async move {
            signal.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}

/// One for the reconcile loop, which may compile a whole cluster, and one for the sources and
/// servers. Grace periods are waited for on threads that come and go.
const WORKERS: usize = 2;
