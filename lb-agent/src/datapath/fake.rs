// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The maps in memory, with faults that come when a seed says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use lb_common::maps::{self, Capacities, NODE_ADDRS_LEN, SERVICE_CIDRS_LEN};

use super::{
    Datapath, Error, Failed, Grace, Growth, Own, at_least,
    load::{Devices, LoadError},
};
use crate::plan::{op::Op, tables::Tables};

/// Maps in memory. Public fields, so that a test can do to them what others do to a
/// kernel's maps.
#[derive(Clone, Debug)]
pub struct Fake {
    /// What is in the maps.
    pub tables: Tables,
    /// How much fits.
    pub capacities: Capacities,
    /// What [`Datapath::grow`] says; it gives what is asked for only if that is
    /// [`Growth::Grown`].
    pub growth: Growth,
    /// BACKEND_LOAD, by backend.
    pub loads: BTreeMap<u32, u64>,
    /// Of 100 hash map writes, graces and dumps, how many fail.
    pub faults_percent: u64,
    /// Ops that fail at every try.
    pub refused: Vec<Op>,
    /// Everything fails after so many executed ops: the agent was killed there.
    pub crash_after: Option<u64>,
    /// What [`Datapath::set_devices`] said last.
    pub uplinks: (Devices, Own),
    /// A device at which no program can be attached.
    pub unservable: Option<Arc<str>>,
    /// What [`Datapath::set_pod_devices`] and [`Datapath::set_bypass`] said last.
    pub pods: (BTreeSet<u32>, BTreeSet<u64>),
    /// Ops executed so far, graces among them.
    pub ops: u64,
    /// Ops executed so far, graces left out.
    pub writes: u64,
    random: u64,
}

impl Fake {
    /// Empty maps of the smallest sizes. The seed alone decides when faults come.
    pub fn new(seed: u64) -> Self {
        Self {
            tables: Tables::default(),
            capacities: Capacities::MINIMUM,
            growth: Growth::Grown,
            loads: BTreeMap::new(),
            faults_percent: 0,
            refused: Vec::new(),
            crash_after: None,
            uplinks: Default::default(),
            unservable: None,
            pods: Default::default(),
            ops: 0,
            writes: 0,
            random: seed | 1,
        }
    }

    fn execute(&mut self, op: &Op) -> Result<(), Error> {
        self.fail_if_crashed()?;
        // Plain stores into mapped memory cannot fail; system calls can.
        if let Some((map, room)) = self.system_call(op) {
            self.fail_by_chance("update", map)?;
            if !room {
                let source = io::Error::from_raw_os_error(ARGUMENT_LIST_TOO_LONG);
                return Err(Error::Map { operation: "update", map, source });
            }
        }
        if self.refused.contains(op) {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(Error::Map { operation: "update", map: "refused", source });
        }
        self.tables.apply(op);
        self.ops += 1;
        self.writes += u64::from(op.is_write());
        Ok(())
    }

    /// The map that an op needs a system call for, and whether it has room for the op.
    fn system_call(&self, op: &Op) -> Option<(&'static str, bool)> {
        let Tables { frontends4, frontends6, names, members, node_addresses, .. } = &self.tables;
        let Tables { source_ranges, service_cidrs, .. } = &self.tables;
        let fits = |held: usize, limit: u32| held < limit as usize;
        Some(match op {
            Op::Frontend4 { key, value } => {
                let known = value.is_none() || frontends4.contains_key(key);
                (maps::FRONTENDS4, known || fits(frontends4.len(), self.capacities.frontends))
            }
            Op::Frontend6 { key, value } => {
                let known = value.is_none() || frontends6.contains_key(key);
                (maps::FRONTENDS6, known || fits(frontends6.len(), self.capacities.frontends))
            }
            Op::Name { id, text } => {
                let known = text.is_none() || names.contains_key(id);
                (maps::NAMES, known || fits(names.len(), self.capacities.services))
            }
            Op::Member { key, member } => {
                let known = member.is_none() || members.contains_key(key);
                (maps::MEMBERS, known || fits(members.len(), self.capacities.members))
            }
            Op::SourceRange { key, admission } => {
                let known = admission.is_none() || source_ranges.contains_key(key);
                let room = fits(source_ranges.len(), self.capacities.source_ranges);
                (maps::SOURCE_RANGES, known || room)
            }
            Op::ServiceCidr { key, rule } => {
                let known = rule.is_none() || service_cidrs.contains_key(key);
                (maps::SERVICE_CIDRS, known || fits(service_cidrs.len(), SERVICE_CIDRS_LEN))
            }
            Op::NodeAddress { address, present } => {
                let known = !present || node_addresses.contains(address);
                (maps::NODE_ADDRS, known || fits(node_addresses.len(), NODE_ADDRS_LEN))
            }
            Op::Grace => ("none", true),
            _ => return self.past_the_end(op).map(|map| (map, false)),
        })
    }

