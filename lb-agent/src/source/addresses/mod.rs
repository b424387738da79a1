// SPDX-License-Identifier: Apache-2.0 OR MIT
//! On which of this node's addresses NodePorts answer, and through which devices clients
//! outside come.
//!
//! ```text
//! netlink ─► Interfaces ─┐
//!                        ├─► NodePortAddresses ─► Change::{NodeAddresses, Uplinks}
//! Node.addresses ────────┘
//! ```

mod netlink;
mod uplinks;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::model::{Family, node::Node};

pub(super) use netlink::Watch;

pub use uplinks::UplinkChoice;

/// `--nodeport-addresses` and `--localhost-nodeports`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodePortAddresses {
    /// Which of the node's own addresses.
    pub choice: AddressChoice,
    /// Whether 127.0.0.1 is one of them, for programs on this node. `::1` never is (NP-05).
    pub localhost: bool,
    /// What stands in for the Node's address of its family (CFG-06).
    pub primary: Option<IpAddr>,
}

/// The value of `--nodeport-addresses`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum AddressChoice {
    /// `primary`: the Node object's first address of each family (NP-03).
    #[default]
    Primary,
    /// `all`: every address that is not loopback or link-local.
    All,
    /// CIDRs: the addresses inside one of them. A family without a CIDR is unrestricted
    /// (NP-04).
    Ranges(Vec<IpNet>),
}

/// Why a value of `--nodeport-addresses` is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is neither `primary`, `all` nor a list of CIDRs such as 192.0.2.0/24 (CFG-05)")]
pub struct ParseAddressChoiceError {
    /// The part that was not understood.
    text: String,
}

/// This node's interfaces, as far as clients outside depend on them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interfaces {
    /// Every local address with the index of its interface.
    pub addresses: BTreeSet<(u32, IpAddr)>,
    /// The interfaces of the default routes, by family.
    pub default_routes: BTreeSet<(Family, u32)>,
    /// Every interface's name, by index.
    pub links: BTreeMap<u32, Arc<str>>,
}

impl NodePortAddresses {
    /// The addresses on which NodePorts answer. Only local addresses are: another node's
    /// NodePort goes on the wire (NP-07).
    pub fn select(&self, node: &Node, interfaces: &Interfaces) -> BTreeSet<IpAddr> {
        let families = Family::ALL.into_iter();
        let mut found: BTreeSet<_> =
            families.flat_map(|family| self.of_family(family, node, interfaces)).collect();
        found.retain(|address| !address.is_loopback());
        if self.localhost && self.covers_loopback() {
            found.insert(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        found
    }

    /// The families whose NodePorts answer on every address, whichever there will be.
    pub fn unrestricted(&self) -> BTreeSet<Family> {
        Family::ALL.into_iter().filter(|family| self.is_unrestricted(*family)).collect()
    }

    fn is_unrestricted(&self, family: Family) -> bool {
        let AddressChoice::Ranges(ranges) = &self.choice else {
            return self.choice == AddressChoice::All;
        };
        let mut own = ranges.iter().filter(|range| Family::of(range.addr()) == family).peekable();
        own.peek().is_none() || own.any(|range| range.prefix_len() == 0)
    }

    fn of_family(&self, family: Family, node: &Node, interfaces: &Interfaces) -> Vec<IpAddr> {
        let unrestricted = || interfaces.of(family).map(|(_, address)| address);
        match &self.choice {
            AddressChoice::All => unrestricted().collect(),
            AddressChoice::Primary => self.primary(family, node, interfaces),
            AddressChoice::Ranges(ranges) => {
                let of_family = |range: &&IpNet| Family::of(range.addr()) == family;
                let ranges: Vec<_> = ranges.iter().filter(of_family).collect();
                let inside = |it: &IpAddr| ranges.iter().any(|range| range.contains(it));
                unrestricted().filter(|it| ranges.is_empty() || inside(it)).collect()
            }
        }
    }

    /// The address that the operator names goes before the Node's own.
    fn primary(&self, family: Family, node: &Node, interfaces: &Interfaces) -> Vec<IpAddr> {
        match self.primary {
            Some(address) if Family::of(address) == family => {
                let own = interfaces.of(family).map(|(_, address)| address);
                own.filter(|own| *own == address).collect()
            }
            _ => primary(family, node, interfaces),
        }
    }

    /// A list of IPv4 ranges lets 127.0.0.1 in only if it names it (NP-05).
    fn covers_loopback(&self) -> bool {
        let AddressChoice::Ranges(ranges) = &self.choice else { return true };
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut v4 =
            ranges.iter().filter(|range| Family::of(range.addr()) == Family::V4).peekable();
        v4.peek().is_none() || v4.any(|range| range.contains(&localhost))
    }
}

impl Default for NodePortAddresses {
    /// `primary`, and 127.0.0.1.
    fn default() -> Self {
        Self { choice: AddressChoice::Primary, localhost: true, primary: None }
    }
}

impl FromStr for AddressChoice {
    type Err = ParseAddressChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "primary" => Ok(Self::Primary),
            "all" => Ok(Self::All),
            list => {
                let error = |part: &str| ParseAddressChoiceError { text: part.to_owned() };
                let range = |part: &str| {
                    part.trim().parse().map(|net: IpNet| net.trunc()).map_err(|_| error(part))
                };
                list.split(',').map(range).collect::<Result<_, _>>().map(Self::Ranges)
            }
        }
    }
}

impl fmt::Display for AddressChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.pad("primary"),
            Self::All => f.pad("all"),
            Self::Ranges(ranges) => {
                let texts: Vec<_> = ranges.iter().map(ToString::to_string).collect();
                f.pad(&texts.join(","))
            }
        }
    }
}

impl Interfaces {
    /// The family's addresses that another host can reach.
    fn of(&self, family: Family) -> impl Iterator<Item = (u32, IpAddr)> {
        let reachable = move |(_, address): &(u32, IpAddr)| {
            Family::of(*address) == family && !address.is_loopback() && !is_link_local_v6(*address)
        };
        self.addresses.iter().copied().filter(reachable)
    }
}

/// NP-03 and NP-04: the Node's first address of the family; a Node that has addresses but
/// none of this family leaves it unrestricted. Without a Node object, or as long as it has no
/// addresses, those of the interfaces that hold the family's default route stand in; without
/// a default route, all of them.
fn primary(family: Family, node: &Node, interfaces: &Interfaces) -> Vec<IpAddr> {
    let own = interfaces.of(family);
    if let Some(primary) = node.addresses.iter().find(|it| Family::of(**it) == family) {
        return own.map(|(_, address)| address).filter(|it| it == primary).collect();
    }
    let has_route = |index: u32| interfaces.default_routes.contains(&(family, index));
    let routed: Vec<_> =
        interfaces.of(family).filter(|(index, _)| has_route(*index)).map(|it| it.1).collect();
    if node.addresses.is_empty() && !routed.is_empty() {
        return routed;
    }
    own.map(|(_, address)| address).collect()
}

/// An address that means nothing without its interface.
fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests;
