// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every map with its types, as the agent holds it, and the shape that a pinned one must have.

use std::{fmt, path::PathBuf};

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use lb_common::{
    addr::Addr,
    affinity::{AffinityKey, AffinityPin, Member, MemberKey},
    backend::{Backend, BackendLoad},
    config::Config,
    counter::Counter,
    flow::{FlowEntry, FlowKey},
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    maps::{
        self, BYPASS_LEN, Capacities, EVENTS_LEN, NODE_ADDRS_LEN, NODEPORTS_LEN, NodePort,
        POD_DEVICES_LEN, SERVICE_CIDRS_LEN,
    },
    name::ServiceName,
    range::{Admission, CidrKey, CidrRule, RangeKey},
    service::Service,
    slot::Slot,
    socket::{OverKey, SocketRecord},
};

use super::{arrays::Array, hashes::Hash, syscall::MapDescription};

/// The maps, open.
pub struct Maps {
    /// FRONTENDS4.
    pub frontends4: Hash<FrontendKey4, FrontendValue>,
    /// FRONTENDS6.
    pub frontends6: Hash<FrontendKey6, FrontendValue>,
    /// SERVICES.
    pub services: Array<Service>,
    /// SLOTS.
    pub slots: Array<Slot>,
    /// BACKENDS.
    pub backends: Array<Backend>,
    /// BACKEND_LOAD.
    pub backend_load: Array<BackendLoad>,
    /// MEMBERS.
    pub members: Hash<MemberKey, Member>,
    /// SOURCE_RANGES.
    pub source_ranges: Hash<RangeKey, Admission>,
    /// SERVICE_CIDRS.
    pub service_cidrs: Hash<CidrKey, CidrRule>,
    /// NAMES.
    pub names: Hash<u32, ServiceName>,
    /// NODEPORTS.
    pub node_ports: Array<NodePort>,
    /// NODE_ADDRS.
    pub node_addresses: Hash<Addr, u32>,
    /// SOCKETS: not mapped, since nobody but `show` looks into it and mapped pages count as
    /// the agent's memory.
    pub sockets: MapData,
    /// SOCKETS_OVER.
    pub sockets_over: Hash<OverKey, SocketRecord>,
    /// AFFINITY.
    pub affinity: Hash<AffinityKey, AffinityPin>,
    /// FLOWS.
    pub flows: Hash<FlowKey, FlowEntry>,
    /// BYPASS.
    pub bypass: Hash<u64, u32>,
    /// POD_DEVICES.
    pub pod_devices: Hash<u32, u32>,
    /// COUNTERS.
    pub counters: PerCpuArray<MapData, u64>,
    /// CONFIG.
    pub config: Array<Config>,
}

/// What a map must look like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The map's name.
    pub name: &'static str,
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// BPF_F_*.
    pub flags: u32,
    /// What it stands and falls with.
    pub role: Role,
    /// How many elements a capacity asks for.
    pub entries: fn(&Capacities) -> u32,
}

/// How a map depends on others, which decides what survives when one does not fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Holds or names indexes of Services, slots and backends. All grow together.
    Table,
    /// BACKENDS: a table that names nothing, and which sockets' records name.
    Backend,
    /// BACKEND_LOAD: grows with the tables, and counts what the sockets' records hold.
    Load,
    /// Sockets' records: name backends by index.
    Socket,
    /// FLOWS: names backends by index, and no load counts them.
    Flow,
    /// Names indexes or ids of the tables, and never grows.
    Dependent,
    /// Names nothing.
    Alone,
}

