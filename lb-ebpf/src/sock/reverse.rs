// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way back: a backend's address is shown as the frontend that was dialled. Without
//! it a resolver drops the answer that comes from an address it never asked.

use lb_common::counter::Counter;

use super::{
    address::SockAddr,
    state::{self, Frontend},
};
use crate::maps;

/// getpeername() and accept(): the peer is what connect() dialled.
#[inline(always)]
pub(crate) fn peer(socket: &SockAddr) -> i32 {
    let Some(record) = state::own(socket.socket_cookie()) else {
        return pass();
    };
    let dialled = record.peer_at(socket.address(), socket.port());
    show(socket, dialled, Counter::ReversedPeer)
}

/// recvfrom(): the source is what sendto() or connect() dialled.
#[inline(always)]
pub(crate) fn source(socket: &SockAddr) -> i32 {
    let cookie = socket.socket_cookie();
    let Some(record) = state::own(cookie) else {
        return pass();
    };
    let (address, port) = (socket.address(), socket.port());
    let dialled = match record.source_at(cookie, address, port) {
        None => record.peer_at(address, port),
        dialled => dialled,
    };
    show(socket, dialled, Counter::ReversedSource)
}

/// Shows the frontend that was dialled, if one was.
#[inline(always)]
fn show(socket: &SockAddr, dialled: Option<Frontend>, reason: Counter) -> i32 {
    let Some(frontend) = dialled else {
        return pass();
    };
    socket.rewrite(frontend.address, frontend.port);
    maps::count(reason);
    1
}

/// Leaves the address as it is. These hooks cannot refuse.
#[inline(always)]
fn pass() -> i32 {
    maps::count(Counter::ReversePassed);
    1
}
