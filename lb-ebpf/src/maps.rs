// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every map, by the name that `bpftool` shows, and what the programs do with them.
//!
//! Sizes are the smallest; the agent sets the real ones when it loads the programs.
#![expect(unsafe_code, reason = "lookups in hashes hand out pointers")]

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use lb_common::{
    addr::Addr,
    affinity::{AffinityKey, AffinityPin, Member, MemberKey},
    backend::{Backend, BackendFlags, BackendLoad, Life},
    be::Be16,
    config::{Config, NETS_WORDS, NetBit, PortRange},
    counter::Counter,
    event::{Event, Lease, Told},
    flow::{FlowEntry, FlowKey, FlowWords},
    fragment::{FRAGMENTS_LEN, FragmentKey, FragmentPorts},
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    maps::{
        BYPASS_LEN, Capacities, EVENTS_LEN, NODE_ADDRS_LEN, NODEPORTS_LEN, NodePort,
        POD_DEVICES_LEN, SERVICE_CIDRS_LEN,
    },
    name::ServiceName,
    range::{Admission, CidrRule, Guard},
    service::Service,
    slot::Slot,
    socket::{OverKey, SocketRecord},
    translate::Scope,
};

use crate::kernel::{Global, Live};
pub(crate) use crate::scratch::{
    admit_answer, admit_round, aside, launder, paper, put_aside, put_down, put_search, search,
    take_up, tick_ns,
};

// The path holds for the probe too, whose sources are a directory further down.
#[path = "maps/view.rs"]
mod view;

/// Clients' addresses, IPv4.
#[btf_map]
static FRONTENDS4: HashMap<FrontendKey4, FrontendValue, { CAPACITY.frontends as usize }> =
    HashMap::new();

/// Clients' addresses, IPv6.
#[btf_map]
static FRONTENDS6: HashMap<FrontendKey6, FrontendValue, { CAPACITY.frontends as usize }> =
    HashMap::new();

/// NodePorts by protocol row and port.
#[btf_map]
static NODEPORTS: Array<NodePort, { NODEPORTS_LEN as usize }, MMAPABLE> = Array::new();

/// This node's NodePort addresses.
#[btf_map]
static NODE_ADDRS: HashMap<Addr, u32, { NODE_ADDRS_LEN as usize }> = HashMap::new();

/// Service records.
#[btf_map]
static SERVICES: Array<Service, { CAPACITY.services as usize }, MMAPABLE> = Array::new();

/// Slot regions.
#[btf_map]
static SLOTS: Array<Slot, { CAPACITY.slots as usize }, MMAPABLE> = Array::new();

/// Backends.
#[btf_map]
static BACKENDS: Array<Backend, { CAPACITY.backends as usize }, MMAPABLE> = Array::new();

/// Sockets that each backend serves.
#[btf_map]
static BACKEND_LOAD: Array<BackendLoad, { CAPACITY.backends as usize }, MMAPABLE> = Array::new();

/// Per-socket records, direct-mapped by cookie.
#[btf_map]
static SOCKETS: Array<SocketRecord, { CAPACITY.sockets as usize }, MMAPABLE> = Array::new();

/// Per-socket records without a place. No LRU: an evicted record would take its
/// backend's count with it, and a reply's right source.
#[btf_map]
static SOCKETS_OVER: HashMap<OverKey, SocketRecord, { CAPACITY.sockets_over as usize }, SPARSE> =
    HashMap::new();

/// ClientIP pins.
#[btf_map]
static AFFINITY: LruHashMap<AffinityKey, AffinityPin, { CAPACITY.affinity as usize }> =
    LruHashMap::new();

/// Which backends a pin may name.
#[btf_map]
static MEMBERS: HashMap<MemberKey, Member, { CAPACITY.members as usize }, SPARSE> = HashMap::new();

/// Who may reach load balancer addresses.
#[btf_map]
static SOURCE_RANGES: LpmTrie<Guard, Admission, { CAPACITY.source_ranges as usize }> =
    LpmTrie::new();

