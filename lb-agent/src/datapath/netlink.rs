// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A netlink conversation in which one waits for each answer.

use std::{io, os::fd::AsFd as _};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::{
    packet_core::{
        NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
        NetlinkSerializable,
    },
    sys::{Socket, SocketAddr},
};

/// A conversation about the network namespace in which it was opened.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a conversation in the calling thread's namespace. `protocol`: NETLINK_*.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Asks, and reads the answers to their end. `flags`: NLM_F_ACK or NLM_F_DUMP, and more.
    ///
    /// # Errors
    /// What the kernel answers, and `TimedOut`.
    pub(super) fn ask<T: NetlinkSerializable, R: NetlinkDeserializable>(
        &mut self,
        message: T,
        flags: u16,
        each: impl FnMut(R),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.replies(each)
    }

    fn replies<R: NetlinkDeserializable>(&mut self, mut each: impl FnMut(R)) -> io::Result<()> {
        loop {
            let length = self.receive()?;
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let message = NetlinkMessage::<R>::deserialize(rest).map_err(io::Error::other)?;
                let next = (message.header.length as usize).next_multiple_of(ALIGNMENT);
                rest = rest.get(next..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    // Left over from a request that was given up.
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => each(answer),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok(()),
                    _ => {}
                }
            }
        }
    }

    /// One datagram of answers. The kernel writes them while it is asked, so that one that
    /// does not come was lost.
    fn receive(&mut self) -> io::Result<usize> {
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(PATIENCE_MS))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer"));
        }
        self.socket.recv(&mut self.buffer.as_mut_slice(), 0)
    }
}

/// More than the kernel puts into one datagram of a dump.
const BUFFER: usize = 64 * 1024;
/// NLMSG_ALIGNTO.
const ALIGNMENT: usize = 4;
/// Milliseconds.
const PATIENCE_MS: u16 = 2_000;
