// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names, shapes and capacities of the maps, for both sides.

/// Version of every layout in this crate: part of the pin path, so that agents with
/// different layouts never read each other's maps.
pub const LAYOUT_VERSION: u32 = 1;

/// Clients' addresses, IPv4: hash of [`FrontendKey4`](crate::key::FrontendKey4) to
/// [`FrontendValue`](crate::key::FrontendValue).
pub const FRONTENDS4: &str = "FRONTENDS4";
/// Clients' addresses, IPv6: hash of [`FrontendKey6`](crate::key::FrontendKey6) to
/// [`FrontendValue`](crate::key::FrontendValue).
pub const FRONTENDS6: &str = "FRONTENDS6";
/// NodePorts: array of [`NodePort`], at protocol row × 65536 + port.
pub const NODEPORTS: &str = "NODEPORTS";
/// This node's NodePort addresses: hash of [`Addr`](crate::addr::Addr) to a u32 that is 1.
pub const NODE_ADDRS: &str = "NODE_ADDRS";
/// Service records: array of [`Service`](crate::service::Service).
pub const SERVICES: &str = "SERVICES";
/// Slot regions: array of [`Slot`](crate::slot::Slot).
pub const SLOTS: &str = "SLOTS";
/// Backends: array of [`Backend`](crate::backend::Backend).
pub const BACKENDS: &str = "BACKENDS";
/// Sockets a backend serves: array of [`BackendLoad`](crate::backend::BackendLoad).
pub const BACKEND_LOAD: &str = "BACKEND_LOAD";
/// Per-socket records: array of [`SocketRecord`](crate::socket::SocketRecord).
pub const SOCKETS: &str = "SOCKETS";
/// Per-socket records without a place: hash of [`OverKey`](crate::socket::OverKey) to
/// [`SocketRecord`](crate::socket::SocketRecord).
pub const SOCKETS_OVER: &str = "SOCKETS_OVER";
/// ClientIP pins: LRU hash of [`AffinityKey`](crate::affinity::AffinityKey) to
/// [`AffinityPin`](crate::affinity::AffinityPin).
pub const AFFINITY: &str = "AFFINITY";
/// Who may be pinned to: hash of [`MemberKey`](crate::affinity::MemberKey) to
/// [`Member`](crate::affinity::Member).
pub const MEMBERS: &str = "MEMBERS";
/// Who may reach load balancer addresses: trie of [`RangeKey`](crate::range::RangeKey) to
/// [`Admission`](crate::range::Admission).
pub const SOURCE_RANGES: &str = "SOURCE_RANGES";
/// Where ClusterIPs are: trie of [`CidrKey`](crate::range::CidrKey) to
/// [`CidrRule`](crate::range::CidrRule).
pub const SERVICE_CIDRS: &str = "SERVICE_CIDRS";
/// Flows of the packet path: hash of [`FlowKey`](crate::flow::FlowKey) to
/// [`FlowEntry`](crate::flow::FlowEntry).
pub const FLOWS: &str = "FLOWS";
/// Names of service ids: hash of u32 to [`ServiceName`](crate::name::ServiceName).
pub const NAMES: &str = "NAMES";
/// Network namespaces to leave alone: hash of a namespace cookie (u64) to a u32 that is 1.
pub const BYPASS: &str = "BYPASS";
/// Devices that lead to pods whose packets are translated: hash of a device's index (u32) to a
/// u32 that is 1.
pub const POD_DEVICES: &str = "POD_DEVICES";
/// Exits by reason: per-CPU array of u64, indexed by [`Counter`](crate::counter::Counter).
pub const COUNTERS: &str = "COUNTERS";
/// What a monitor is told: ring of [`Event`](crate::event::Event).
pub const EVENTS: &str = "EVENTS";
/// What the agent tells the programs: one [`Config`](crate::config::Config).
pub const CONFIG: &str = "CONFIG";

/// Value of NODEPORTS, 8 bytes. Families are apart, since a single-stack Service's
/// NodePort answers in its own family only (FAM-04).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(8))]
pub struct NodePort {
    /// Index into SERVICES for IPv4; 0 for none.
    pub service4: u32,
    /// Index into SERVICES for IPv6; 0 for none.
    pub service6: u32,
}

/// Number of entries of each map whose size follows the cluster. Powers of two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacities {
    /// FRONTENDS4 and FRONTENDS6, each.
    pub frontends: u32,
    /// SERVICES and NAMES.
    pub services: u32,
    /// SLOTS.
    pub slots: u32,
    /// BACKENDS and BACKEND_LOAD.
    pub backends: u32,
    /// MEMBERS: each Service with affinity takes one for each of its backends.
    pub members: u32,
    /// SOURCE_RANGES.
    pub source_ranges: u32,
    /// SOCKETS; its mask is one less.
    pub sockets: u32,
    /// SOCKETS_OVER.
    pub sockets_over: u32,
    /// AFFINITY.
    pub affinity: u32,
    /// FLOWS: two entries a flow.
    pub flows: u32,
}

impl Capacities {
    /// The smallest sizes, which a cluster of a few thousand Services does not outgrow.
    pub const MINIMUM: Self = Self {
        frontends: 1 << 15,
        services: 1 << 14,
        slots: 1 << 17,
        backends: 1 << 16,
        members: 1 << 16,
        source_ranges: 1 << 14,
        sockets: 1 << 17,
        sockets_over: 1 << 14,
        affinity: 1 << 16,
        flows: 1 << 16,
    };

    /// The largest sizes that are ever asked of the kernel.
    pub const MAXIMUM: Self = Self {
        frontends: 1 << 30,
        services: 1 << 30,
        slots: 1 << 30,
        backends: 1 << 30,
        members: 1 << 30,
        source_ranges: 1 << 30,
        sockets: 1 << 30,
        sockets_over: 1 << 30,
        affinity: 1 << 30,
        flows: 1 << 30,
    };
}

/// Entries of NODEPORTS: three protocols with 65536 ports each.
pub const NODEPORTS_LEN: u32 = 3 << 16;
/// Entries of NODE_ADDRS.
pub const NODE_ADDRS_LEN: u32 = 1024;
/// Entries of SERVICE_CIDRS.
pub const SERVICE_CIDRS_LEN: u32 = 1024;
/// Bytes of EVENTS: 2700 events.
pub const EVENTS_LEN: u32 = 1 << 18;
/// Entries of BYPASS.
pub const BYPASS_LEN: u32 = 4096;
/// Entries of POD_DEVICES.
pub const POD_DEVICES_LEN: u32 = 4096;

/// The place of a port (host order) in NODEPORTS.
#[inline(always)]
pub const fn node_port_index(row: u32, port: u16) -> u32 {
    row << 16 | port as u32
}

/// The port (host order) at a place of NODEPORTS.
#[expect(clippy::cast_possible_truncation, reason = "the lower half of the index")]
#[inline(always)]
pub const fn node_port_of(index: u32) -> u16 {
    index as u16
}