impl Maps {
    /// Opens every map at the path that `place` has for its name.
    ///
    /// # Errors
    ///
    /// The name of the map that could not be opened, and why.
    pub fn open(place: impl Fn(&str) -> PathBuf) -> Result<Self, (&'static str, MapError)> {
        let open = |name| MapData::from_pin(place(name)).map_err(|error| (name, error));
        let counters = || {
            let map = Map::from_map_data(MapData::from_pin(place(maps::COUNTERS))?)?;
            PerCpuArray::try_from(map)
        };
        Ok(Self {
            frontends4: typed_hash(maps::FRONTENDS4, open)?,
            frontends6: typed_hash(maps::FRONTENDS6, open)?,
            services: typed_array(maps::SERVICES, open)?,
            slots: typed_array(maps::SLOTS, open)?,
            backends: typed_array(maps::BACKENDS, open)?,
            backend_load: typed_array(maps::BACKEND_LOAD, open)?,
            members: typed_hash(maps::MEMBERS, open)?,
            source_ranges: typed_hash(maps::SOURCE_RANGES, open)?,
            service_cidrs: typed_hash(maps::SERVICE_CIDRS, open)?,
            names: typed_hash(maps::NAMES, open)?,
            node_ports: typed_array(maps::NODEPORTS, open)?,
            node_addresses: typed_hash(maps::NODE_ADDRS, open)?,
            sockets: open(maps::SOCKETS)?,
            sockets_over: typed_hash(maps::SOCKETS_OVER, open)?,
            affinity: typed_hash(maps::AFFINITY, open)?,
            flows: typed_hash(maps::FLOWS, open)?,
            bypass: typed_hash(maps::BYPASS, open)?,
            pod_devices: typed_hash(maps::POD_DEVICES, open)?,
            counters: counters().map_err(|error| (maps::COUNTERS, error))?,
            config: typed_array(maps::CONFIG, open)?,
        })
    }

    /// How many elements one of the maps that sockets fill can hold.
    pub fn capacity(&self, map: &str) -> u64 {
        let shape = SHAPES.iter().find(|shape| shape.name == map);
        shape.map_or(0, |shape| (shape.entries)(&Capacities::MINIMUM).into())
    }

    /// Words and elements that were written through these handles.
    pub fn writes(&self) -> u64 {
        let arrays = self.services.writes()
            + self.slots.writes()
            + self.backends.writes()
            + self.backend_load.writes()
            + self.node_ports.writes()
            + self.config.writes();
        let hashes = self.frontends4.writes()
            + self.frontends6.writes()
            + self.members.writes()
            + self.names.writes()
            + self.source_ranges.writes()
            + self.service_cidrs.writes()
            + self.node_addresses.writes()
            + self.bypass.writes()
            + self.pod_devices.writes();
        arrays + hashes
    }
}

impl fmt::Debug for Maps {
    /// Only the sizes: the contents are the kernel's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps")
            .field("services", &self.services.len())
            .field("backends", &self.backends.len())
            .finish_non_exhaustive()
    }
}

impl Shape {
    /// Whether a map has this shape, whatever its number of elements; maps that never grow
    /// must have the right number, too.
    pub fn fits(&self, found: &MapDescription) -> bool {
        let entries_fit = match self.role {
            Role::Table | Role::Backend | Role::Load => found.max_entries > 0,
            Role::Socket | Role::Flow | Role::Dependent | Role::Alone if self.follows_cluster() => {
                found.max_entries.is_power_of_two()
            }
            Role::Socket | Role::Flow | Role::Dependent | Role::Alone => {
                found.max_entries == (self.entries)(&Capacities::MINIMUM)
            }
        };
        entries_fit
            && found.map_type == self.map_type
            && found.key_size == self.key_size
            && found.value_size == self.value_size
            && found.flags == self.flags
    }

    /// Whether the number of elements depends on the cluster at all.
    fn follows_cluster(&self) -> bool {
        matches!(self.name, maps::SOCKETS | maps::SOCKETS_OVER | maps::AFFINITY | maps::FLOWS)
    }
}

fn typed_hash<K: bytemuck::Pod, V: bytemuck::Pod>(
    name: &'static str,
    open: impl Fn(&'static str) -> Result<MapData, (&'static str, MapError)>,
) -> Result<Hash<K, V>, (&'static str, MapError)> {
    Hash::new(open(name)?).map_err(|error| (name, error))
}

fn typed_array<T: bytemuck::Pod>(
    name: &'static str,
    open: impl Fn(&'static str) -> Result<MapData, (&'static str, MapError)>,
) -> Result<Array<T>, (&'static str, MapError)> {
    let map = open(name)?;
    let describe = || {
        let entries = map.info()?.max_entries();
        Array::map(map.fd(), entries).map_err(MapError::IoError)
    };
    describe().map_err(|error| (name, error))
}

