// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How many flows FLOWS has room for: pure but for reading the node's memory.

use std::{fs, path::Path};

use lb_common::maps::Capacities;

/// What the default follows.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Bytes of memory that the node has.
    pub memory: u64,
    /// Bytes that the agent and its maps may take: its cgroup's limit, or as much as there is.
    pub limit: u64,
    /// What kube-proxy would give conntrack (CT-10); 0 if it is to leave that alone.
    pub conntrack_max: u64,
}

impl Node {
    /// This one.
    pub fn here(conntrack_max: u64) -> Self {
        let memory = memory().unwrap_or(0);
        let limit = limit(Path::new("/")).unwrap_or(u64::MAX);
        Self { memory, limit: limit.min(memory), conntrack_max }
    }

    /// Flows that there is room for if nobody says otherwise.
    ///
    /// One for each 16 KiB of the node's memory, which is what the kernel gives conntrack at
    /// 1 GiB (65 536) and at 4 GiB (262 144; `nf_conntrack_init_start` in
    /// net/netfilter/nf_conntrack_core.c), and goes on where the kernel stops, up to a million;
    /// or what kube-proxy gives conntrack, if that is more. Never so many that they would take
    /// half of the agent's memory.
    pub fn flows(&self) -> u64 {
        let most = self.limit / 2 / BYTES_A_FLOW;
        (self.memory / BYTES_FOR_A_FLOW).max(self.conntrack_max).min(MOST).min(most)
    }
}

/// Elements of FLOWS for so many flows: a power of two, two a flow, and no fewer than the
/// smallest table has.
pub fn entries(flows: u64) -> u32 {
    let wanted = u32::try_from(flows.saturating_mul(2)).unwrap_or(u32::MAX);
    let wanted = wanted.clamp(Capacities::MINIMUM.flows, Capacities::MAXIMUM.flows);
    wanted.next_power_of_two()
}

/// Bytes of memory that the node has.
fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// The smallest memory limit of the agent's cgroup and those above it, as far as they can be
/// seen: that of a container, from inside of it.
fn limit(root: &Path) -> Option<u64> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    let mount = ["sys/fs/cgroup", "sys/fs/cgroup/unified"].map(|mount| root.join(mount));
    let mount = mount.into_iter().find(|mount| mount.join("cgroup.controllers").exists())?;
    let place = mount.join(own);
    let places = place.ancestors().take_while(|place| place.starts_with(&mount));
    let limits = places
        .filter_map(|place| fs::read_to_string(place.join("memory.max")).ok()?.trim().parse().ok());
    limits.min()
}

/// The kernel's own measure for conntrack.
const BYTES_FOR_A_FLOW: u64 = 16 << 10;
/// What a flow takes in FLOWS: two elements of 192 bytes, as the kernel allots them, and two
/// buckets of 16.
const BYTES_A_FLOW: u64 = 2 * (192 + 16);
/// A million, as kube-proxy has it for conntrack.
const MOST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn node(gib: u64, conntrack_max: u64) -> Node {
        Node { memory: gib * GIB, limit: gib * GIB, conntrack_max }
    }

    #[test]
    fn the_default_follows_memory_as_conntrack_does_and_goes_on() {
        for (gib, conntrack_max, flows) in [
            (1, 0, 65_536),
            (4, 0, 262_144),
            (16, 0, 1 << 20),
            (512, 0, 1 << 20),
            (1, 131_072, 131_072),
            (4, 131_072, 262_144),
            (4, 1 << 20, 1 << 20),
        ] {
            assert_eq!(node(gib, conntrack_max).flows(), flows, "{gib} {conntrack_max}");
        }
        let held = Node { limit: 512 << 20, ..node(64, 1 << 20) };
        assert_eq!(held.flows(), 645_277, "half of 512 MiB");
    }

    #[test]
    fn entries_are_two_a_flow_in_powers_of_two() {
        assert_eq!((entries(0), entries(1 << 15), entries(1 << 20)), (1 << 16, 1 << 16, 1 << 21));
        assert_eq!(entries(1_000_000), 1 << 21);
        assert_eq!(entries(u64::MAX), 1 << 30);
    }

    #[test]
    fn the_limit_is_the_smallest_of_the_cgroups_above() {
        let root = TempDir::new().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(limit(root.path()), None);
        put("proc/self/cgroup", "1:net_cls:/\n0::/pods/agent\n");
        put("sys/fs/cgroup/unified/cgroup.controllers", "memory");
        assert_eq!(limit(root.path()), None);
        put("sys/fs/cgroup/unified/pods/agent/memory.max", "max\n");
        put("sys/fs/cgroup/unified/pods/memory.max", "536870912\n");
        assert_eq!(limit(root.path()), Some(512 << 20));
        assert!(memory().unwrap() > 1 << 26);
    }
}
