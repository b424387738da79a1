// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A node: the place of its host processes, and the parent of its pods.

use std::{ops::Deref, path::PathBuf};

use crate::place::Place;

/// One node of the lab. Its place is the host's: `node.spawn(..)` runs a host
/// process, in cgroup `host` of the node's subtree.
#[derive(Clone, Debug)]
pub struct Node {
    /// Number, from 1; part of its addresses.
    pub index: u8,
    /// Zone label: odd nodes are in `zone-a`, even ones in `zone-b`.
    pub zone: &'static str,
    /// The node's cgroup2 subtree: what its agent gets as `--cgroup-root`.
    pub cgroup_root: PathBuf,
    /// The agent's `--bpf-root`, on a bpffs.
    pub bpf_root: PathBuf,
    /// Where its host processes run.
    pub place: Place,
}

impl Deref for Node {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}
