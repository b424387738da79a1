// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The connected UDP sockets of a network namespace, and how to take their peer away:
//! sock_diag(7).
//!
//! SOCK_DESTROY does not close a UDP socket: it disconnects it and leaves ECONNABORTED, which
//! the next call on it gives, or the one that sleeps in it. The program connects again, or
//! opens another socket.

use std::{io, net::UdpSocket};

use lb_common::{addr::Addr, be::Be16};
use netlink_packet_sock_diag::{
    SockDiagDestroy, SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_UDP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, Nla as _},
    sys::protocols::NETLINK_SOCK_DIAG,
};

use super::netlink::Netlink;

/// A conversation about the sockets of the namespace in which it was opened.
pub struct Diag(Netlink);

/// A UDP socket that has a peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connected {
    /// As in SOCKETS.
    pub cookie: u64,
    /// Where its datagrams come from.
    pub own: (Addr, Be16),
    /// Where its datagrams go: for a translated socket a backend.
    pub peer: (Addr, Be16),
    /// The cgroup in which it was made: the id of its directory. Linux 5.7.
    pub cgroup: Option<u64>,
    family: u8,
    id: SocketId,
}

impl Diag {
    /// Opens a conversation in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        Netlink::open(NETLINK_SOCK_DIAG).map(Self)
    }

    /// Every connected UDP socket. `NotFound`: the kernel has no CONFIG_INET_UDP_DIAG.
    pub fn connected(&mut self) -> io::Result<Vec<Connected>> {
        let mut found = self.dump(AF_INET)?;
        match self.dump(AF_INET6) {
            Ok(more) => found.extend(more),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(found)
    }

    /// Takes a socket's peer away, by its addresses and its cookie; false if it has gone or
    /// has another peer by now. `Unsupported`: the kernel has no CONFIG_INET_DIAG_DESTROY.
    pub fn destroy(&mut self, socket: &Connected) -> io::Result<bool> {
        let request = SockDiagMessage::InetRequest(InetRequest {
            family: socket.family,
            protocol: IPPROTO_UDP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::empty(),
            socket_id: socket.id.clone(),
        });
        match self.0.ask(SockDiagDestroy::new(request), NLM_F_ACK, |_: SockDiagMessage| ()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn dump(&mut self, family: u8) -> io::Result<Vec<Connected>> {
        let request = SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_UDP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::ESTABLISHED,
            socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
        });
        let mut found = Vec::new();
        self.0.ask(request, NLM_F_DUMP, |answer| {
            if let SockDiagMessage::InetResponse(response) = answer {
                found.push(Connected::from(*response));
            }
        })?;
        Ok(found)
    }
}

impl From<InetResponse> for Connected {
    fn from(response: InetResponse) -> Self {
        let InetResponse { header, nlas } = response;
        let [low, high] = bytemuck::cast::<[u8; 8], [u32; 2]>(header.socket_id.cookie);
        let id = header.socket_id;
        let own = (id.source_address.into(), Be16::from_host(id.source_port));
        let peer = (id.destination_address.into(), Be16::from_host(id.destination_port));
        let cookie = u64::from(high) << 32 | u64::from(low);
        let cgroup = nlas.iter().find_map(cgroup_of);
        Self { cookie, own, peer, cgroup, family: header.family, id }
    }
}

/// Whether this kernel ends a connection when it is asked to. `Unsupported` and `NotFound`
/// are as for [`Diag::destroy`] and [`Diag::connected`].
///
/// A socket of our own is connected to itself and destroyed.
pub fn probe() -> io::Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind(("::1", 0)))?;
    let own = socket.local_addr()?;
    socket.connect(own)?;
    let peer = (Addr::from(own.ip()), Be16::from_host(own.port()));
    let mut diag = Diag::open()?;
    let found = diag.connected()?.into_iter().find(|it| it.peer == peer && it.own == peer);
    let none = || io::Error::other("sock_diag does not show a connected UDP socket");
    diag.destroy(&found.ok_or_else(none)?)?;
    match socket.take_error()? {
        Some(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(()),
        _ => Err(io::Error::other("a destroyed socket knows nothing of it")),
    }
}

fn cgroup_of(attribute: &Nla) -> Option<u64> {
    let Nla::Other(attribute) = attribute else { return None };
    let mut id = [0; 8];
    if attribute.kind() != INET_DIAG_CGROUP_ID || attribute.value_len() != id.len() {
        return None;
    }
    attribute.emit_value(&mut id);
    Some(u64::from_ne_bytes(id))
}

/// `include/uapi/linux/inet_diag.h`.
const INET_DIAG_CGROUP_ID: u16 = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_becomes_a_socket() {
        let id = SocketId { cookie: [1, 0, 0, 0, 2, 0, 0, 0], ..SocketId::new_v4() };
        let header = netlink_packet_sock_diag::inet::InetResponseHeader {
            family: AF_INET,
            state: 1,
            timer: None,
            socket_id: SocketId { destination_port: 53, ..id },
            recv_queue: 0,
            send_queue: 0,
            uid: 0,
            inode: 0,
        };
        let cgroup = rtnetlink::packet_core::DefaultNla::new(
            INET_DIAG_CGROUP_ID,
            77_u64.to_ne_bytes().to_vec(),
        );
        let nlas = [Nla::SkV6Only(false), Nla::Other(cgroup)].into_iter().collect();
        let socket = Connected::from(InetResponse { header, nlas });
        assert_eq!((socket.cookie, socket.cgroup), (2 << 32 | 1, Some(77)));
        assert_eq!(socket.peer.1.to_host(), 53);
    }
}
