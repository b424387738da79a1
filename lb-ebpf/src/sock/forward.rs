// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way out: connect() and sendto() to a frontend go to a backend.

use lb_common::{
    counter::Counter,
    protocol::Protocol,
    translate::translate,
    verdict::{Target, Verdict},
};

use super::{
    address::SockAddr,
    state::{self, Frontend, Half},
};
use crate::{
    kernel,
    maps::{self, KernelMaps},
};

/// A socket connects: 1 lets it, 0 makes it fail.
#[inline(always)]
pub(crate) fn connect(socket: &SockAddr) -> i32 {
    traced(socket, "connect", decide_connect)
}

/// An unconnected socket sends a datagram: 1 lets it, 0 makes it fail.
#[inline(always)]
pub(crate) fn send(socket: &SockAddr) -> i32 {
    traced(socket, "sendto", decide_send)
}

#[inline(always)]
fn decide_connect(socket: &SockAddr) -> i32 {
    let protocol = socket.protocol();
    if protocol != Protocol::TCP && protocol != Protocol::UDP {
        return pass(Counter::PassProtocol);
    }
    if is_bypassed(socket) {
        return pass(Counter::PassBypass);
    }
    let cookie = socket.socket_cookie();
    if protocol == Protocol::UDP && stick(socket, cookie, &[Half::Connected]) {
        return pass(Counter::TranslatedSticky);
    }
    match translate(&KernelMaps, socket, &socket.destination()) {
        Verdict::Pass(reason) => {
            state::forget_connected(cookie);
            pass(reason)
        }
        Verdict::Translate(target, _) if socket.is_mptcp_subflow() => {
            socket.rewrite(target.address, target.port);
            pass(Counter::TranslatedSubflow)
        }
        Verdict::Translate(target, reason) => {
            send_to(socket, cookie, Half::Connected, &target, reason)
        }
        Verdict::Refuse(reason) => fail(ECONNREFUSED, reason),
        Verdict::Drop(reason) => fail(ETIMEDOUT, reason),
    }
}

#[inline(always)]
fn decide_send(socket: &SockAddr) -> i32 {
    if socket.protocol() != Protocol::UDP {
        return pass(Counter::PassProtocol);
    }
    if is_bypassed(socket) {
        return pass(Counter::PassBypass);
    }
    let cookie = socket.socket_cookie();
    // A connected socket hears its peer only: a datagram to the frontend that it is
    // connected to must go to the backend that it is connected to.
    if stick(socket, cookie, &[Half::Connected, Half::Datagram]) {
        return pass(Counter::TranslatedSticky);
    }
    match translate(&KernelMaps, socket, &socket.destination()) {
        Verdict::Pass(reason) => pass(reason),
        Verdict::Translate(target, reason) => {
            send_to(socket, cookie, Half::Datagram, &target, reason)
        }
        Verdict::Refuse(reason) => fail(ECONNREFUSED, reason),
        Verdict::Drop(reason) => fail(ETIMEDOUT, reason),
    }
}

/// Sends a datagram where this socket's earlier ones to the same frontend went (CT-11),
/// if that backend still keeps what it has.
#[inline(always)]
fn stick(socket: &SockAddr, cookie: u64, halves: &[Half]) -> bool {
    let frontend = frontend(socket);
    for half in halves {
        let kept = state::recall(cookie, *half, frontend)
            .and_then(|holding| maps::kept(holding.backend, holding.generation));
        if let Some((address, port)) = kept {
            socket.rewrite(address, port);
            return true;
        }
    }
    false
}

/// Rewrites the destination and remembers what was dialled.
#[inline(always)]
fn send_to(socket: &SockAddr, cookie: u64, half: Half, target: &Target, reason: Counter) -> i32 {
    let frontend = frontend(socket);
    socket.rewrite(target.address, target.port);
    state::remember(cookie, half, frontend, target);
    pass(reason)
}

/// What the program dialled.
#[inline(always)]
fn frontend(socket: &SockAddr) -> Frontend {
    Frontend { address: socket.address(), port: socket.port() }
}

#[inline(always)]
fn is_bypassed(socket: &SockAddr) -> bool {
    maps::any_bypass() && maps::is_bypassed(socket.netns_cookie())
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
fn fail(errno: i32, reason: Counter) -> i32 {
    maps::count(reason);
    kernel::fail_with(errno)
}

/// Decides, and in a tracing build logs what was dialled and what became of it.
#[cfg(not(feature = "trace-datapath"))]
#[inline(always)]
fn traced(socket: &SockAddr, _call: &str, decide: impl FnOnce(&SockAddr) -> i32) -> i32 {
    decide(socket)
}

/// Decides, and logs what was dialled and what became of it: 120 to 185 ns.
#[cfg(feature = "trace-datapath")]
#[inline(always)]
fn traced(socket: &SockAddr, call: &str, decide: impl FnOnce(&SockAddr) -> i32) -> i32 {
    let dialled = frontend(socket);
    let allowed = decide(socket);
    let now = frontend(socket);
    aya_log_ebpf::info!(
        socket,
        "{} [{:i}]:{} became [{:i}]:{}, allowed: {}",
        call,
        dialled.address.octets,
        dialled.port.to_host(),
        now.address.octets,
        now.port.to_host(),
        allowed,
    );
    // From memory the verifier would take it for any number.
    i32::from(allowed != 0)
}

/// The Service has no endpoint (NOEP-05).
const ECONNREFUSED: i32 = 111;
/// The Service has no endpoint on this node (NOEP-06): what silence ends in.
const ETIMEDOUT: i32 = 110;
