// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which flows are asked for.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::flow::{FlowEntry, FlowKey};

use crate::plan::tables::Tables;

/// Flags of `show flows`.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Of flows")]
pub(in crate::cli) struct Select {
    /// Count them, by service port and phase
    #[arg(long)]
    pub(super) totals: bool,
    /// Print no more rows than this; 0: all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Only flows of this Service, or of one of its ports as `show services` has it
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service: Option<String>,
    /// Only flows of clients in this network or at this address
    #[arg(long, value_name = "CIDR", value_parser = network)]
    client: Option<IpNet>,
    /// Only flows to backends in this network or at this address
    #[arg(long, value_name = "CIDR", value_parser = network)]
    backend: Option<IpNet>,
}

impl Select {
    /// Rows that are printed at most.
    pub(super) const fn most(&self) -> usize {
        if self.limit == 0 { usize::MAX } else { self.limit }
    }

    /// Whether a flow is asked for.
    pub(super) fn wants(&self, key: &FlowKey, forward: &FlowEntry, tables: &Tables) -> bool {
        let is_in = |net: &Option<IpNet>, address: IpAddr| {
            net.as_ref().is_none_or(|net| net.contains(&address))
        };
        is_in(&self.client, key.source.to_ip())
            && is_in(&self.backend, forward.to.destination.to_ip())
            && self.service.as_ref().is_none_or(|wanted| {
                let name = tables.names.get(&forward.service_id);
                name.is_some_and(|name| is_of(name, wanted))
            })
    }
}

/// Whether a service port is the one that is meant, or one of the Service that is.
fn is_of(name: &str, wanted: &str) -> bool {
    name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// A network, or an address as one.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| format!("{text:?} is no address or CIDR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_meant_with_or_without_its_port() {
        for (wanted, is_meant) in [
            ("default/web", true),
            ("default/web:http", true),
            ("default/we", false),
            ("default/web:", false),
            ("web", false),
        ] {
            assert_eq!(is_of("default/web:http", wanted), is_meant, "{wanted}");
        }
        assert!(is_of("default/web", "default/web"));
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        assert_eq!(network("192.0.2.7").unwrap().prefix_len(), 32);
        assert_eq!(network("fd00::/8").unwrap().prefix_len(), 8);
        assert!(network("web").unwrap_err().contains("no address or CIDR"));
    }
}
