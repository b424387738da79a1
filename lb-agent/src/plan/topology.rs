// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Topology hints: which of the ready endpoints this node should use (TOP-01 to TOP-11).

use std::sync::Arc;

use crate::model::{endpoint::Endpoint, node::Node};

/// Which ready endpoints of a service port this node uses.
///
/// Chosen so that at least one ready endpoint remains, if there is any (TOP-06).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Preference<'a> {
    /// Those whose node hints name this node (TOP-03).
    Node(&'a str),
    /// Those whose zone hints name this zone (TOP-04).
    Zone(&'a str),
    /// All of them (TOP-05).
    All,
}

impl<'a> Preference<'a> {
    /// The preference that the hints of all ready endpoints of one service port and family
    /// add up to (TOP-02, TOP-09).
    pub fn of<'e>(ready: impl Iterator<Item = &'e Endpoint> + Clone, node: &'a Node) -> Self {
        let node_name = Some(&*node.name).filter(|name| !name.is_empty());
        if let Some(name) = node_name
            && decides(ready.clone(), name, |endpoint| &endpoint.for_nodes)
        {
            return Self::Node(name);
        }
        match node.zone.as_deref() {
            Some(zone) if decides(ready, zone, |endpoint| &endpoint.for_zones) => Self::Zone(zone),
            _ => Self::All,
        }
    }

    /// Whether this node uses the endpoint, which is ready. Its own zone and node do not
    /// matter (TOP-08).
    pub fn admits(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Node(name) => names(&endpoint.for_nodes, name),
            Self::Zone(zone) => names(&endpoint.for_zones, zone),
            Self::All => true,
        }
    }
}

/// Whether every endpoint has a hint of this kind and at least one names `wanted`.
fn decides<'e>(
    mut ready: impl Iterator<Item = &'e Endpoint>,
    wanted: &str,
    hints: impl Fn(&Endpoint) -> &[Arc<str>],
) -> bool {
    let mut named = false;
    let complete = ready.all(|endpoint| {
        named |= names(hints(endpoint), wanted);
        !hints(endpoint).is_empty()
    });
    complete && named
}

fn names(hints: &[Arc<str>], wanted: &str) -> bool {
    hints.iter().any(|hint| **hint == *wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::{endpoint, node};

    /// (node hints, zone hints) of each ready endpoint.
    type Hints<'a> = &'a [(&'a [&'a str], &'a [&'a str])];

    fn prefer(node: &Node, hints: Hints<'_>) -> (String, Vec<usize>) {
        let endpoints: Vec<_> = hints
            .iter()
            .map(|(nodes, zones)| endpoint("10.0.0.1").for_nodes(nodes).for_zones(zones).done())
            .collect();
        let preference = Preference::of(endpoints.iter(), node);
        let used = (0..endpoints.len()).filter(|&index| preference.admits(&endpoints[index]));
        (format!("{preference:?}"), used.collect())
    }

    /// TOP-13: no gate and no field of the Service is asked.
    #[test]
    fn top_03_node_hints_decide_if_every_ready_endpoint_has_one() {
        let hints: Hints<'_> = &[(&["a"], &["z1"]), (&["b"], &["z1"]), (&["b", "a"], &["z2"])];
        assert_eq!(prefer(&node("a", "z1"), hints), ("Node(\"a\")".into(), vec![0, 2]));
    }

    #[test]
    fn top_04_else_zone_hints_decide() {
        let hints: Hints<'_> = &[(&["b"], &["z1"]), (&["b"], &["z2"]), (&["b"], &["z2", "z1"])];
        assert_eq!(prefer(&node("a", "z1"), hints), ("Zone(\"z1\")".into(), vec![0, 2]));
        let one_without_node_hint: Hints<'_> = &[(&["a"], &["z1"]), (&[], &["z2"])];
        assert_eq!(prefer(&node("a", "z1"), one_without_node_hint).1, [0], "zone, not node");
    }

    #[test]
    fn top_05_one_ready_endpoint_without_the_hint_cancels_the_mode() {
        let hints: Hints<'_> = &[(&[], &["z1"]), (&[], &[])];
        assert_eq!(prefer(&node("a", "z1"), hints), ("All".into(), vec![0, 1]));
        let elsewhere: Hints<'_> = &[(&["b"], &["z2"]), (&["b"], &["z3"])];
        assert_eq!(prefer(&node("a", "z1"), elsewhere), ("All".into(), vec![0, 1]));
    }

    #[test]
    fn top_06_no_ready_endpoint_prefers_nothing() {
        assert_eq!(prefer(&node("a", "z1"), &[]), ("All".into(), vec![]));
    }

    #[test]
    fn top_07_a_node_without_zone_has_node_mode_only() {
        let hints: Hints<'_> = &[(&["a"], &["z1"]), (&["b"], &["z1"])];
        assert_eq!(prefer(&node("a", ""), hints).1, [0]);
        assert_eq!(prefer(&node("c", ""), hints).0, "All");
        assert_eq!(prefer(&node("", ""), hints).0, "All", "a node without a name has no node mode");
    }

    #[test]
    fn top_08_membership_among_several_hints_is_enough() {
        let hints: Hints<'_> = &[(&["x", "y", "a"], &[]), (&["x"], &[])];
        assert_eq!(prefer(&node("a", "z1"), hints).1, [0]);
    }

    #[test]
    fn top_11_when_the_last_preferred_endpoint_goes_the_next_mode_applies() {
        let mut hints = vec![
            (&["a"] as &[_], &["z1"] as &[_]),
            (&["b"] as &[_], &["z1"] as &[_]),
            (&["c"] as &[_], &["z2"] as &[_]),
        ];
        assert_eq!(prefer(&node("a", "z1"), &hints).0, "Node(\"a\")");
        hints.remove(0);
        assert_eq!(prefer(&node("a", "z1"), &hints).0, "Zone(\"z1\")");
        hints.remove(0);
        assert_eq!(prefer(&node("a", "z1"), &hints), ("All".into(), vec![0]));
    }
}
