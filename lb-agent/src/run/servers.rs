// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tasks that answer others: health, metrics, health-check node ports.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, sync::watch, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{BindAddress, Binds},
    model::{Family, issue::Issue},
    observe::{
        health::Health,
        http::{self, BindError, HealthPages, MetricsPages},
        metrics::Metrics,
        service_health::ServiceHealth,
    },
    plan::health_checks::HealthChecks,
    source::events::{Events, Notice},
};

/// What the tasks answer from.
#[derive(Debug)]
pub(super) struct Sources {
    /// How the loop fares.
    pub(super) health: Arc<Health>,
    /// The metrics.
    pub(super) metrics: Arc<Metrics>,
    /// `/configz`.
    pub(super) configz: Arc<str>,
    /// Health-check node ports that are wanted.
    pub(super) checks: watch::Receiver<HealthChecks>,
    /// Those that cannot be opened.
    pub(super) finder: watch::Sender<Vec<Issue>>,
    /// Families whose health-check node ports listen on every address.
    pub(super) unrestricted: BTreeSet<Family>,
    /// Where a server that cannot start is told.
    pub(super) events: Events,
}

/// Starts them all; they end when `stop` is cancelled.
///
/// # Errors
/// An address that cannot be bound, if that is to be fatal.
pub(super) async fn start(
    binds: Binds,
    sources: Sources,
    stop: &CancellationToken,
) -> Result<TaskTracker, BindError> {
    let Sources { health, metrics, configz, checks, finder, unrestricted, events } = sources;
    let tasks = TaskTracker::new();
    let place = |flag, reason, BindAddress(address)| {
        address.map(|address| Place { flag, reason, address, hard_fail: binds.hard_fail })
    };
    let unhealthy = "FailedToStartProxierHealthcheck";
    if let Some(place) = place("--healthz-bind-address", unhealthy, binds.healthz) {
        let pages = HealthPages { health: health.clone(), metrics: metrics.proxy.clone() };
        place.serve(pages.router(), &events, &tasks, stop).await?;
    }
    let unmeasured = "FailedToStartMetricServer";
    if let Some(place) = place("--metrics-bind-address", unmeasured, binds.metrics) {
        place.serve(MetricsPages { metrics, configz }.router(), &events, &tasks, stop).await?;
    }
    tasks.spawn(ServiceHealth::new(checks, health, unrestricted, finder).run(stop.clone()));
    tasks.close();
    Ok(tasks)
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
struct Place {
    flag: &'static str,
    /// Of the Event if it fails (MET-14).
    reason: &'static str,
    address: SocketAddr,
    hard_fail: bool,
}

impl Place {
    /// Serves here, on a task of its own, as soon as the address can be bound.
    async fn serve(
        self,
        router: Router,
        events: &Events,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(), BindError> {
        let bound = self.bind(events).await?;
        let stop = stop.clone();
        tasks.spawn(async move {
            if let Some(listener) = self.wait(bound, &stop).await {
                http::serve(listener, router, stop).await;
            }
        });
        Ok(())
    }

    /// The first try. Nothing if the address is taken and that is not fatal.
    async fn bind(&self, events: &Events) -> Result<Option<TcpListener>, BindError> {
        let error = match http::bind(self.flag, self.address).await {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) => error,
        };
        let action = if self.hard_fail { "Exit" } else { "Retry" };
        events.post(|| Notice::of_node(self.reason, action, error.to_string()));
        if self.hard_fail {
            // What is not written by then is lost; the error says the same.
            drop(time::timeout(TELL, events.drain()).await);
            return Err(error);
        }
        tracing::error!(%error, retry_in = ?RETRY, "server not started");
        Ok(None)
    }

    /// Tries until it works; nothing if the agent ends before.
    async fn wait(
        &self,
        bound: Option<TcpListener>,
        stop: &CancellationToken,
    ) -> Option<TcpListener> {
        let mut bound = bound;
        while bound.is_none() {
            tokio::select! {
                () = stop.cancelled() => return None,
                () = time::sleep(RETRY) => {}
            }
            bound = http::bind(self.flag, self.address).await.ok();
            if bound.is_some() {
                tracing::info!(flag = self.flag, address = %self.address, "server started");
            }
        }
        bound
    }
}

/// How long an agent that must end waits for its Event to be written.
const TELL: Duration = Duration::from_secs(5);
/// How long before the next try to bind an address: as kube-proxy.
const RETRY: Duration = Duration::from_secs(5);
