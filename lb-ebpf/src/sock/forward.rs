// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way out: connect() and sendto() to a frontend go to a backend.

use lb_common::{
    addr::Addr,
    be::Be16,
    config::Config,
    counter::Counter,
    event::{Event, EventKind},
    flow::FlowKey,
    protocol::Protocol,
    translate::translate,
    verdict::Verdict,
};

use super::{
    address::SockAddr,
    state::{self, Frontend, Half, Holding, Record},
};
use crate::{
    kernel::{self, Live},
    maps::{self, KernelMaps},
    monitor,
};

/// A socket connects: 1 lets it, 0 makes it fail.
#[inline(always)]
pub(crate) fn connect(socket: &SockAddr) -> i32 {
    let protocol = socket.protocol();
    if protocol != Protocol::TCP && protocol != Protocol::UDP {
        return pass(Counter::PassProtocol);
    }
    let Some(config) = maps::config() else {
        return pass(Counter::PassNoFrontend);
    };
    if is_bypassed(socket, config) {
        return pass(Counter::PassBypass);
    }
    let frontend = frontend(socket);
    let cookie = socket.socket_cookie();
    if !maps::may_be_frontend(config, frontend.address, frontend.port) {
        return pass_connect(cookie, Counter::PassNoFrontend);
    }
    if protocol == Protocol::UDP
        && let Some(record) = state::own(cookie)
        && let Some((address, port)) = kept(record.connected_to(frontend))
    {
        socket.rewrite(address, port);
        return pass(Counter::TranslatedSticky);
    }
    match translate(&KernelMaps, socket, &socket.destination()) {
        Verdict::Pass(reason) => pass_connect(cookie, reason),
        Verdict::Translate(target, _) if protocol == Protocol::TCP && socket.is_mptcp_subflow() => {
            socket.rewrite(target.address, target.port);
            pass(Counter::TranslatedSubflow)
        }
        Verdict::Translate(target, reason) => {
            socket.rewrite(target.address, target.port);
            state::remember(cookie, Half::Connected, frontend, &target);
            pass(reason)
        }
        Verdict::Refuse(reason) => fail(socket, EventKind::SocketRefused, reason),
        Verdict::Drop(reason) => fail(socket, EventKind::SocketDropped, reason),
    }
}

/// An unconnected socket sends a datagram: 1 lets it, 0 makes it fail.
#[inline(always)]
pub(crate) fn send(socket: &SockAddr) -> i32 {
    if socket.protocol() != Protocol::UDP {
        return pass(Counter::PassProtocol);
    }
    let Some(config) = maps::config() else {
        return pass(Counter::PassNoFrontend);
    };
    if is_bypassed(socket, config) {
        return pass(Counter::PassBypass);
    }
    let frontend = frontend(socket);
    if !maps::may_be_frontend(config, frontend.address, frontend.port) {
        return pass(Counter::PassNoFrontend);
    }
    let cookie = socket.socket_cookie();
    if let Some(record) = state::own(cookie)
        && let Some((address, port)) = kept_for_datagram(record, cookie, frontend)
    {
        socket.rewrite(address, port);
        return pass(Counter::TranslatedSticky);
    }
    match translate(&KernelMaps, socket, &socket.destination()) {
        Verdict::Pass(reason) => pass(reason),
        Verdict::Translate(target, reason) => {
            socket.rewrite(target.address, target.port);
            state::remember(cookie, Half::Datagram, frontend, &target);
            pass(reason)
        }
        Verdict::Refuse(reason) => fail(socket, EventKind::SocketRefused, reason),
        Verdict::Drop(reason) => fail(socket, EventKind::SocketDropped, reason),
    }
}

/// Where this socket's earlier datagrams to the same frontend went (CT-11), if that backend
/// still keeps what it has. A connected socket hears its peer only: a datagram to the
/// frontend that it is connected to must go to the backend that it is connected to.
#[inline(always)]
fn kept_for_datagram(record: Record, cookie: u64, frontend: Frontend) -> Option<(Addr, Be16)> {
    if let Some(kept) = kept(record.connected_to(frontend)) {
        return Some(kept);
    }
    kept(record.datagrams_to(cookie, frontend))
}

/// Where a holding leads, if its backend still keeps what it has.
#[inline(always)]
fn kept(holding: Option<Holding>) -> Option<(Addr, Be16)> {
    let holding = holding?;
    maps::kept(holding.backend, holding.generation)
}

/// What the program dialled.
#[inline(always)]
pub(super) fn frontend(socket: &SockAddr) -> Frontend {
    Frontend { address: socket.address(), port: socket.port() }
}

#[inline(always)]
fn is_bypassed(socket: &SockAddr, config: Live<Config>) -> bool {
    maps::any_bypass(config) && maps::is_bypassed(socket.netns_cookie())
}

/// Lets a socket connect to something that is no frontend, and forgets what it was
/// connected to before.
#[inline(always)]
fn pass_connect(cookie: u64, reason: Counter) -> i32 {
    if let Some(record) = state::own(cookie) {
        record.forget_connected();
    }
    pass(reason)
}

/// Lets the call go on.
#[inline(always)]
fn pass(reason: Counter) -> i32 {
    maps::count(reason);
    1
}

/// Makes the call fail with an errno that connect(2) knows: a bare 0 would be EPERM,
/// which programs take for a configuration error and the kernel's NFS client retries
/// for ever.
#[inline(always)]
fn fail(socket: &SockAddr, kind: EventKind, reason: Counter) -> i32 {
    maps::count(reason);
    tell(socket, kind, reason);
    kernel::fail_with(match kind {
        EventKind::SocketDropped => ETIMEDOUT,
        _ => ECONNREFUSED,
    })
}

/// Tells whoever monitors of a call that fails. One in place of each way that leads here: none
/// of them is to be slower for it than a load.
#[inline(always)]
fn tell(socket: &SockAddr, kind: EventKind, reason: Counter) {
    if !monitor::wants_event() {
        return;
    }
    let Frontend { address, port } = frontend(socket);
    let dialled = (address, port);
    monitor::tell(&Event {
        time_ns: kernel::now_ns(),
        key: FlowKey::new((Addr::ZERO, Be16::ZERO), dialled, socket.protocol()),
        target: Addr::ZERO,
        netns: socket.netns_cookie(),
        service_id: 0,
        device: 0,
        counter: reason.index(),
        target_port: Be16::ZERO,
        kind: kind as u8,
        _pad: 0,
    });
}

/// The Service has no endpoint (NOEP-05).
const ECONNREFUSED: i32 = 111;
/// The Service has no endpoint on this node (NOEP-06): what silence ends in.
const ETIMEDOUT: i32 = 110;
