// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's maps as a [`Datapath`].

use std::{
    collections::BTreeSet, error::Error as _, fmt, fs, io, iter, mem::offset_of, path::Path,
    sync::Arc,
};

use aya::maps::{Map, MapData, MapError, PerCpuArray, PerCpuValues};
use lb_common::{
    addr::Addr,
    config::{Config, PortRange},
    counter::Counter,
    maps::{self, Capacities, NodePort},
    range::CidrRule,
    socket::{OverKey, SocketRecord},
};

use super::{
    Datapath, Error, Failed, Grace, Growth, Own, arrays, at_least, at_most,
    hashes::Hash,
    load::{Devices, Generation, Hook, LoadError, Loader, Options, Outcome, Skipped},
    maps::Maps,
    syscall,
};
use crate::plan::{
    op::Op,
    tables::{Array, Tables},
};

mod batch;

/// The maps and programs of this node, and the lock on them.
#[derive(Debug)]
pub struct Kernel {
    loader: Loader,
    generation: Generation,
    /// Writes to maps of earlier generations.
    writes: u64,
    /// Of all writes, those that were not a plan's.
    aside: u64,
    /// Beyond these sizes maps do not grow.
    limits: Capacities,
    /// Whether the programs run.
    attached: bool,
    /// Where XDP is left out.
    skipped: Vec<Skipped>,
}

/// COUNTERS alone, for who looks at a few of them again and again.
pub struct Tally(PerCpuArray<MapData, u64>);

impl Tally {
    /// Opens the map that is pinned there.
    ///
    /// # Errors
    /// The kernel's, and for what is another map.
    pub fn open(pin: &Path) -> Result<Self, MapError> {
        Ok(Self(Map::from_map_data(MapData::from_pin(pin)?)?.try_into()?))
    }

    /// A counter's sum over the CPUs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, counter: Counter) -> io::Result<u64> {
        let values = self.0.get(&counter.index(), 0).map_err(io::Error::other)?;
        Ok(values.iter().sum())
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").finish_non_exhaustive()
    }
}

impl Kernel {
    /// Brings the maps and programs into being. What runs goes on running: nothing is
    /// attached or replaced before [`Kernel::attach`].
    pub fn open(options: &Options, wanted: &Capacities) -> Result<Self, LoadError> {
        let loader = Loader::new(options)?;
        for layout in loader.other_layouts() {
            tracing::warn!(pins = %layout.display(), "maps of another layout: sockets' records and affinity pins cannot be converted; its programs run until ours are filled");
        }
        let limits = options.limits;
        let generation = loader.build(&at_most(wanted, &limits))?;
        say(loader.directory(), &generation);
        Ok(Self {
            loader,
            generation,
            writes: 0,
            aside: 0,
            limits,
            attached: false,
            skipped: Vec::new(),
        })
    }

    /// Makes the programs run: attaches them or puts them in the place of those that run.
    /// Nothing is written if they run already. Call it when the maps are filled.
    pub fn attach(&mut self) -> Result<(), LoadError> {
        self.loader.attach(&self.generation)?;
        self.attached = true;
        Ok(())
    }

    /// The hook whose program does not run, if there is one.
    pub fn idle_hook(&self) -> Option<&'static Hook> {
        self.loader.idle_hook(&self.generation)
    }

    /// How maps and programs came about.
    pub const fn outcome(&self) -> &Outcome {
        &self.generation.outcome
    }

    /// The maps.
    pub const fn maps(&self) -> &Maps {
        &self.generation.maps
    }

    /// The maps, to be written by whoever knows what a plan does not: BYPASS and CONFIG.
    pub const fn maps_mut(&mut self) -> &mut Maps {
        &mut self.generation.maps
    }

    /// The maps' sizes. A plan gets a little less: see [`Datapath::capacities`].
    pub const fn sizes(&self) -> Capacities {
        self.generation.capacities
    }

    /// What loads and attaches.
    pub const fn loader(&self) -> &Loader {
        &self.loader
    }

    /// The ids of the programs.
    pub fn programs(&self) -> impl Iterator<Item = u32> {
        self.generation.program_ids()
    }

    /// Executes ops that belong to no plan and are undone again: no writes, as the count goes.
    pub(super) fn apply_aside(&mut self, ops: &[Op]) -> Result<(), Failed> {
        let before = self.generation.maps.writes();
        let result = self.apply(ops);
        self.aside += self.generation.maps.writes() - before;
        result
    }
}

impl Datapath for Kernel {
    /// All but the last elements, which are the self-test's.
    fn capacities(&self) -> Capacities {
        let Capacities { frontends, services, slots, backends, .. } = self.generation.capacities;
        Capacities {
            frontends: frontends - 1,
            services: services - 1,
            slots: slots - 1,
            backends: backends - 1,
            ..self.generation.capacities
        }
    }

    fn dump(&mut self) -> Result<Tables, Error> {
        let tables = dump(&self.generation.maps)?;
        admit(&mut self.generation.maps.config, &tables);
        Ok(tables)
    }

