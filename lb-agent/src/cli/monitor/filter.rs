// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which events a person wants to see.

use std::net::IpAddr;

use lb_common::{counter::Counter, event::Event};

/// What all of an event's parts must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// `namespace/name`.
    pub(super) service: Option<String>,
    /// The packet's source.
    pub(super) from: Option<IpAddr>,
    /// Why it happened.
    pub(super) reason: Option<Counter>,
}

impl Filter {
    /// Whether the event itself is wanted.
    pub(super) fn takes_event(&self, event: &Event) -> bool {
        self.from.is_none_or(|from| event.key.source.to_ip() == from.to_canonical())
            && self.reason.is_none_or(|reason| event.counter == reason.index())
    }

    /// Whether events of a service port (`namespace/name:port/TCP`) are wanted.
    pub(super) fn takes_service(&self, port: Option<&str>) -> bool {
        let Some(wanted) = &self.service else {
            return true;
        };
        let rest = port.and_then(|port| port.strip_prefix(wanted.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    }
}

/// A counter by its name.
pub(super) fn reason(name: &str) -> Result<Counter, String> {
    let found = Counter::ALL.iter().find(|counter| counter.name() == name);
    found.copied().ok_or_else(|| "no such reason; `lb-agent show counters` has them".to_owned())
}
