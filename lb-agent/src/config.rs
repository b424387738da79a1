// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the agent was told, checked.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use crate::source;

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
    /// Where the health server listens.
    pub healthz: BindAddress,
    /// Where the metrics server listens.
    pub metrics: BindAddress,
}

/// What is accepted although it is unusual.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Allow {
    /// A cgroup root below the real one.
    pub nested_cgroup: bool,
    /// Another program that translates connect().
    pub foreign_programs: bool,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BindAddress(pub Option<SocketAddr>);

/// Neither an address with a port nor nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not ADDR:PORT, as in 127.0.0.1:10256; an empty value is for no server")]
pub struct BindAddressError(String);

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
    fn a_bind_address_may_be_empty_but_not_wrong() {
        assert_eq!("".parse(), Ok(BindAddress(None)));
        assert_eq!("[::]:80".parse::<BindAddress>().unwrap().0.unwrap().port(), 80);
        let error = "10256".parse::<BindAddress>().unwrap_err().to_string();
        assert!(error.starts_with("\"10256\" is not ADDR:PORT"), "{error}");
    }
}