    fn grace(&mut self) -> Grace {
        Box::new(|| {
            syscall::wait_for_grace();
            Ok(())
        })
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), Failed> {
        let mut done = 0;
        while let Some(rest) = ops.get(done..).filter(|rest| !rest.is_empty()) {
            match batch::execute(&mut self.generation.maps, rest) {
                Ok(executed) => done += executed,
                Err(failed) => {
                    return Err(Failed { done: done + failed.done, source: failed.source });
                }
            }
        }
        Ok(())
    }

    fn set_devices(
        &mut self,
        uplinks: &Devices,
        pods: &Devices,
        own: Own,
    ) -> Result<Vec<LoadError>, LoadError> {
        let v4 = own.0.map_or_else(Addr::default, Addr::from);
        let v6 = own.1.map_or_else(Addr::default, Addr::from);
        let config = &mut self.generation.maps.config;
        let before = config.read(0).map(|config| [config.snat4, config.snat6]);
        for address in before.into_iter().flatten() {
            // Replies of flows that left by it go on coming to it.
            if address != Addr::default() && ![v4, v6].contains(&address) {
                config.admit(address);
            }
        }
        config.set_own(v4, v6, local_ports());
        let mut skipped = Vec::new();
        let outcome = self.loader.follow(&mut self.generation, uplinks, pods, &mut skipped);
        if self.skipped != skipped {
            for Skipped { device, reason } in &skipped {
                tracing::info!(%device, reason, "no XDP here: tc alone serves");
            }
            self.skipped = skipped;
        }
        outcome
    }

    fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    fn set_pod_devices(&mut self, devices: &BTreeSet<u32>) -> Result<(), Error> {
        keep_only(&mut self.generation.maps.pod_devices, devices, maps::POD_DEVICES)
    }

    /// CONFIG says that there are some only when they are all there, and none before they go.
    fn set_bypass(&mut self, namespaces: &BTreeSet<u64>) -> Result<(), Error> {
        let count = u32::try_from(namespaces.len()).unwrap_or(u32::MAX);
        let config = &mut self.generation.maps.config;
        if count == 0 {
            config.write_word(0, offset_of!(Config, bypassed_namespaces), 0);
        }
        keep_only(&mut self.generation.maps.bypass, namespaces, maps::BYPASS)?;
        let config = &mut self.generation.maps.config;
        config.write_word(
            0,
            offset_of!(Config, bypassed_namespaces),
            bytemuck::must_cast([count, 0]),
        );
        Ok(())
    }

    fn load(&self, backend: u32) -> u64 {
        self.generation.maps.backend_load.read(backend).map_or(0, |load| load.sockets)
    }

    fn writes(&self) -> u64 {
        self.writes + self.generation.maps.writes() - self.aside
    }

    fn grow(&mut self, wanted: &Capacities) -> Result<Growth, Error> {
        let before = self.generation.capacities;
        let wanted = at_least(&before, &at_most(wanted, &self.limits));
        if wanted == before {
            return Ok(Growth::AtLimit);
        }
        let grown = match self.loader.build(&wanted) {
            Ok(grown) => grown,
            Err(error) => {
                let cause = iter::successors(error.source(), |&error| error.source()).last();
                let cause = cause.map(ToString::to_string);
                tracing::warn!(%error, cause, "no larger maps: what does not fit waits");
                return Ok(Growth::Refused);
            }
        };
        if self.attached {
            self.loader.attach(&grown).map_err(failed_to_grow)?;
        }
        say(self.loader.directory(), &grown);
        self.writes += self.generation.maps.writes();
        self.generation = grown;
        let has_grown = self.generation.capacities != before;
        Ok(if has_grown { Growth::Grown } else { Growth::AtLimit })
    }
}

/// Makes a set of keys, each with the value 1, what a map holds.
fn keep_only<K: bytemuck::Pod + Ord>(
    map: &mut Hash<K, u32>,
    wanted: &BTreeSet<K>,
    name: &'static str,
) -> Result<(), Error> {
    let there = map.dump().map_err(unreadable(name))?;
    let there: BTreeSet<K> = there.into_iter().map(|(key, _)| key).collect();
    let gone: Vec<_> = there.difference(wanted).copied().collect();
    let refused = |operation| move |source| Error::Map { operation, map: name, source };
    map.remove_all(&gone).map_err(|failed| refused("delete from")(failed.source))?;
    for key in wanted.difference(&there) {
        map.put(*key, 1).map_err(refused("update"))?;
    }
    Ok(())
}

/// Reads everything that the agent owns.
pub fn dump(maps: &Maps) -> Result<Tables, Error> {
    let names = maps.names.dump().map_err(unreadable(maps::NAMES))?;
    let node_ports = (0..).zip(maps.node_ports.written());
    let node_addresses = maps.node_addresses.dump().map_err(unreadable(maps::NODE_ADDRS))?;
    Ok(Tables {
        frontends4: read_all(maps.frontends4.dump(), maps::FRONTENDS4)?,
        frontends6: read_all(maps.frontends6.dump(), maps::FRONTENDS6)?,
        node_ports: node_ports.filter(|(_, port)| *port != NodePort::default()).collect(),
        node_addresses: node_addresses.into_iter().map(|(address, _)| address).collect(),
        services: Array::from(maps.services.written().as_slice()),
        slots: Array::from(maps.slots.written().as_slice()),
        backends: Array::from(maps.backends.written().as_slice()),
        source_ranges: read_all(maps.source_ranges.dump(), maps::SOURCE_RANGES)?,
        service_cidrs: read_all(maps.service_cidrs.dump(), maps::SERVICE_CIDRS)?,
        members: read_all(maps.members.dump(), maps::MEMBERS)?,
        names: names.into_iter().map(|(id, name)| (id, Arc::from(name.as_str()))).collect(),
    })
}

