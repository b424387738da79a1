// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's part of the metrics, read from the pinned maps at each scrape.

use std::path::PathBuf;

use lb_common::maps;
use tokio::sync::watch;

use super::metrics::{Fill, Kernel};
use crate::datapath::{kernel, load::open_pinned, maps::Maps};

/// The maps below a bpf-root, and what the reconcile loop knows of their use.
#[derive(Debug)]
pub struct Pinned {
    /// Where the maps are pinned.
    pub bpf_root: PathBuf,
    /// Use of the maps that the agent writes.
    pub fills: watch::Receiver<Vec<Fill>>,
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
    fn counters(&self) -> Vec<u64> {
        let counters = self.open().and_then(|maps| kernel::counters(&maps).ok());
        counters.unwrap_or_default().into_iter().map(|(_, value)| value).collect()
    }

    fn fills(&self) -> Vec<Fill> {
        let mut fills = self.fills.borrow().clone();
        let Some(open) = self.open() else {
            return fills;
        };
        let over = open.sockets_over.dump().map(|elements| elements.len());
        let pins = open.affinity.dump().map(|elements| elements.len());
        let mut halves = 0;
        let counted = open.flows.read_all(|keys, _| {
            halves += keys.len();
            Ok(())
        });
        let flows = counted.map(|()| halves);
        let used = [(maps::SOCKETS_OVER, over), (maps::AFFINITY, pins), (maps::FLOWS, flows)];
        for (map, used) in used {
            let capacity = open.capacity(map);
            fills.extend(used.ok().map(|used| Fill {
                map,
                used: used as u64,
                capacity,
                waiting: 0,
            }));
        }
        fills
    }
}
