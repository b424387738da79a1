// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ports that the kernel gives to programs that ask for any port, and NodePorts among them.
//!
//! A NodePort goes before whatever listens on the same port of the node's addresses (NP-08). So
//! a program that was given such a port by chance cannot be reached on it.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use super::{
    ObjectName,
    issue::{Issue, ObjectKind, Problem},
};

/// `net.ipv4.ip_local_port_range` and `net.ipv4.ip_local_reserved_ports` of a network namespace;
/// both count for IPv6, too. The default is no port at all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LocalPorts {
    /// First and last port that is given.
    range: Option<Span>,
    /// Ports in it that are not.
    reserved: Vec<Span>,
}

/// First and last port, host order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Span(u16, u16);

/// Ports as sysctl writes them: `80,443,30000-32767`.
struct Spans<'a>(&'a [Span]);

impl LocalPorts {
    /// From the texts of the two files in `/proc/sys/net/ipv4`: "32768 60999", and
    /// "8080,9148-9150" or nothing. What cannot be read is no port.
    pub fn parse(range: &str, reserved: &str) -> Self {
        let mut ends = range.split_whitespace().map_while(|end| end.parse().ok());
        let range = ends.next().zip(ends.next()).map(|(first, last)| Span(first, last));
        let span = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(Span(first.trim().parse().ok()?, last.trim().parse().ok()?))
        };
        Self { range, reserved: reserved.split(',').filter_map(span).collect() }
    }

    /// Whether a program may be given this port.
    fn gives(&self, port: u16) -> bool {
        self.range.is_some_and(|range| range.holds(port))
            && !self.reserved.iter().any(|span| span.holds(port))
    }

    /// What is wrong if Services have these NodePorts, and what mends it.
    pub fn problem(&self, node_ports: impl IntoIterator<Item = u16>) -> Option<Problem> {
        let Span(first, last) = self.range?;
        let given: BTreeSet<_> = node_ports.into_iter().filter(|port| self.gives(*port)).collect();
        if given.is_empty() {
            return None;
        }
        let spans = spans(given);
        let reserve = match (spans.first(), spans.last()) {
            // Many single ports are one block that NodePorts come from.
            (Some(Span(first, _)), Some(Span(_, last))) if spans.len() > MANY => {
                vec![Span(*first, *last)]
            }
            _ => spans.clone(),
        };
        let all: Vec<_> = self.reserved.iter().copied().chain(reserve).collect();
        let (told, more) = spans.split_at(spans.len().min(MANY));
        let more = if more.is_empty() { "" } else { ", .." };
        Some(Problem::LocalPorts {
            range: (first, last),
            ports: format!("{}{more}", Spans(told)),
            reserve: Spans(&all).to_string(),
        })
    }

    /// The same as an issue of this node.
    pub fn issue(
        &self,
        node: &ObjectName,
        node_ports: impl IntoIterator<Item = u16>,
    ) -> Option<Issue> {
        let problem = self.problem(node_ports)?;
        let field = "net.ipv4.ip_local_port_range".to_owned();
        Some(Issue { kind: ObjectKind::Node, object: node.clone(), field, problem })
    }
}

impl Span {
    const fn holds(self, port: u16) -> bool {
        self.0 <= port && port <= self.1
    }
}

impl fmt::Display for Spans<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Span(first, last)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_char(',')?;
            }
            write!(f, "{first}")?;
            if first != last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

/// Neighbours become one span.
fn spans(ports: BTreeSet<u16>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for port in ports {
        match spans.last_mut() {
            Some(span) if span.1.checked_add(1) == Some(port) => span.1 = port,
            _ => spans.push(Span(port, port)),
        }
    }
    spans
}

/// So many spans are told and reserved one by one.
const MANY: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(range: &str, reserved: &str, ports: &[u16]) -> Option<(String, String)> {
        match LocalPorts::parse(range, reserved).problem(ports.iter().copied())? {
            Problem::LocalPorts { ports, reserve, .. } => Some((ports, reserve)),
            other => panic!("{other:?}"),
        }
    }

    /// NP-08: the ports that a program may be given, those that are reserved left out; what is
    /// reserved already stays reserved.
    #[test]
    fn np_08_node_ports_that_programs_may_be_given_are_told_with_what_reserves_them() {
        let default = "32768\t60999\n";
        assert_eq!(told(default, "\n", &[30_000, 32_767]), None);
        assert_eq!(told(default, "", &[]), None);
        let found = told(default, "40000-40010,50000\n", &[30_000, 32_768, 40_005, 50_001]);
        let reserve = "40000-40010,50000,32768,50001";
        assert_eq!(found, Some(("32768,50001".to_owned(), reserve.to_owned())));
        let found = told("1024 65535", "", &[30_002, 30_000, 30_001, 65_535, 65_534]);
        let ports = "30000-30002,65534-65535".to_owned();
        assert_eq!(found, Some((ports.clone(), ports)));
        // What the command sets leaves nothing to tell.
        let mended = LocalPorts::parse(default, reserve);
        assert_eq!(mended.problem([32_768, 50_001]), None);
    }

    #[test]
    fn many_single_ports_are_reserved_as_one_block() {
        let ports: Vec<u16> = (0..100).map(|number| 40_000 + number * 3).collect();
        let (told, reserve) = told("32768 60999", "", &ports).unwrap();
        assert!(told.starts_with("40000,40003,") && told.ends_with(", .."), "{told}");
        assert_eq!((told.matches(',').count(), &*reserve), (MANY, "40000-40297"));
    }

    #[test]
    fn what_cannot_be_read_gives_no_port() {
        for range in ["", "nonsense", "1024", "x 5"] {
            assert_eq!(told(range, "a-b,,7-", &[1, 30_000]), None, "{range}");
        }
    }
}
