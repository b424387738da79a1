// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A socket's way to another process: `SCM_RIGHTS`, see unix(7).
#![expect(unsafe_code, reason = "a descriptor that came in a message becomes an owned one")]

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixDatagram,
    },
    path::Path,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg},
};
use socket2::Socket;

/// Sends a descriptor of the socket to whoever reads from the Unix socket at `path`.
pub(super) fn send(socket: &Socket, path: &Path) -> io::Result<()> {
    let outbox = UnixDatagram::unbound()?;
    let to = UnixAddr::new(path)?;
    let rights = [socket.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&rights)];
    sendmsg(outbox.as_raw_fd(), &[IoSlice::new(b"x")], &message, MsgFlags::empty(), Some(&to))?;
    Ok(())
}

/// Receives one.
///
/// # Errors
/// When none comes within [`LIMIT`].
pub(super) fn receive(inbox: &UnixDatagram) -> io::Result<Socket> {
    inbox.set_read_timeout(Some(LIMIT))?;
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(inbox.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let rights = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(rights) => rights.first().copied(),
        _ => None,
    });
    let fd = rights.ok_or_else(|| io::Error::other("the message has no descriptor"))?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(owned.into())
}

/// Longest wait for a descriptor.
const LIMIT: Duration = Duration::from_secs(2);
