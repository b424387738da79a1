// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where packets are translated: at the devices that lead to clients outside, and to pods whose
//! sockets are left alone.

use std::collections::BTreeSet;

use super::Reports;
use crate::{
    datapath::{Datapath, load::Skipped},
    model::{
        ObjectName,
        issue::{Issue, ObjectKind, Problem},
        snapshot::Snapshot,
        uplinks::Uplinks,
    },
    pods::{Ends, Places},
    source::chain,
};

/// Follows both.
pub(super) struct Follower {
    ends: Ends,
    /// What was tried last.
    known: Option<(Uplinks, Places)>,
    /// What was wrong then, a line for each device.
    unserved: Vec<String>,
    /// Whether to look again.
    unsure: bool,
    /// Where XDP is left out, as it was last told; `None` before the first time.
    skipped: Option<Vec<Skipped>>,
}

impl Follower {
    pub(super) const fn new(ends: Ends) -> Self {
        Self { ends, known: None, unserved: Vec::new(), unsure: false, skipped: None }
    }

    /// Has the next [`Follower::follow`] look again.
    pub(super) const fn doubt(&mut self) {
        self.unsure = true;
    }

    /// The next time that pods are found elsewhere.
    pub(super) async fn moved(&mut self) {
        super::changed(&mut self.ends.places).await;
    }

    /// Tells what became of the devices, and which of them are without XDP: whether what is to be
    /// said of them as issues may have changed.
    pub(super) fn tell(&mut self, skipped: &[Skipped], reports: &mut Reports) -> bool {
        if self.skipped.as_deref() != Some(skipped) {
            (reports.skipped)(skipped);
            self.skipped = Some(skipped.to_vec());
        }
        let outcome = self.known.as_ref().map(|_| match &*self.unserved {
            [] => Ok(()),
            unserved => Err(unserved.join("; ")),
        });
        let known = reports.pulse.borrow().devices.clone();
        if outcome == known {
            return false;
        }
        reports.pulse.send_modify(|pulse| pulse.devices = outcome);
        if known.is_none() {
            tracing::info!(
                "ready: sockets on this node, and clients outside, get what the cluster says"
            );
        }
        true
    }

    /// The pods that are not found, and the devices of this node that are not served.
    pub(super) fn issues(&self, node: &ObjectName) -> Vec<Issue> {
        let places = self.ends.places.borrow();
        let missing = places.iter().flat_map(|places| places.missing.iter().cloned());
        let absent = self.known.iter().flat_map(|(uplinks, _)| uplinks.absent.iter());
        let absent = absent.map(|device| Problem::NoDevice { device: device.to_string() });
        let away = self.known.iter().flat_map(|(uplinks, _)| uplinks.away.iter());
        let away = away.map(|address| Problem::Away { address: *address });
        let unserved = self.unserved.iter();
        let unserved = unserved.map(|reason| Problem::Unserved { reason: reason.clone() });
        let of_node = absent.chain(away).chain(unserved).map(|problem| {
            let (object, field) = (node.clone(), "devices".to_owned());
            Issue { kind: ObjectKind::Node, object, field, problem }
        });
        missing.chain(of_node).collect()
    }

    /// Serves clients through the devices that there are now, and looks again when in doubt:
    /// somebody may have detached a program.
    pub(super) fn follow<D: Datapath>(&mut self, snapshot: &Snapshot, datapath: &mut D) {
        if *self.ends.wanted.borrow() != snapshot.pods {
            self.ends.wanted.send_replace(snapshot.pods.clone());
        }
        let Some(mut places) = self.places(snapshot) else { return };
        // All that comes in there would count as a pod's.
        places.devices.retain(|index, _| !snapshot.uplinks.devices.contains_key(index));
        let now = (snapshot.uplinks.clone(), places);
        let is_new = self.known.as_ref() != Some(&now);
        if !(is_new || self.unsure) {
            return;
        }
        let before = self.known.as_ref().map(|(_, places)| &places.namespaces);
        let unserved = serve(datapath, &now, before).unwrap_or_else(|error| vec![error]);
        if unserved.is_empty() {
            if is_new || !self.unserved.is_empty() {
                tell(&now);
            }
        } else if self.unserved != unserved {
            let error = unserved.join("; ");
            tracing::error!(
                error,
                "not every device serves clients outside as it should; trying again"
            );
        }
        (self.known, self.unserved, self.unsure) = (Some(now), unserved, false);
    }

    /// `None`: nobody has looked yet, and devices that an earlier agent served must not be let
    /// go meanwhile.
    fn places(&self, snapshot: &Snapshot) -> Option<Places> {
        if snapshot.pods.is_empty() {
            return Some(Places::default());
        }
        let mut places = self.ends.places.borrow().clone()?;
        // Issues come and go without the devices.
        places.missing = Vec::new();
        Some(places)
    }
}

/// A namespace is left alone after its device is served, and its device let go after that is
/// over: nobody's first packet is lost. Why some devices are not served, if any are not.
fn serve<D: Datapath>(
    datapath: &mut D,
    (uplinks, places): &(Uplinks, Places),
    before: Option<&BTreeSet<u64>>,
) -> Result<Vec<String>, String> {
    let Uplinks { devices, v4, v6, .. } = uplinks;
    if let Some(before) = before {
        let kept = before.intersection(&places.namespaces).copied().collect();
        datapath.set_bypass(&kept).map_err(|error| chain(&error))?;
    }
    let pods = places.devices.keys().copied().collect();
    datapath.set_pod_devices(&pods).map_err(|error| chain(&error))?;
    let unserved = datapath
        .set_devices(devices, &places.devices, (*v4, *v6))
        .map_err(|error| chain(&error))?;
    datapath.set_bypass(&places.namespaces).map_err(|error| chain(&error))?;
    Ok(unserved.iter().map(|error| chain(error)).collect())
}

fn tell((uplinks, places): &(Uplinks, Places)) {
    let names = |devices: &std::collections::BTreeMap<u32, std::sync::Arc<str>>| {
        let names: Vec<_> = devices.values().map(|name| &**name).collect();
        names.join(",")
    };
    tracing::info!(devices = names(&uplinks.devices), "clients outside come through");
    if !places.devices.is_empty() {
        let (devices, namespaces) = (names(&places.devices), places.namespaces.len());
        tracing::info!(devices, namespaces, "pods whose sockets are left alone come through");
    }
}
