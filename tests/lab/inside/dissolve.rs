// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `connect(2)` to `AF_UNSPEC`, which no safe wrapper offers.
#![expect(
    unsafe_code,
    reason = "a system call that neither std, socket2 nor nix wraps for this family"
)]

use std::{io, os::fd::AsRawFd as _};

use nix::libc;
use socket2::Socket;

/// Takes a datagram socket's peer away (connect(2), "dissolve the association").
pub(super) fn dissolve(socket: &Socket) -> io::Result<()> {
    // The family is the only field that the kernel reads of it.
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC.try_into().unwrap_or_default(),
        sa_data: [0; 14],
    };
    let length = size_of_val(&nowhere).try_into().unwrap_or_default();
    // SAFETY: `nowhere` is a whole sockaddr of `length` bytes that outlives the
    // call, and the socket is open as long as it is borrowed.
    let outcome = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, length) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
