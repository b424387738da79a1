// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Size, alignment and offsets of every shared struct, asserted when either side compiles.
//!
//! A change here raises [`LAYOUT_VERSION`](crate::maps::LAYOUT_VERSION).

use core::mem::{align_of, offset_of, size_of};

use crate::{
    addr::Addr,
    affinity::{AffinityKey, AffinityPin, Member, MemberKey},
    backend::{Backend, BackendLoad, Life},
    be::{Be16, Be32},
    config::{Config, PortRange},
    event::{Event, Lease, Told},
    flow::{FlowEntry, FlowKey, Pass, Visit},
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    maps::NodePort,
    name::ServiceName,
    namespace::NamespaceLayout,
    range::{Admission, CidrKey, CidrRule, Guard, RangeKey},
    service::{Service, SetWord},
    slot::Slot,
    socket::{Dialled, OverKey, SocketRecord},
};

/// Asserts `Type: size, alignment, { field: offset, … }`.
macro_rules! layout {
    ($($type:ty: $size:literal, $align:literal, { $($field:ident: $offset:literal),* $(,)? };)+) => {
        $(const _: () = {
            assert!(size_of::<$type>() == $size);
            assert!(align_of::<$type>() == $align);
            $(assert!(offset_of!($type, $field) == $offset);)*
        };)+
    };
}

layout! {
    Be16: 2, 2, { bytes: 0 };
    Be32: 4, 4, { bytes: 0 };
    Addr: 16, 4, { octets: 0 };
    FrontendKey4: 8, 4, { address: 0, port: 4, protocol: 6 };
    FrontendKey6: 20, 4, { address: 0, port: 16, protocol: 18 };
    FrontendValue: 8, 8, { service: 0, tag: 4 };
    NodePort: 8, 8, { service4: 0, service6: 4 };
    SetWord: 8, 8, { base: 0, count_and_rule: 4 };
    Service: 64, 8, { inside: 0, outside: 8, flags: 16, affinity_secs: 20, id: 24, generation: 28 };
    Slot: 16, 8, { address4: 0, port: 4, backend: 8, generation: 12 };
    Life: 8, 8, { generation: 0, state: 4, protocol: 5, port: 6 };
    Backend: 32, 8, { life: 0, address: 8, flags: 24 };
    BackendLoad: 8, 8, { sockets: 0 };
    Dialled: 24, 4, { address: 0, backend: 16, generation: 20 };
    SocketRecord: 64, 8, {
        owner: 0, connected: 8, datagram: 32, connected_port: 56, datagram_port: 58,
        sequence: 60, held: 61, spilled: 62,
    };
    OverKey: 16, 8, { cookie: 0, index: 8 };
    AffinityKey: 24, 4, { client: 0, service_id: 16 };
    AffinityPin: 16, 8, { backend: 0, generation: 4, last_seen_ns: 8 };
    MemberKey: 8, 4, { service_id: 0, backend: 4 };
    Member: 8, 8, { inside: 0, outside: 4 };
    RangeKey: 24, 4, { prefix_len: 0, guard: 4 };
    Guard: 20, 4, { service_id: 0, address: 4 };
    Admission: 4, 4, { reason: 0 };
    CidrKey: 20, 4, { prefix_len: 0, address: 4 };
    CidrRule: 4, 4, { rule: 0 };
    NamespaceLayout: 64, 4, { socket_net: 0, device_ipv6: 24, ipv6_flags: 56 };
    ServiceName: 192, 1, { text: 0 };
    PortRange: 8, 8, { first: 0, end: 4 };
    FlowKey: 40, 8, {
        source: 0, destination: 16, source_port: 32, destination_port: 34, protocol: 36,
    };
    FlowEntry: 64, 8, {
        to: 0, last_seen_ns: 40, backend: 48, generation: 52, service_id: 56, flags: 60, seen: 61,
        tag: 62,
    };
    Pass: 16, 8, { now_ns: 0, passing_secs: 8 };
    Visit: 2, 1, { left_secs: 1 };
    Lease: 8, 8, {};
    Told: 24, 8, { window: 0, count: 8, noted: 16 };
    Event: 88, 8, {
        time_ns: 0, key: 8, target: 48, netns: 64, service_id: 72, device: 76, counter: 80,
        target_port: 84, kind: 86,
    };
    Config: 8256, 8, {
        bypassed_namespaces: 0, node_ports: 8, local_ports: 16, snat4: 24, snat6: 40, events: 56,
        nets: 64,
    };
}
