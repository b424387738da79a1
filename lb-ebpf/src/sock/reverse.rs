// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way back: a backend's address is shown as the frontend that was dialled. Without
//! it a resolver drops the answer that comes from an address it never asked.

use lb_common::counter::Counter;

use super::{
    address::SockAddr,
    state::{self, Half},
};
use crate::maps;

/// getpeername() and accept(): the peer is what connect() dialled.
#[inline(always)]
pub(crate) fn peer(socket: &SockAddr) -> i32 {
    show(socket, &[Half::Connected], Counter::ReversedPeer)
}

/// recvfrom(): the source is what connect() or sendto() dialled.
#[inline(always)]
pub(crate) fn source(socket: &SockAddr) -> i32 {
    show(socket, &[Half::Datagram, Half::Connected], Counter::ReversedSource)
}

/// Shows the frontend if one of the halves reached the address. These hooks cannot refuse.
#[inline(always)]
fn show(socket: &SockAddr, halves: &[Half], reason: Counter) -> i32 {
    let cookie = socket.socket_cookie();
    let (address, port) = (socket.address(), socket.port());
    for half in halves {
        if let Some(frontend) = state::frontend_of(cookie, *half, address, port) {
            socket.rewrite(frontend.address, frontend.port);
            maps::count(reason);
            return 1;
        }
    }
    maps::count(Counter::ReversePassed);
    1
}
