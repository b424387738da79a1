// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `explain` knows beside the question: the maps, the way to the client, and its flows.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use lb_common::{
    addr::Addr,
    affinity::{AffinityKey, AffinityPin},
    backend::BackendFlags,
    be::Be16,
    flow::{FlowEntry, FlowFlags, FlowKey, Phase},
    service::{FrontendKind, SetWord},
};

use super::{
    question::{From, Target},
    way::Way,
};
use crate::{
    datapath::view::{View, ViewError},
    plan::tables::Tables,
};

/// Everything that an answer follows from.
pub(super) struct Scene<'a> {
    /// The agent's maps.
    pub(super) tables: &'a Tables,
    /// AFFINITY.
    pub(super) pins: &'a [(AffinityKey, AffinityPin)],
    /// Where the client meets our programs.
    pub(super) way: Way,
    /// The node's own addresses, IPv4 and IPv6, which other nodes' backends see; zero for none.
    pub(super) own: (Addr, Addr),
    /// Whether an address is one of this node's.
    pub(super) is_here: &'a dyn Fn(IpAddr) -> bool,
    /// The client's flows to the target.
    pub(super) flows: Vec<OpenFlow>,
    /// CLOCK_MONOTONIC in nanoseconds.
    pub(super) now_ns: u64,
}

/// A flow of a client to what it dials.
pub(super) struct OpenFlow {
    /// The client.
    client: SocketAddr,
    /// Where it goes.
    pub(super) backend: SocketAddr,
    /// As whom the backend sees the client.
    source: SocketAddr,
    /// How far it has come.
    pub(super) phase: &'static str,
    idle_secs: u64,
    timeout_secs: u32,
    /// Whether a new connection with its tuple would be a part of it.
    pub(super) is_open: bool,
    /// Whether it is of the port that was asked about.
    pub(super) is_exact: bool,
}

impl Scene<'_> {
    /// As whom a client outside, or a marked pod, is seen by the backends of a set, or by one of
    /// them.
    pub(super) fn seen(
        &self,
        set: SetWord,
        one: Option<u32>,
        from: From,
        kind: FrontendKind,
    ) -> String {
        let members = self.tables.members_of(set).into_iter().map(|slot| slot.backend);
        let members = members.filter(|backend| one.is_none_or(|it| it == *backend));
        let (mut kept, mut replaced, mut family) = (0, 0, false);
        for backend in members {
            family = self.address(backend).is_ipv6();
            if self.keeps(backend, from) { kept += 1 } else { replaced += 1 }
        }
        let own = self.own(family);
        let rule = if kind == FrontendKind::ClusterIp { "CIP-03" } else { "TRP-12" };
        match (kept, replaced, own) {
            (_, 0, _) => "the backend sees the client's own address".to_owned(),
            (_, _, None) => {
                format!(
                    "dropped on the way to other nodes, as this node has no address for it ({rule})"
                )
            }
            (0, _, Some(own)) => format!("the backend sees this node's {own} ({rule})"),
            (kept, _, Some(own)) => format!(
                "{kept} of them on this node, which sees the client's own address, all others this node's {own} ({rule})"
            ),
        }
    }

    /// Where a backend is and as whom it sees the client; `None` of what a socket is connected to.
    pub(super) fn place(&self, backend: u32, from: From) -> Option<String> {
        if !self.way.is_by_packet() {
            return None;
        }
        let place = if self.is_local(backend) { "on this node" } else { "on another node" };
        let own = self.own(self.address(backend).is_ipv6());
        let seen = match own {
            _ if self.keeps(backend, from) => "sees the client's own address".to_owned(),
            Some(own) => format!("sees {own}"),
            None => "out of reach: this node has no address of the family".to_owned(),
        };
        Some(format!("{place}, {seen}"))
    }

    /// Whether a backend sees the client's own address.
    fn keeps(&self, backend: u32, from: From) -> bool {
        match self.way {
            Way::Socket => true,
            // A pod that reaches itself must see somebody else.
            Way::Pod { .. } => from.address() != Some(self.address(backend)),
            Way::Outside { .. } | Way::Nowhere { .. } => self.is_local(backend),
        }
    }

    fn is_local(&self, backend: u32) -> bool {
        let flags = BackendFlags::from_bits_retain(self.tables.backends.at(backend).flags);
        flags.contains(BackendFlags::LOCAL) || (self.is_here)(self.address(backend))
    }

    fn address(&self, backend: u32) -> IpAddr {
        self.tables.backends.at(backend).address.to_ip()
    }

    fn own(&self, is_ipv6: bool) -> Option<IpAddr> {
        let own = if is_ipv6 { self.own.1 } else { self.own.0 };
        (own != Addr::ZERO).then(|| own.to_ip())
    }
}

impl OpenFlow {
    /// The flows of a client to a target: the one of its port, or of all its ports where none was
    /// given; these are looked for in all of FLOWS.
    ///
    /// # Errors
    /// If FLOWS cannot be read.
    pub(super) fn find(
        view: &View,
        from: From,
        target: Target,
        now_ns: u64,
    ) -> Result<Vec<Self>, ViewError> {
        let Some(address) = from.address() else { return Ok(Vec::new()) };
        let to = (Addr::from(target.address.ip()), Be16::from_host(target.address.port()));
        let key =
            |port: u16| FlowKey::new((address.into(), Be16::from_host(port)), to, target.protocol);
        let mut found = Vec::new();
        if let Some(port) = from.port() {
            let key = key(port);
            if let Some(forward) = view.half(&key)? {
                let reply = view.half(&forward.other_key())?;
                found.push(Self::of(&key, &forward, reply.as_ref(), now_ns, true));
            }
            return Ok(found);
        }
        view.each_half(|seen, half, other| {
            let is_asked = !half.flags().contains(FlowFlags::REPLY)
                && FlowKey { source_port: Be16::ZERO, ..*seen } == key(0);
            if is_asked {
                let reply = other(&half.other_key())?;
                found.push(Self::of(seen, half, reply.as_ref(), now_ns, false));
            }
            Ok(())
        })?;
        found.sort_unstable_by_key(|flow| flow.client);
        Ok(found)
    }

    fn of(
        key: &FlowKey,
        forward: &FlowEntry,
        reply: Option<&FlowEntry>,
        now_ns: u64,
        is_exact: bool,
    ) -> Self {
        let seen = reply.map(FlowEntry::seen).unwrap_or_default();
        let phase = Phase::of(key.protocol, forward.seen(), seen);
        let last = forward.last_seen_ns.max(reply.map_or(0, |reply| reply.last_seen_ns));
        let end = |address: Addr, port: Be16| SocketAddr::new(address.to_ip(), port.to_host());
        Self {
            client: end(key.source, key.source_port),
            backend: end(forward.to.destination, forward.to.destination_port),
            source: end(forward.to.source, forward.to.source_port),
            phase: phase.name(),
            idle_secs: now_ns.saturating_sub(last) / 1_000_000_000,
            timeout_secs: phase.timeout_secs(),
            is_open: !phase.may_start_anew() && !phase.is_over(last, now_ns),
            is_exact,
        }
    }
}

impl fmt::Display for OpenFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, backend, source, phase, idle_secs, timeout_secs, .. } = self;
        write!(
            f,
            "{client} to {backend}, seen as {source}: {phase}, idle for {idle_secs} of {timeout_secs} s"
        )
    }
}
