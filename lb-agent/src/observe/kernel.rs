// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's part of the metrics, read from the pinned maps at each scrape.

use std::path::PathBuf;

use lb_common::maps;
use tokio::sync::watch;

use super::metrics::{Fill, Kernel, Reading};
use crate::{
    datapath::{kernel, load::open_pinned, maps::Maps},
    flows::Fullness,
};

/// The maps below a bpf-root, and what the reconcile loop knows of their use.
#[derive(Debug)]
pub struct Pinned {
    /// Where the maps are pinned.
    pub bpf_root: PathBuf,
    /// Use of the maps that the agent writes.
    pub fills: watch::Receiver<Vec<Fill>>,
    /// What the collector of flows knows: nobody counts a million flows for a scrape.
    pub flows: watch::Receiver<Fullness>,
}

impl Pinned {
    /// The maps, opened anew: a larger generation may have taken their place.
    fn open(&self) -> Option<Maps> {
        open_pinned(&self.bpf_root)
            .inspect_err(|error| tracing::warn!(%error, "maps cannot be read for metrics"))
            .ok()
    }
}

impl Kernel for Pinned {
    fn read(&self) -> Reading {
        let Fullness { used, capacity, phases, .. } = self.flows.borrow().clone();
        let mut reading =
            Reading { counters: Vec::new(), fills: self.fills.borrow().clone(), flows: phases };
        let Some(open) = self.open() else {
            return reading;
        };
        let counters = kernel::counters(&open).unwrap_or_default();
        reading.counters = counters.into_iter().map(|(_, value)| value).collect();
        let over = open.sockets_over.dump().map(|elements| elements.len());
        let pins = open.affinity.dump().map(|elements| elements.len());
        for (map, used) in [(maps::SOCKETS_OVER, over), (maps::AFFINITY, pins)] {
            let capacity = open.capacity(map);
            reading.fills.extend(used.ok().map(|used| Fill {
                map,
                used: used as u64,
                capacity,
                waiting: 0,
            }));
        }
        reading.fills.push(Fill { map: maps::FLOWS, used, capacity, waiting: 0 });
        reading
    }
}
