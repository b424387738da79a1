// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Addresses of cases, and the names that scenarios have for them.
//!
//! | name | is |
//! |---|---|
//! | `cluster-ip` | the Service's ClusterIP |
//! | `vip-1`, `vip-2` | load balancer addresses; outsiders get there by node-1, node-2 |
//! | `ext-1`, `ext-2` | the same for external addresses |
//! | `node-1` and so on | that node's address, with the node port |
//! | `own-node` | the address of the node of the client, likewise |
//! | `node-1-second` | another address of that node's interface |
//! | `node-1-third` | one that a node has only after a change said so |
//! | `localhost` | 127.0.0.1 or ::1, with the node port |
//!
//! `:PORT` behind a name replaces the port, `:health` is the health check's, and `CASE/` before
//! it is another case's. A literal `ADDRESS:PORT` is what it is.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result, bail};
use lab::{address, wire::Family};

/// Numbers of the cases, by name: each has addresses and node ports of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book(BTreeMap<String, u8>);

impl Book {
    /// Numbers the cases in their order.
    ///
    /// # Errors
    /// When two have one name, or there are more than 200.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut book = Self::default();
        for (number, name) in (10..).zip(names) {
            let number = u8::try_from(number).context("there are more cases than addresses")?;
            if book.0.insert(name.to_owned(), number).is_some() {
                bail!("two cases are called {name}");
            }
        }
        Ok(book)
    }

    /// The address of a name, as `case` has it.
    ///
    /// # Errors
    /// When it names nothing.
    pub(crate) fn address(&self, case: &str, name: &str, family: Family) -> Result<IpAddr> {
        let (case, name) = name.split_once('/').unwrap_or((case, name));
        let number = *self.0.get(case).with_context(|| format!("no case is called {case}"))?;
        let (v4, v6) = match name {
            "cluster-ip" => (Ipv4Addr::new(10, 96, 1, number), v6(0x10, 0x96, number)),
            "vip-1" => (Ipv4Addr::new(198, 51, 100, number), v6(0x99, 1, number)),
            "vip-2" => (Ipv4Addr::new(203, 0, 113, number), v6(0x99, 2, number)),
            "ext-1" => (Ipv4Addr::new(192, 0, 2, number), v6(0x99, 3, number)),
            "ext-2" => (Ipv4Addr::new(198, 18, 0, number), v6(0x99, 4, number)),
            "localhost" => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            node => {
                let node_number = |text: &str| text.parse().ok().filter(|number| *number < 100);
                let rest = node.strip_prefix("node-").unwrap_or_default();
                let second = rest.strip_suffix("-second").and_then(node_number);
                let third = rest.strip_suffix("-third").and_then(node_number);
                match (second, third, node_number(rest)) {
                    (Some(index), ..) => second_address(index),
                    (_, Some(index), _) => third_address(index),
                    (.., Some(index)) => address::node(index),
                    _ => bail!("{name} is no address: see tests/parity/address.rs"),
                }
            }
        };
        Ok(match family {
            Family::V4 => v4.into(),
            Family::V6 => v6.into(),
        })
    }

    /// The node port of a case's only port.
    pub(crate) fn node_port(&self, case: &str) -> Result<u16> {
        let number = self.0.get(case).with_context(|| format!("no case is called {case}"))?;
        Ok(30_000 + u16::from(*number) * 10)
    }

    /// The health check's port of a case: a number that the API server chose might be another
    /// case's node port.
    pub(crate) fn health_port(&self, case: &str) -> Result<u16> {
        Ok(self.node_port(case)? + 1)
    }

    /// Where a scenario dials; none where that is an address of the other family.
    ///
    /// # Errors
    /// When it names nothing.
    pub(crate) fn target(
        &self,
        case: &str,
        dial: &str,
        own_node: &str,
        family: Family,
    ) -> Result<Option<SocketAddr>> {
        if let Ok(literal) = dial.parse::<SocketAddr>() {
            return Ok((Family::of(literal) == family).then_some(literal));
        }
        let (name, port) = match dial.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (dial, None),
        };
        let (case, name) = name.split_once('/').unwrap_or((case, name));
        let name = if name == "own-node" { own_node } else { name };
        let by_node = name.starts_with("node-") || name == "localhost";
        let port = match port {
            Some("health") => self.health_port(case)?,
            Some(port) => port.parse().with_context(|| format!("{dial}: {port} is no port"))?,
            None if by_node => self.node_port(case)?,
            None => SERVICE_PORT,
        };
        Ok(Some(SocketAddr::new(self.address(case, name, family)?, port)))
    }
}

/// A second address of a node, beside [`address::node`].
pub(crate) fn second_address(node: u8) -> (Ipv4Addr, Ipv6Addr) {
    let host = 110 + node;
    (Ipv4Addr::new(192, 168, 50, host), v6(0x50, 0, host))
}

/// A third one, which a node has at times.
pub(crate) fn third_address(node: u8) -> (Ipv4Addr, Ipv6Addr) {
    let host = 120 + node;
    (Ipv4Addr::new(192, 168, 50, host), v6(0x50, 0, host))
}

/// Ranges that outsiders reach by a node: those of `vip-N` and `ext-N`, and by node-1 the
/// ClusterIPs.
pub(crate) fn ranges_behind(node: u8) -> &'static [&'static str] {
    match node {
        1 => &[
            "10.96.0.0/16",
            "fd00:10:96::/112",
            "198.51.100.0/24",
            "fd00:99:1::/64",
            "192.0.2.0/24",
            "fd00:99:3::/64",
        ],
        2 => &["203.0.113.0/24", "fd00:99:2::/64", "198.18.0.0/24", "fd00:99:4::/64"],
        _ => &[],
    }
}

/// `fd00:A:B::HOST`.
fn v6(a: u16, b: u16, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, a, b, 0, 0, 0, 0, u16::from(host))
}

/// The port of a Service that says nothing else.
const SERVICE_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use lab::wire::Family;

    use super::Book;

    #[test]
    fn names_are_addresses() {
        let book = Book::of(["one", "two"].into_iter()).unwrap();
        let target = |dial: &str, family| {
            let target = book.target("two", dial, "node-2", family).unwrap();
            target.map(|target| target.to_string())
        };
        assert_eq!(target("cluster-ip", Family::V4).unwrap(), "10.96.1.11:80");
        assert_eq!(target("cluster-ip:81", Family::V6).unwrap(), "[fd00:10:96::b]:81");
        assert_eq!(target("one/vip-2", Family::V4).unwrap(), "203.0.113.10:80");
        assert_eq!(target("own-node", Family::V4).unwrap(), "192.168.50.12:30110");
        assert_eq!(target("node-1-second", Family::V4).unwrap(), "192.168.50.111:30110");
        assert_eq!(target("node-2:health", Family::V4).unwrap(), "192.168.50.12:30111");
        assert_eq!(target("192.0.2.1:7", Family::V4).unwrap(), "192.0.2.1:7");
        assert_eq!(target("192.0.2.1:7", Family::V6), None);
        assert!(book.target("two", "nowhere", "node-1", Family::V4).is_err());
        assert!(book.target("two", "three/vip-1", "node-1", Family::V4).is_err());
    }
}