/// Where ClusterIPs are.
#[btf_map]
static SERVICE_CIDRS: LpmTrie<Addr, CidrRule, { SERVICE_CIDRS_LEN as usize }> = LpmTrie::new();

/// Names of service ids: for people, no program reads them.
#[btf_map]
static NAMES: HashMap<u32, ServiceName, { CAPACITY.services as usize }, SPARSE> = HashMap::new();

/// Flows of the packet path. No LRU: a flow that is in use never makes room for a new one.
#[btf_map]
static FLOWS: HashMap<FlowKey, FlowEntry, { CAPACITY.flows as usize }, SPARSE> = HashMap::new();

/// Ports of packets in pieces. The programs' own: no agent reads it.
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts, { FRAGMENTS_LEN as usize }> =
    LruHashMap::new();

/// Network namespaces to leave alone.
#[btf_map]
static BYPASS: HashMap<u64, u32, { BYPASS_LEN as usize }, SPARSE> = HashMap::new();

/// Devices that lead to pods, whose packets are a client's inside of the cluster.
#[btf_map]
static POD_DEVICES: HashMap<u32, u32, { POD_DEVICES_LEN as usize }, SPARSE> = HashMap::new();

/// Exits by reason.
#[btf_map]
static COUNTERS: PerCpuArray<u64, { Counter::COUNT as usize }> = PerCpuArray::new();

/// What a monitor is told.
#[btf_map]
static EVENTS: RingBuf<Event, { EVENTS_LEN as usize }> = RingBuf::new();

/// This CPU's part in telling events.
#[btf_map]
static TOLD: PerCpuArray<Told, 1> = PerCpuArray::new();

/// What the agent tells us while we run.
#[btf_map]
static CONFIG: Array<Config, 1, MMAPABLE> = Array::new();

/// Next hops, direct-mapped by a hash of a packet's ends.
#[btf_map]
static HOPS: PerCpuArray<HopWords, { HOPS_LEN as usize }> = PerCpuArray::new();

/// SOCKETS' size less one.
#[unsafe(no_mangle)]
static SOCKETS_MASK: Global = Global::new(CAPACITY.sockets as u64 - 1);

/// Why a half of a flow was not added.
#[derive(Clone, Copy)]
pub(crate) enum Occupied {
    /// There is one with the key.
    Key,
    /// There is no room.
    Map,
}

/// Value of HOPS, 64 bytes: `packet::hops` says what is in it.
pub(crate) type HopWords = [u64; 8];

/// The maps, as [`lb_common::translate`] sees them.
pub(crate) struct KernelMaps;

/// The place that a packet's ends have in HOPS, by their hash.
#[expect(clippy::cast_possible_truncation, reason = "the upper bits are left")]
#[inline(always)]
pub(crate) fn hop(hash: u64) -> Option<Live<HopWords>> {
    let index = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - HOPS_LEN.ilog2());
    Live::new(HOPS.get_ptr_mut(index as u32))
}

/// Counts one exit.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter.index()) {
        // SAFETY: the pointer is this CPU's own element; a program is not preempted by
        // another one that counts on the same CPU at the same index, save for a lost
        // increment, which a counter can bear.
        unsafe { *value += 1 };
    }
}

/// The place that a cookie has in SOCKETS, whoever is in it.
#[expect(clippy::cast_possible_truncation, reason = "the mask leaves an index of SOCKETS")]
#[inline(always)]
pub(crate) fn socket_place(cookie: u64) -> Option<Live<SocketRecord>> {
    Live::new(SOCKETS.get_ptr_mut((cookie & SOCKETS_MASK.load()) as u32))
}

/// A record in SOCKETS_OVER.
#[inline(always)]
pub(crate) fn over(key: &OverKey) -> Option<Live<SocketRecord>> {
    Live::new(SOCKETS_OVER.get_ptr_mut(key))
}

