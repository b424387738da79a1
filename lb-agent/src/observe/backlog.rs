// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What has come and is not in the maps yet, for kube-proxy's metrics.
//!
//! ```text
//! batch ─► Backlog::queue ─► (sync) ─► Backlog::synced | sync_failed ─► ProxyMetrics
//! ```

use std::time::{Duration, SystemTime};

use super::metrics::{Changes, ProxyMetrics};
use crate::{
    model::{
        Family, ObjectName,
        change::{Change, Object},
        endpoint::EndpointSlice,
        snapshot::Snapshot,
    },
    plan::stranded::Stranded,
};

/// Counts changes on their way and times them. The reconcile loop owns it.
#[derive(Debug)]
pub struct Backlog {
    metrics: ProxyMetrics,
    /// What happened before does not count: it was in force before this agent ran.
    started: SystemTime,
    /// Slices that wait: whose, and when what changed them happened (MET-05).
    triggers: Vec<(ObjectName, Family, SystemTime)>,
}

impl Backlog {
    /// An empty one; `started` is when the process began.
    pub const fn new(metrics: ProxyMetrics, started: SystemTime) -> Self {
        Self { metrics, started, triggers: Vec::new() }
    }

    /// Takes note of a batch before it is taken up.
    pub fn queue(&mut self, batch: &[Change], known: &Snapshot) {
        self.metrics.queued();
        for change in batch {
            match change {
                Change::Service(_) => count(&self.metrics.service_changes, 1),
                Change::Slice(object) => {
                    count(&self.metrics.endpoint_changes, 1);
                    self.note(object, known);
                }
                Change::Replace(listing) => {
                    let services = listing.services.as_ref().map_or(0, Vec::len);
                    count(&self.metrics.service_changes, services);
                    let slices = listing.slices.as_deref().unwrap_or_default();
                    count(&self.metrics.endpoint_changes, slices.len());
                    for object in slices {
                        self.note(object, known);
                    }
                }
                Change::Node(_)
                | Change::NodeAddresses(_)
                | Change::Uplinks(_)
                | Change::ServiceCidr(_)
                | Change::Pod(_) => {}
            }
        }
    }

    /// All of it is in the maps, as of `now`. `full`: everything was compared with what the
    /// maps really hold.
    pub fn synced(&mut self, took: Duration, full: bool, now: SystemTime) {
        self.metrics.synced(took, full);
        for (_, family, trigger) in self.triggers.drain(..) {
            // A clock that was set back makes it 0.
            self.metrics.programmed(family, now.duration_since(trigger).unwrap_or_default());
        }
    }

    /// Some of it is not in the maps.
    pub fn sync_failed(&self) {
        self.metrics.sync_failed();
    }

    /// What is no longer used is still in the maps.
    pub fn cleanup_failed(&self) {
        self.metrics.cleanup_failed();
    }

    /// Says how many service ports a Local policy leaves without endpoints here (MET-08).
    pub fn set_stranded(&self, stranded: &Stranded) {
        self.metrics.set_stranded(stranded);
    }

    /// Notes a slice's trigger, once: it stays in the object when something else changes
    /// (MET-05). A slice that is gone was changed by something else than its last trigger.
    fn note(&mut self, object: &Object<EndpointSlice>, known: &Snapshot) {
        let Some(slice) = &object.value else {
            return self.triggers.retain(|(name, ..)| *name != object.name);
        };
        let before = known
            .slice_owners
            .get(&object.name)
            .and_then(|owner| known.slices.get(owner)?.get(&object.name)?.triggered);
        match slice.triggered {
            Some(trigger)
                if trigger > self.started
                    && before != Some(trigger)
                    && self.triggers.len() < MAX_TRIGGERS =>
            {
                self.triggers.push((object.name.clone(), slice.family, trigger));
            }
            _ => {}
        }
    }
}

fn count(changes: &Changes, more: usize) {
    changes.total.inc_by(more as u64);
    changes.pending.inc_by(i64::try_from(more).unwrap_or(i64::MAX));
}

/// Triggers that wait at most: what fails for ever must not fill the memory.
const MAX_TRIGGERS: usize = 10_000;

#[cfg(test)]
mod tests;
