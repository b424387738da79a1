// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How full FLOWS is, for metrics and people: pure.

use super::{Census, pace::Tightness, size::entries};
use crate::model::{
    ObjectName,
    issue::{Issue, ObjectKind, Problem},
};

/// How full FLOWS is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fullness {
    /// Elements in use, at most.
    pub used: u64,
    /// Elements that fit; 0 if that is not known yet.
    pub capacity: u64,
    /// The names of the phases, and how many flows were in each at the last census.
    pub phases: Vec<(&'static str, u64)>,
    /// Whether packets found no room lately.
    is_refusing: bool,
}

impl Fullness {
    /// Of so many elements in use of as many as there can be.
    pub(super) fn new((used, capacity): (u64, u64), census: &Census, is_refusing: bool) -> Self {
        let phases = census.phases().map(|(phase, count)| (phase.name(), count)).collect();
        Self { used: used.min(capacity), capacity, phases, is_refusing }
    }

    /// What an operator of this node should know. No number of it changes while it holds.
    pub(super) fn issue(&self, node: &ObjectName) -> Option<Issue> {
        let flows = self.capacity / 2;
        let problem = if self.is_refusing {
            Problem::FlowsFull { flows }
        } else if Tightness::of(self.used, self.capacity.max(1)) > Tightness::Calm {
            Problem::FlowsTight { flows }
        } else {
            return None;
        };
        Some(of_node(node, problem))
    }
}

/// What an operator should know who asked for room for so many flows, if a table of another
/// size was there, which is kept with its flows.
pub(super) fn kept(capacity: u64, asked: Option<u32>, node: &ObjectName) -> Option<Issue> {
    let wanted = u64::from(asked?);
    let has = capacity / 2;
    (u64::from(entries(wanted)) != capacity)
        .then(|| of_node(node, Problem::FlowsKept { has, wanted }))
}

fn of_node(node: &ObjectName, problem: Problem) -> Issue {
    let field = "flows".to_owned();
    Issue { kind: ObjectKind::Node, object: node.clone(), field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_size_than_was_asked_for_is_told_of_and_the_rounding_is_not() {
        let node = ObjectName::new("", "node1");
        let told = |capacity, asked| kept(capacity, asked, &node).map(|issue| issue.to_string());
        for (capacity, asked) in [(1 << 16, None), (1 << 16, Some(7)), (1 << 17, Some(40_000))] {
            assert_eq!(told(capacity, asked), None);
        }
        for (capacity, asked) in [(1 << 16, 40_000), (1 << 18, 65_536)] {
            let text = told(capacity, Some(asked)).unwrap();
            let sizes =
                format!("room for {} flows of clients outside, not for the {asked} ", capacity / 2);
            assert!(text.contains(&sizes) && text.contains("lb-agent unload"), "{text}");
        }
    }

    #[test]
    fn a_table_that_fills_is_told_of_in_one_line_with_what_to_do() {
        let node = ObjectName::new("", "node1".to_owned());
        let issue = |used, is_refusing| {
            let fullness = Fullness::new((used, 2000), &Census::default(), is_refusing);
            fullness.issue(&node).map(|issue| issue.to_string())
        };
        assert_eq!(issue(1499, false), None);
        assert_eq!(
            issue(1500, false).unwrap(),
            "Node node1: flows: more than three quarters of the room for 1000 flows of clients outside is taken; raise --max-flows, or see who opens them: lb-agent show flows --totals"
        );
        let full = issue(2000, true).unwrap();
        assert!(full.contains("no room for more than 1000 flows"), "{full}");
        assert_eq!(issue(1800, true), Some(full), "as long as packets were dropped lately");
    }
}
