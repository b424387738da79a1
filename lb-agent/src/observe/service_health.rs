// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Health-check node ports: where cloud load balancers ask whether this node has endpoints
//! of a Service with externalTrafficPolicy Local (HCN-01 to HCN-10).
//!
//! ```text
//! reconcile ─► HealthChecks ─► listeners, one a Service, family and address ─► HTTP
//!      ▲                            │
//!      └───────── Issues ◄──────────┘  a port that somebody else has
//! ```
//!
//! A task of its own: the reconcile loop never waits for a socket.

mod listener;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use self::listener::{Answer, Listener};
use super::health::Health;
use crate::{
    model::{
        Family, ObjectName,
        issue::{Issue, ObjectKind, Problem},
    },
    plan::health_checks::{HealthCheck, HealthChecks},
};

/// Keeps the listeners as the reconcile loop wants them.
#[derive(Debug)]
pub struct ServiceHealth {
    wanted: watch::Receiver<HealthChecks>,
    health: Arc<Health>,
    /// Families in which NodePorts answer on every address, new ones included.
    unrestricted: BTreeSet<Family>,
    issues: watch::Sender<Vec<Issue>>,
    open: BTreeMap<(ObjectName, Family), Open>,
}

/// The listeners of one Service and family.
#[derive(Debug)]
struct Open {
    port: NonZeroU16,
    addresses: BTreeSet<IpAddr>,
    count: Arc<AtomicUsize>,
    listeners: Vec<Listener>,
}

/// An address that cannot be listened on.
#[derive(Debug)]
struct Taken {
    address: SocketAddr,
    source: io::Error,
}

impl ServiceHealth {
    /// Over what the loop publishes; `issues` gets the ports that cannot be opened.
    pub fn new(
        wanted: watch::Receiver<HealthChecks>,
        health: Arc<Health>,
        unrestricted: BTreeSet<Family>,
        issues: watch::Sender<Vec<Issue>>,
    ) -> Self {
        Self { wanted, health, unrestricted, issues, open: BTreeMap::new() }
    }

    /// Runs until cancelled, or until the loop ends; then every port closes.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let complete = self.update().await;
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = time::sleep(RETRY), if !complete => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Closes what is no longer wanted, then opens what is new (HCN-07). Whether nothing
    /// was refused.
    async fn update(&mut self) -> bool {
        let wanted = self.wanted.borrow_and_update().clone();
        let known = std::mem::take(&mut self.open);
        for ((name, family), mut open) in known {
            let check = wanted.checks.get(&name).filter(|check| check.port == open.port);
            let stays = check.and_then(|check| check.count(family)).is_some()
                && open.addresses == self.addresses(&wanted, family);
            if stays {
                self.open.insert((name, family), open);
            } else {
                open.close().await;
                tracing::info!(service = %name, %family, port = open.port, "health-check port closed");
            }
        }
        let mut issues = Vec::new();
        for (name, check) in &wanted.checks {
            for family in Family::ALL {
                issues.extend(self.serve(name, check, family, &wanted).await);
            }
        }
        let complete = issues.is_empty();
        self.issues.send_if_modified(|known| {
            let changed = *known != issues;
            *known = issues;
            changed
        });
        complete
    }

    /// Sets the count of one Service and family, whose listeners are opened if they are not.
    async fn serve(
        &mut self,
        name: &ObjectName,
        check: &HealthCheck,
        family: Family,
        wanted: &HealthChecks,
    ) -> Option<Issue> {
        let count = check.count(family)?;
        let key = (name.clone(), family);
        if let Some(open) = self.open.get(&key) {
            open.count.store(count, Ordering::Relaxed);
            return None;
        }
        let addresses = self.addresses(wanted, family);
        match self.open(name, check.port, count, addresses).await {
            Ok(open) => {
                tracing::info!(service = %name, %family, port = check.port, "health-check port open");
                self.open.insert(key, open);
                None
            }
            Err(Taken { address, source }) => Some(Issue {
                kind: ObjectKind::Service,
                object: name.clone(),
                field: "spec.healthCheckNodePort".to_owned(),
                problem: Problem::HealthCheckPort { address, reason: source.to_string() },
            }),
        }
    }

    /// Opens a listener on each address; on all of them or on none (HCN-02).
    async fn open(
        &self,
        name: &ObjectName,
        port: NonZeroU16,
        count: usize,
        addresses: BTreeSet<IpAddr>,
    ) -> Result<Open, Taken> {
        let count = Arc::new(AtomicUsize::new(count));
        let mut open = Open { port, addresses, count, listeners: Vec::new() };
        for address in &open.addresses {
            let address = SocketAddr::new(*address, port.get());
            let answer = Answer {
                service: name.clone(),
                count: open.count.clone(),
                health: self.health.clone(),
            };
            match Listener::open(address, answer) {
                Ok(listener) => open.listeners.push(listener),
                Err(source) => {
                    open.close().await;
                    return Err(Taken { address, source });
                }
            }
        }
        Ok(open)
    }

    /// Where a family's ports listen: everywhere, or where its NodePorts answer (HCN-02).
    fn addresses(&self, wanted: &HealthChecks, family: Family) -> BTreeSet<IpAddr> {
        if self.unrestricted.contains(&family) {
            return BTreeSet::from([match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            }]);
        }
        let of_family = |address: &&IpAddr| Family::of(**address) == family;
        wanted.addresses.iter().filter(of_family).copied().collect()
    }
}

impl Open {
    /// Closes every listener; returns when the port is free.
    async fn close(&mut self) {
        for listener in self.listeners.drain(..) {
            listener.close().await;
        }
    }
}

/// A port that could not be opened is tried again so often, and whenever anything changes.
const RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