/// Adds an empty record of the cookie to SOCKETS_OVER; `None` if the map is full.
#[inline(always)]
pub(crate) fn add_over(key: &OverKey) -> Option<Live<SocketRecord>> {
    let record = SocketRecord { owner: key.cookie, ..SocketRecord::default() };
    SOCKETS_OVER.insert(key, record, u64::from(BPF_ANY)).ok()?;
    over(key)
}

/// Removes a record from SOCKETS_OVER.
#[inline(always)]
pub(crate) fn remove_over(key: &OverKey) {
    // The only error is that it is gone already.
    let _gone = SOCKETS_OVER.remove(key);
}

/// One half of a flow.
#[inline(always)]
pub(crate) fn flow(key: &FlowKey) -> Option<Live<FlowEntry>> {
    Live::new(FLOWS.get_ptr_mut(key))
}

/// The same for a key as words.
#[inline(always)]
pub(crate) fn flow_of(key: &FlowWords) -> Option<Live<FlowEntry>> {
    flow(bytemuck::must_cast_ref(key))
}

/// Adds one half of a flow, unless there is one with that key.
#[inline(always)]
pub(crate) fn add_flow(key: &FlowKey, entry: &FlowEntry) -> Result<(), Occupied> {
    match FLOWS.insert(key, entry, u64::from(BPF_NOEXIST)) {
        Ok(()) => Ok(()),
        Err(error) if i64::from(error) == EEXIST => Err(Occupied::Key),
        Err(_) => Err(Occupied::Map),
    }
}

/// The ports of a packet in pieces.
#[inline(always)]
pub(crate) fn fragment(key: &FragmentKey) -> Option<FragmentPorts> {
    Some(Live::new(FRAGMENTS.get_ptr_mut(key))?.load::<FragmentPorts, 0>())
}

/// Remembers the ports of a packet in pieces.
#[inline(always)]
pub(crate) fn remember_fragment(key: &FragmentKey, ports: &FragmentPorts) {
    // An LRU always has room; the pieces pass untranslated if the kernel says otherwise.
    let _full = FRAGMENTS.insert(key, ports, u64::from(BPF_ANY));
}

/// Remembers that a packet's first piece is waited for, unless it has come just now.
#[inline(always)]
pub(crate) fn remember_early_fragment(key: &FragmentKey, early: &FragmentPorts) {
    let _full_or_there = FRAGMENTS.insert(key, early, u64::from(BPF_NOEXIST));
}

/// Removes one half of a flow.
#[inline(always)]
pub(crate) fn remove_flow(key: &FlowKey) {
    // The only error is that it is gone already.
    let _gone = FLOWS.remove(key);
}

/// Where a backend is.
#[inline(always)]
pub(crate) fn backend_flags(backend: u32) -> BackendFlags {
    match Live::new(BACKENDS.get_ptr_mut(backend)) {
        Some(backend) => backend.load::<BackendFlags, { offset_of!(Backend, flags) }>(),
        None => BackendFlags::empty(),
    }
}

/// Address and port of a backend that a holder of this generation may go on using.
#[inline(always)]
pub(crate) fn kept(backend: u32, generation: u32) -> Option<(Addr, Be16)> {
    let backend = Live::new(BACKENDS.get_ptr_mut(backend))?;
    let life = backend.load::<Life, { offset_of!(Backend, life) }>();
    if !life.keeps(generation) {
        return None;
    }
    Some((backend.load::<Addr, { offset_of!(Backend, address) }>(), life.port))
}

/// Whether a backend is at this address and port. Its state does not matter: a dead
/// backend's last reply still comes from it.
#[inline(always)]
pub(crate) fn is_at(backend: u32, address: Addr, port: Be16) -> bool {
    let Some(backend) = Live::new(BACKENDS.get_ptr_mut(backend)) else {
        return false;
    };
    backend.load::<Life, { offset_of!(Backend, life) }>().port == port
        && backend.load::<Addr, { offset_of!(Backend, address) }>() == address
}

/// Changes a backend's number of sockets by one, up or down.
#[inline(always)]
pub(crate) fn add_load(backend: u32, change: i64) {
    if let Some(load) = Live::new(BACKEND_LOAD.get_ptr_mut(backend)) {
        load.add::<{ offset_of!(BackendLoad, sockets) }>(change.cast_unsigned());
    }
}

