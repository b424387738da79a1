// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flows of clients outside whose time is over: taken out of FLOWS.
//!
//! ```text
//! every 5 s: FLOWS ─► halves that were idle for a while ─► their other halves ─► remove both
//! ```
//!
//! A look costs by the number of flows there are, and a system call more for each that is
//! idle: see docs/decisions.md. A program that meets a flow whose time is over treats it as
//! none, so nothing is wrong in between but the room that it takes.
//!
//! Invariant: a flow goes as a whole, and only if neither half has seen a packet for the time
//! that its phase allows.

mod idle;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use lb_common::flow::{FlowEntry, FlowKey};
use tokio::task;
use tokio_util::sync::CancellationToken;

use crate::datapath::{hashes::Hash, load, view};

/// What a look at FLOWS came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Census {
    /// Halves that are there.
    pub halves: usize,
    /// Halves that were taken out.
    pub removed: usize,
}

/// Looks again and again until it is told to stop.
pub async fn run(bpf_root: PathBuf, stop: CancellationToken) {
    let mut failed = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let bpf_root = bpf_root.clone();
        let outcome = task::spawn_blocking(move || collect_pinned(&bpf_root)).await;
        match outcome.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(Census { removed: 0, .. }) => failed = false,
            Ok(Census { halves, removed }) => {
                failed = false;
                tracing::debug!(halves, removed, "flows whose time is over");
            }
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(%error, "flows whose time is over stay; trying again");
            }
            Err(_) => {}
        }
    }
}

/// Takes out the flows whose time is over at `now_ns`, of CLOCK_MONOTONIC.
///
/// # Errors
/// The kernel's, for a map that cannot be read or written.
pub fn collect(flows: &mut Hash<FlowKey, FlowEntry>, now_ns: u64) -> io::Result<Census> {
    let mut census = Census::default();
    let mut over = Vec::new();
    flows.read_all(|keys, halves| {
        census.halves += keys.len();
        for (key, half) in keys.iter().zip(halves) {
            if over.len() < MOST && idle::is_idle(half, now_ns) {
                let other = flows.get(&half.other_key())?;
                if idle::is_over(half, other.as_ref(), now_ns) {
                    over.extend([*key, half.other_key()]);
                }
            }
        }
        Ok(())
    })?;
    // Both halves are met, unless one of them came or went meanwhile.
    over.sort_unstable();
    over.dedup();
    let before = flows.writes();
    flows.remove_all(&over).map_err(|failed| failed.source)?;
    census.removed = usize::try_from(flows.writes() - before).unwrap_or(usize::MAX);
    Ok(census)
}

fn collect_pinned(bpf_root: &Path) -> io::Result<Census> {
    let mut flows = load::open_flows(bpf_root).map_err(io::Error::other)?;
    collect(&mut flows, view::now_ns())
}

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// Halves that one look removes at most, to bound its memory: the rest is there at the next.
const MOST: usize = 1 << 17;