const fn hash<K, V>(name: &'static str, role: Role, entries: fn(&Capacities) -> u32) -> Shape {
    shape::<K, V>(name, BPF_MAP_TYPE_HASH, 0, role, entries)
}

const fn sparse<K, V>(name: &'static str, role: Role, entries: fn(&Capacities) -> u32) -> Shape {
    shape::<K, V>(name, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, role, entries)
}

const fn trie<K, V>(name: &'static str, role: Role, entries: fn(&Capacities) -> u32) -> Shape {
    shape::<K, V>(name, BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC, role, entries)
}

const fn array<T>(name: &'static str, role: Role, entries: fn(&Capacities) -> u32) -> Shape {
    shape::<u32, T>(name, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, role, entries)
}

#[expect(clippy::cast_possible_truncation, reason = "sizes of the contract's structs")]
const fn shape<K, V>(
    name: &'static str,
    map_type: u32,
    flags: u32,
    role: Role,
    entries: fn(&Capacities) -> u32,
) -> Shape {
    let (key_size, value_size) = (size_of::<K>() as u32, size_of::<V>() as u32);
    Shape { name, map_type, key_size, value_size, flags, role, entries }
}

/// The shape of every map.
pub const SHAPES: [Shape; 21] = [
    hash::<FrontendKey4, FrontendValue>(maps::FRONTENDS4, Role::Table, |sizes| sizes.frontends),
    hash::<FrontendKey6, FrontendValue>(maps::FRONTENDS6, Role::Table, |sizes| sizes.frontends),
    array::<Service>(maps::SERVICES, Role::Table, |sizes| sizes.services),
    array::<Slot>(maps::SLOTS, Role::Table, |sizes| sizes.slots),
    array::<Backend>(maps::BACKENDS, Role::Backend, |sizes| sizes.backends),
    array::<BackendLoad>(maps::BACKEND_LOAD, Role::Load, |sizes| sizes.backends),
    sparse::<MemberKey, Member>(maps::MEMBERS, Role::Table, |sizes| sizes.members),
    sparse::<u32, ServiceName>(maps::NAMES, Role::Table, |sizes| sizes.services),
    trie::<RangeKey, Admission>(maps::SOURCE_RANGES, Role::Table, |sizes| sizes.source_ranges),
    trie::<CidrKey, CidrRule>(maps::SERVICE_CIDRS, Role::Alone, |_| SERVICE_CIDRS_LEN),
    array::<NodePort>(maps::NODEPORTS, Role::Dependent, |_| NODEPORTS_LEN),
    hash::<Addr, u32>(maps::NODE_ADDRS, Role::Alone, |_| NODE_ADDRS_LEN),
    array::<SocketRecord>(maps::SOCKETS, Role::Socket, |sizes| sizes.sockets),
    sparse::<OverKey, SocketRecord>(maps::SOCKETS_OVER, Role::Socket, |sizes| sizes.sockets_over),
    shape::<AffinityKey, AffinityPin>(
        maps::AFFINITY,
        BPF_MAP_TYPE_LRU_HASH,
        0,
        Role::Dependent,
        |sizes| sizes.affinity,
    ),
    sparse::<FlowKey, FlowEntry>(maps::FLOWS, Role::Flow, |sizes| sizes.flows),
    sparse::<u64, u32>(maps::BYPASS, Role::Alone, |_| BYPASS_LEN),
    sparse::<u32, u32>(maps::POD_DEVICES, Role::Alone, |_| POD_DEVICES_LEN),
    shape::<u32, u64>(maps::COUNTERS, BPF_MAP_TYPE_PERCPU_ARRAY, 0, Role::Alone, |_| {
        Counter::COUNT
    }),
    shape::<(), ()>(maps::EVENTS, BPF_MAP_TYPE_RINGBUF, 0, Role::Alone, |_| EVENTS_LEN),
    array::<Config>(maps::CONFIG, Role::Alone, |_| 1),
];

const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_PERCPU_ARRAY: u32 = 6;
const BPF_MAP_TYPE_LRU_HASH: u32 = 9;
const BPF_MAP_TYPE_LPM_TRIE: u32 = 11;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;
const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_F_MMAPABLE: u32 = 1 << 10;