/// What the agent tells us.
#[inline(always)]
pub(crate) fn config() -> Option<Live<Config>> {
    Live::new(CONFIG.get_ptr_mut(0))
}

/// The address of the family that flows to other nodes' backends leave with; zero for none.
#[inline(always)]
pub(crate) fn own_address(config: Live<Config>, ipv6: bool) -> Addr {
    if ipv6 {
        config.load::<Addr, { offset_of!(Config, snat6) }>()
    } else {
        config.load::<Addr, { offset_of!(Config, snat4) }>()
    }
}

/// The ports that the node's own sockets are given.
#[inline(always)]
pub(crate) fn local_ports(config: Live<Config>) -> PortRange {
    config.load::<PortRange, { offset_of!(Config, local_ports) }>()
}

/// Until when events are wanted, and how many.
#[inline(always)]
pub(crate) fn lease() -> Option<Lease> {
    Some(config()?.load::<Lease, { offset_of!(Config, events) }>())
}

/// What this CPU has told of late.
#[inline(always)]
pub(crate) fn told() -> Option<Live<Told>> {
    Live::new(TOLD.get_ptr_mut(0))
}

/// Adds an event to EVENTS; `false` if there is no room.
#[inline(always)]
pub(crate) fn put_event(event: &Event) -> bool {
    EVENTS.output(event, 0).is_ok()
}

/// Whether any namespace is to be left alone.
#[inline(always)]
pub(crate) fn any_bypass(config: Live<Config>) -> bool {
    config.load::<u32, { offset_of!(Config, bypassed_namespaces) }>() != 0
}

/// Whether an address and port can be a frontend: if not, nothing need be looked up.
#[inline(always)]
pub(crate) fn may_be_frontend(config: Live<Config>, address: Addr, port: Be16) -> bool {
    let net = NetBit::of(address);
    let word = config.load_word::<{ offset_of!(Config, nets) }, NETS_WORDS>(net.word);
    word & net.mask != 0
        || config.load::<PortRange, { offset_of!(Config, node_ports) }>().contains(port.to_host())
}

/// Whether packets to an address and port can be for a frontend, or be replies of other nodes'
/// backends.
#[inline(always)]
pub(crate) fn may_be_ours(config: Live<Config>, address: Addr, port: Be16, ipv6: bool) -> bool {
    may_be_frontend(config, address, port) || address == own_address(config, ipv6)
}

/// Whether packets to an address can be for a frontend, or be replies of other nodes' backends,
/// with some port.
#[inline(always)]
pub(crate) fn may_be_frontend_address(address: Addr) -> bool {
    let Some(config) = config() else {
        return false;
    };
    let net = NetBit::of(address);
    config.load_word::<{ offset_of!(Config, nets) }, NETS_WORDS>(net.word) & net.mask != 0
        || address == own_address(config, address.to_v4().is_none())
        || NODE_ADDRS.get_ptr(address).is_some()
}

/// Whether this namespace is to be left alone.
#[inline(always)]
pub(crate) fn is_bypassed(netns_cookie: u64) -> bool {
    BYPASS.get_ptr(netns_cookie).is_some()
}

/// Which clients send packets into a device of this node: the pod that it leads to, or others.
#[inline(always)]
pub(crate) fn scope_of(device: u32) -> Scope {
    if POD_DEVICES.get_ptr(device).is_some() { Scope::Inside } else { Scope::Outside }
}

/// The sizes that a program loaded without an agent has.
const CAPACITY: Capacities = Capacities::MINIMUM;
/// The agent maps the array into its memory and writes it with plain stores.
const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
/// What the kernel says of a key that is there.
const EEXIST: i64 = -17;
/// Next hops that a CPU remembers, a power of two: 64 kB.
const HOPS_LEN: u32 = 1024;
/// Memory follows use, for maps that are mostly empty.
const SPARSE: usize = BPF_F_NO_PREALLOC as usize;
