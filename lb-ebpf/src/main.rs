// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel programs: entry points only, those for packets in `tc` and `xdp`. Each takes its context,
//! asks `sock` or `packet` and returns what was decided.
//!
//! | hook | what it does |
//! |---|---|
//! | connect4/6 | turns a frontend into a backend, once per connection |
//! | sendmsg4/6 | the same for each datagram of an unconnected socket |
//! | recvmsg4/6 | shows a datagram's source as the frontend that was dialled |
//! | getpeername4/6 | shows the peer as the frontend that was dialled |
//! | sock_release | forgets the socket and gives its backends' counts back |
//! | tc_ingress | turns a frontend into a backend in packets from outside, and back in replies of other nodes' backends |
//! | xdp_ingress | the same as tc_ingress for known flows that leave by the device they came in by |
//! | tc_egress | turns a local backend back into its frontend |
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "AtomicU64 has no compare_exchange on this target")]
#![expect(clippy::needless_pass_by_value, reason = "aya's entry points pass the context so")]

mod kernel;
mod maps;
mod monitor;
mod packet;
mod scratch;
mod sock;
mod tc;
mod xdp;

use aya_ebpf::{
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};

#[cfg(not(feature = "trace-datapath"))]
use crate::sock::forward;
#[cfg(feature = "trace-datapath")]
use crate::sock::traced as forward;
use crate::sock::{address::SockAddr, reverse, state};

/// An IPv4 socket connects.
#[cgroup_sock_addr(connect4)]
fn connect4(context: SockAddrContext) -> i32 {
    forward::connect(&SockAddr::v4(context.sock_addr))
}

/// An IPv6 socket connects, perhaps to an IPv4-mapped address.
#[cgroup_sock_addr(connect6)]
fn connect6(context: SockAddrContext) -> i32 {
    forward::connect(&SockAddr::v6(context.sock_addr))
}

/// An unconnected socket sends a datagram to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(context: SockAddrContext) -> i32 {
    forward::send(&SockAddr::v4(context.sock_addr))
}

/// An unconnected socket sends a datagram to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(context: SockAddrContext) -> i32 {
    forward::send(&SockAddr::v6(context.sock_addr))
}

/// A datagram arrived at an IPv4 socket.
#[cgroup_sock_addr(recvmsg4)]
fn recvmsg4(context: SockAddrContext) -> i32 {
    reverse::source(&SockAddr::v4(context.sock_addr))
}

/// A datagram arrived at an IPv6 socket, perhaps from an IPv4 address.
#[cgroup_sock_addr(recvmsg6)]
fn recvmsg6(context: SockAddrContext) -> i32 {
    reverse::source(&SockAddr::v6(context.sock_addr))
}

/// getpeername() or accept() on an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
fn getpeername4(context: SockAddrContext) -> i32 {
    reverse::peer(&SockAddr::v4(context.sock_addr))
}

/// getpeername() or accept() on an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
fn getpeername6(context: SockAddrContext) -> i32 {
    reverse::peer(&SockAddr::v6(context.sock_addr))
}

/// The last reference to a socket is closed.
#[cgroup_sock(sock_release)]
fn sock_release(context: SockContext) -> i32 {
    state::release(kernel::socket_cookie(&context))
}

/// Unreachable: no program here can panic, or the verifier would refuse it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