    /// The array that ends before what an op writes.
    fn past_the_end(&self, op: &Op) -> Option<&'static str> {
        let (map, end, capacity) = match op {
            Op::Slots { base, slots } => {
                (maps::SLOTS, u64::from(*base) + slots.len() as u64, self.capacities.slots)
            }
            Op::Service { index, .. } => {
                (maps::SERVICES, u64::from(*index) + 1, self.capacities.services)
            }
            Op::Backend { index, .. } => {
                (maps::BACKENDS, u64::from(*index) + 1, self.capacities.backends)
            }
            _ => return None,
        };
        (end > u64::from(capacity)).then_some(map)
    }

    fn fail_if_crashed(&self) -> Result<(), Error> {
        if self.crash_after.is_some_and(|limit| self.ops >= limit) {
            let source = io::Error::from(io::ErrorKind::BrokenPipe);
            return Err(Error::Map { operation: "reach", map: "any", source });
        }
        Ok(())
    }

    fn fail_by_chance(&mut self, operation: &'static str, map: &'static str) -> Result<(), Error> {
        // xorshift64 (Marsaglia 2003): a seeded source of bits is all that is needed.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if self.random % 100 < self.faults_percent {
            let source = io::Error::from(io::ErrorKind::OutOfMemory);
            return Err(Error::Map { operation, map, source });
        }
        Ok(())
    }
}

impl Datapath for Fake {
    fn capacities(&self) -> Capacities {
        self.capacities
    }

    fn dump(&mut self) -> Result<Tables, Error> {
        self.fail_if_crashed()?;
        self.fail_by_chance("read", maps::FRONTENDS4)?;
        Ok(self.tables.clone())
    }

    /// Fails by chance and after a crash; the wait itself is over at once.
    fn grace(&mut self) -> Grace {
        let outcome = self.execute(&Op::Grace);
        Box::new(|| outcome)
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), Failed> {
        for (done, op) in ops.iter().enumerate() {
            self.execute(op).map_err(|source| Failed { done, source })?;
        }
        Ok(())
    }

    fn set_devices(
        &mut self,
        uplinks: &Devices,
        pods: &Devices,
        own: Own,
    ) -> Result<Vec<LoadError>, LoadError> {
        let all = uplinks.iter().chain(pods);
        self.uplinks = (all.map(|(index, name)| (*index, name.clone())).collect(), own);
        let unservable = uplinks.values().filter(|name| Some(*name) == self.unservable.as_ref());
        let unserved = unservable.map(|device| {
            let (program, device) = ("tc_ingress", device.clone());
            let source = io::Error::from_raw_os_error(NO_MEMORY);
            LoadError::Device { program, device, source }
        });
        Ok(unserved.collect())
    }

    fn set_pod_devices(&mut self, devices: &BTreeSet<u32>) -> Result<(), Error> {
        self.pods.0.clone_from(devices);
        Ok(())
    }

    fn set_bypass(&mut self, namespaces: &BTreeSet<u64>) -> Result<(), Error> {
        self.pods.1.clone_from(namespaces);
        Ok(())
    }

    fn load(&self, backend: u32) -> u64 {
        self.loads.get(&backend).copied().unwrap_or(0)
    }

    fn writes(&self) -> u64 {
        self.writes
    }

    fn grow(&mut self, wanted: &Capacities) -> Result<Growth, Error> {
        self.fail_if_crashed()?;
        if self.growth == Growth::Grown {
            self.capacities = at_least(&self.capacities, wanted);
        }
        Ok(self.growth)
    }
}

/// E2BIG: what a hash map says that is full.
const ARGUMENT_LIST_TOO_LONG: i32 = 7;
/// ENOMEM: what the kernel may say to any attachment.
const NO_MEMORY: i32 = 12;
