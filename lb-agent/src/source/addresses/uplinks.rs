// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which of this node's devices lead to clients outside, and which address the node gives
//! itself there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{Interfaces, NodePortAddresses};
use crate::model::{Family, node::Node, uplinks::Uplinks};

/// The value of `--devices`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum UplinkChoice {
    /// Those of the default routes, and those that have one of the Node's addresses.
    #[default]
    Found,
    /// Those with these names, as soon as they are there.
    Named(Vec<String>),
}

impl NodePortAddresses {
    /// The ways to clients outside, as they are now. The loopback device is none unless it is
    /// named.
    pub fn uplinks(&self, choice: &UplinkChoice, node: &Node, interfaces: &Interfaces) -> Uplinks {
        let devices = choice.devices(node, interfaces);
        let absent = choice.absent(&devices);
        let mut uplinks = Uplinks { devices, absent, ..Uplinks::default() };
        let own = |family| self.primary(family, node, interfaces).into_iter().next();
        let (here, away): (Vec<_>, Vec<_>) =
            Family::ALL.into_iter().partition(|family| own(*family).is_some());
        uplinks.away = away.into_iter().filter_map(|family| self.named(family, node)).collect();
        let own = here.into_iter().filter_map(own);
        for address in own {
            match address {
                IpAddr::V4(v4) => uplinks.v4 = Some(v4),
                IpAddr::V6(v6) => uplinks.v6 = Some(v6),
            }
        }
        uplinks
    }

    /// The address of a family that the operator or the Node says is this node's.
    fn named(&self, family: Family, node: &Node) -> Option<IpAddr> {
        let of_family = |address: &IpAddr| Family::of(*address) == family;
        self.primary.filter(of_family).or_else(|| node.addresses.iter().copied().find(of_family))
    }
}

impl UplinkChoice {
    fn devices(&self, node: &Node, interfaces: &Interfaces) -> BTreeMap<u32, Arc<str>> {
        let links = interfaces.links.iter();
        let chosen = links.filter(|(index, name)| match self {
            Self::Found => leads_outside(**index, node, interfaces) && ***name != *LOOPBACK,
            Self::Named(names) => names.iter().any(|wanted| **wanted == ***name),
        });
        chosen.map(|(index, name)| (*index, name.clone())).collect()
    }

    /// The names that none of these devices has.
    fn absent(&self, devices: &BTreeMap<u32, Arc<str>>) -> BTreeSet<Arc<str>> {
        let Self::Named(names) = self else { return BTreeSet::new() };
        let there = |name: &&String| devices.values().any(|device| **device == ***name);
        names.iter().filter(|name| !there(name)).map(|name| Arc::from(name.as_str())).collect()
    }
}

/// Whether a device has a default route, or an address under which the cluster knows the node.
fn leads_outside(index: u32, node: &Node, interfaces: &Interfaces) -> bool {
    let has_route = Family::ALL.iter().any(|it| interfaces.default_routes.contains(&(*it, index)));
    let mut addresses = node.addresses.iter();
    has_route || addresses.any(|address| interfaces.addresses.contains(&(index, *address)))
}

/// The kernel gives no other device this name.
const LOOPBACK: &str = "lo";
