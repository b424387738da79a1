// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ways between this node and clients outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// What packets of clients outside come through, and the addresses that the node gives itself
/// when it sends them on to another node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Uplinks {
    /// The names of the devices, by index.
    pub devices: BTreeMap<u32, Arc<str>>,
    /// The names that `--devices` has and no device.
    pub absent: BTreeSet<Arc<str>>,
    /// The Node's first addresses of a family that no device here has.
    pub away: BTreeSet<IpAddr>,
    /// The node's own IPv4 address (MSQ-04); `None`: clients outside reach no pod of another
    /// node through this one over IPv4.
    pub v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub v6: Option<Ipv6Addr>,
}
