// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the agent was told, checked.

pub mod kube_proxy;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use lb_common::maps::Capacities;

use self::kube_proxy::Conntrack;
use crate::{datapath::load::XdpChoice, model::rules::Rules, source};

/// Everything that `run` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where objects come from, which node this is, and where NodePorts answer.
    pub source: source::Config,
    /// Where maps, links and programs are pinned.
    pub bpf_root: PathBuf,
    /// Where programs attach; `None` for the root of the node's cgroup2 mount.
    pub cgroup_root: Option<PathBuf>,
    /// What is accepted although it is unusual.
    pub allow: Allow,
    /// Whether devices get clsact filters although the kernel may have tcx.
    pub no_tcx: bool,
    /// At which devices frames are looked at in front of the stack, too.
    pub xdp: XdpChoice,
    /// Which rules hold.
    pub rules: Rules,
    /// Sizes beyond which maps do not grow.
    pub limits: Capacities,
    /// How many flows of clients outside there is to be room for; `None`: as the node's memory
    /// has it.
    pub max_flows: Option<u32>,
    /// Where the servers listen.
    pub binds: Binds,
    /// How long a change may wait for the maps before health fails (HLZ-03).
    pub stale_after: Duration,
    /// What `/configz` says, as JSON.
    pub configz: Arc<str>,
    /// What is set for the node and the process at start.
    pub tuning: Tuning,
    /// The file that these settings are from; a change of it ends the agent (CFG-01).
    pub file: Option<ConfigFile>,
}

/// What is set for the node and the process at start.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Conntrack's sysctls (CT-10).
    pub conntrack: Conntrack,
    /// `/proc/self/oom_score_adj` (CFG-04).
    pub oom_score_adj: i64,
}

/// A file of settings, as it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it held.
    pub text: String,
}

/// Where the servers listen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Binds {
    /// The health server.
    pub healthz: BindAddress,
    /// The metrics server.
    pub metrics: BindAddress,
    /// Whether the process ends when an address is taken, instead of trying again.
    pub hard_fail: bool,
}

/// What is accepted although it is unusual.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Allow {
    /// A cgroup root below the real one.
    pub nested_cgroup: bool,
    /// Another program that translates connect().
    pub foreign_programs: bool,
}

/// The most entries that one kind of map may have.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// FRONTENDS4 and FRONTENDS6; SERVICES and NAMES; SLOTS; BACKENDS; MEMBERS; SOURCE_RANGES.
    field: fn(&mut Capacities) -> &mut u32,
    /// How many; a power of two.
    entries: u32,
}

/// Not the name of a size and a number.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LimitError {
    /// No such size.
    #[error(
        "{0:?} is not frontends, services, slots, backends, members or source-ranges, followed by =NUMBER"
    )]
    Name(String),
    /// No such number.
    #[error("{0:?} is not a number of at least {least}", least = Limit::LEAST)]
    Number(String),
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BindAddress(pub Option<SocketAddr>);

/// Neither an address with a port nor nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not ADDR:PORT, as in 127.0.0.1:10256; an empty value is for no server")]
pub struct BindAddressError(String);

impl Limit {
    /// The smallest one that makes sense: a node without any Service of its own has two.
    pub const LEAST: u32 = 16;

    /// All sizes under these limits.
    pub fn apply(limits: &[Self]) -> Capacities {
        let mut sizes = Capacities::MAXIMUM;
        for limit in limits {
            *(limit.field)(&mut sizes) = limit.entries;
        }
        sizes
    }
}

impl FromStr for Limit {
    type Err = LimitError;

    /// Rounds down to a power of two, which maps' sizes are.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, number) = text.split_once('=').unwrap_or((text, ""));
        let field: fn(&mut Capacities) -> &mut u32 = match name {
            "frontends" => |sizes| &mut sizes.frontends,
            "services" => |sizes| &mut sizes.services,
            "slots" => |sizes| &mut sizes.slots,
            "backends" => |sizes| &mut sizes.backends,
            "members" => |sizes| &mut sizes.members,
            "source-ranges" => |sizes| &mut sizes.source_ranges,
            _ => return Err(LimitError::Name(text.to_owned())),
        };
        let entries = number.parse::<u32>().ok().filter(|entries| *entries >= Self::LEAST);
        let entries = entries.ok_or_else(|| LimitError::Number(number.to_owned()))?;
        Ok(Self { field, entries: (1 << entries.ilog2()).min(1 << 30) })
    }
}

impl FromStr for BindAddress {
    type Err = BindAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address = text.parse().map_err(|_| BindAddressError(text.to_owned()))?;
        Ok(Self(Some(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_powers_of_two_for_maps_that_exist() {
        let limits = ["services=1000", "slots=4096"].map(|text| text.parse().unwrap());
        let sizes = Limit::apply(&limits);
        assert_eq!((sizes.services, sizes.slots, sizes.backends), (512, 4096, 1 << 30));
        for (text, says) in [
            ("sockets=100", "is not frontends, services"),
            ("slots", "is not a number of at least 16"),
            ("slots=8", "is not a number of at least 16"),
        ] {
            let error = text.parse::<Limit>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_bind_address_may_be_empty_but_not_wrong() {
        assert_eq!("".parse(), Ok(BindAddress(None)));
        assert_eq!("[::]:80".parse::<BindAddress>().unwrap().0.unwrap().port(), 80);
        let error = "10256".parse::<BindAddress>().unwrap_err().to_string();
        assert!(error.starts_with("\"10256\" is not ADDR:PORT"), "{error}");
    }
}
