// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is done with a flow.

use crate::{addr::Addr, be::Be16, counter::Counter};

/// The decision on one flow, with the reason that is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not a Service's business: the destination stays as it is.
    Pass(Counter),
    /// The destination becomes the target's.
    Translate(Target, Counter),
    /// The client is told at once: ECONNREFUSED, TCP reset or ICMP port unreachable.
    Refuse(Counter),
    /// The client hears nothing.
    Drop(Counter),
}

/// A backend that was chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    /// The backend's address.
    pub address: Addr,
    /// The backend's port.
    pub port: Be16,
    /// Index into BACKENDS.
    pub backend: u32,
    /// The generation of that index.
    pub generation: u32,
    /// [`Service::id`](crate::service::Service::id).
    pub service_id: u32,
    /// Whether a packet for another node's backend goes on to that node unchanged.
    pub direct: bool,
}

impl Verdict {
    /// The reason, as counted.
    pub const fn reason(&self) -> Counter {
        match *self {
            Self::Pass(reason)
            | Self::Translate(_, reason)
            | Self::Refuse(reason)
            | Self::Drop(reason) => reason,
        }
    }
}