/// The counters, added up over the CPUs, in the order of [`Counter::ALL`].
pub fn counters(maps: &Maps) -> Result<Vec<(Counter, u64)>, Error> {
    let read = |counter: &Counter| {
        let values = maps.counters.get(&counter.index(), 0).map_err(io::Error::other)?;
        Ok((*counter, values.iter().sum()))
    };
    Counter::ALL.iter().map(read).collect::<io::Result<_>>().map_err(unreadable(maps::COUNTERS))
}

/// Adds to a counter that the agent counts, not a program.
pub fn count(maps: &mut Maps, counter: Counter, more: u64) -> Result<(), Error> {
    let mut add = || {
        let mut values = maps.counters.get(&counter.index(), 0)?.to_vec();
        if let Some(first) = values.first_mut() {
            *first = first.wrapping_add(more);
        }
        maps.counters.set(counter.index(), PerCpuValues::try_from(values)?, 0)
    };
    let failed = |source| Error::Map { operation: "update", map: maps::COUNTERS, source };
    add().map_err(|error: MapError| failed(io::Error::other(error)))
}

/// The records of the sockets that were translated, those of SOCKETS_OVER last.
pub fn sockets(maps: &Maps) -> Result<Vec<SocketRecord>, Error> {
    let over = over_records(maps)?;
    let array = socket_places(maps)?;
    let placed = (0..array.len()).filter_map(|index| array.read_record(index));
    Ok(placed.chain(over.into_iter().map(|(_, record)| record)).collect())
}

/// SOCKETS, mapped for as long as this lives: 8 MB.
pub fn socket_places(maps: &Maps) -> Result<arrays::Array<SocketRecord>, Error> {
    let len = syscall::describe_map(maps.sockets.fd()).map(|map| map.max_entries);
    let array = len.and_then(|len| arrays::Array::map(maps.sockets.fd(), len));
    array.map_err(unreadable(maps::SOCKETS))
}

/// SOCKETS_OVER.
pub fn over_records(maps: &Maps) -> Result<Vec<(OverKey, SocketRecord)>, Error> {
    maps.sockets_over.dump().map_err(unreadable(maps::SOCKETS_OVER))
}

/// net.ipv4.ip_local_port_range, which holds for IPv6 too; empty if it cannot be read.
fn local_ports() -> PortRange {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ports = text.split_whitespace().filter_map(|port| port.parse().ok());
    ports.fold(PortRange::default(), PortRange::with)
}

/// Makes the programs look for every frontend that is there: CONFIG may be newer than they.
fn admit(config: &mut arrays::Array<Config>, tables: &Tables) {
    let v4 = tables.frontends4.keys().map(|key| Addr::from_v4(key.address));
    for address in v4.chain(tables.frontends6.keys().map(|key| key.address)) {
        config.admit(address);
    }
    for (key, rule) in &tables.service_cidrs {
        if *rule == CidrRule::SERVICE_CIDR {
            config.admit_prefix(key.address, key.prefix_len);
        }
    }
    for index in tables.node_ports.keys() {
        config.admit_node_port(maps::node_port_of(*index));
    }
}

fn read_all<K, V, C: FromIterator<(K, V)>>(
    elements: io::Result<Vec<(K, V)>>,
    map: &'static str,
) -> Result<C, Error> {
    Ok(elements.map_err(unreadable(map))?.into_iter().collect())
}

fn unreadable(map: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Map { operation: "read", map, source }
}

fn failed_to_grow(error: LoadError) -> Error {
    Error::Map { operation: "enlarge", map: "generation", source: io::Error::other(error) }
}

/// One line on how maps and programs came about.
fn say(directory: &Path, generation: &Generation) {
    match &generation.outcome {
        Outcome::Unchanged => tracing::info!("the pinned programs and maps are the right ones"),
        Outcome::Fresh => tracing::info!("loaded programs with new maps"),
        Outcome::Upgraded => tracing::info!("loaded new programs over the pinned maps"),
        Outcome::Grown => tracing::info!("loaded programs over larger maps with the same contents"),
        Outcome::Rebuilt(misfits) => {
            let misfits: Vec<_> = misfits.iter().map(ToString::to_string).collect();
            tracing::warn!(
                pins = %format_args!("{}: {}", directory.display(), misfits.join("; ")),
                made_anew = generation.fresh.join(","),
                "pins cannot be used as they are: made anew with what names their indexes, all else is kept; the programs that run go on until the new ones are filled"
            );
        }
    }
}
