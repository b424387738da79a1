// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams answered from the address that they were sent to.
//!
//! A socket that is bound to no address answers from the one that routing likes best: on a node
//! with several, not always the one that was asked.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
};

use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
        setsockopt,
        sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo},
    },
};

/// A datagram, and how to answer it.
pub(super) struct Datagram {
    /// Its sender.
    pub(super) client: SocketAddr,
    from: SockaddrStorage,
    arrival: Option<ControlMessageOwned>,
}

/// Lets a socket tell where its datagrams were sent to.
pub(super) fn prepare(socket: &UdpSocket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv4() {
        setsockopt(socket, Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

/// The next one, and its length in `buffer`.
pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Datagram)> {
    let mut control = cmsg_space!([u8; PACKET_INFO_LEN]);
    let mut parts = [IoSliceMut::new(buffer)];
    let fd = socket.as_raw_fd();
    let message =
        recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::empty())?;
    let from = message.address.ok_or(io::ErrorKind::InvalidData)?;
    let v4 = from.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    let v6 = || from.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()));
    let client = v4.or_else(v6).ok_or(io::ErrorKind::InvalidData)?;
    let arrival = message.cmsgs()?.next();
    Ok((message.bytes, Datagram { client, from, arrival }))
}

/// Answers one.
pub(super) fn answer(socket: &UdpSocket, to: &Datagram, reply: &[u8]) -> io::Result<()> {
    let parts = [IoSlice::new(reply)];
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg(socket.as_raw_fd(), &parts, control, MsgFlags::empty(), Some(&to.from))
    };
    // By whatever interface routing likes, which is not where an address of the loopback's or
    // one by way of a tunnel was met.
    match &to.arrival {
        Some(ControlMessageOwned::Ipv4PacketInfo(info)) => {
            let mut info = *info;
            info.ipi_ifindex = 0;
            send(&[ControlMessage::Ipv4PacketInfo(&info)])?;
        }
        Some(ControlMessageOwned::Ipv6PacketInfo(info)) => {
            let mut info = *info;
            info.ipi6_ifindex = 0;
            send(&[ControlMessage::Ipv6PacketInfo(&info)])?;
        }
        _ => {
            send(&[])?;
        }
    }
    Ok(())
}

/// Room for the larger of `in_pktinfo` and `in6_pktinfo`, bytes.
const PACKET_INFO_LEN: usize = 20;
