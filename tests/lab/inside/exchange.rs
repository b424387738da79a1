// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sockets and single exchanges with the lab's server.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nix::sys::socket::{SockaddrStorage, recvfrom, setsockopt, sockopt::TcpFastOpenConnect};
use socket2::{Domain, Protocol, Socket, Type};

use crate::wire::{Answer, AskSpec, Echo, Family, Kind, SocketError, SocketSpec};

/// Gives a socket as the spec asks.
pub(super) fn open(spec: &SocketSpec) -> Result<Socket, SocketError> {
    let domain = match spec.family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let (kind, protocol) = match spec.kind {
        Kind::Tcp => (Type::STREAM, Protocol::TCP),
        Kind::Mptcp => (Type::STREAM, Protocol::MPTCP),
        Kind::Udp => (Type::DGRAM, Protocol::UDP),
        Kind::RawUdp => (Type::RAW, Protocol::UDP),
        Kind::Ping => match spec.family {
            Family::V4 => (Type::DGRAM, Protocol::ICMPV4),
            Family::V6 => (Type::DGRAM, Protocol::ICMPV6),
        },
    };
    let socket = Socket::new(domain, kind, Some(protocol)).map_err(named("socket"))?;
    let limit = Some(Duration::from_millis(spec.timeout_ms.max(1)));
    socket.set_read_timeout(limit).map_err(named("setsockopt"))?;
    socket.set_write_timeout(limit).map_err(named("setsockopt"))?;
    if matches!(spec.kind, Kind::Tcp | Kind::Mptcp) {
        socket.set_tcp_nodelay(true).map_err(named("setsockopt"))?;
    }
    if spec.fast_open {
        let set = setsockopt(&socket, TcpFastOpenConnect, &true).map_err(io::Error::from);
        set.map_err(named("setsockopt"))?;
    }
    if let Some(address) = spec.bind {
        socket.bind(&address.into()).map_err(named("bind"))?;
    }
    Ok(socket)
}

/// Opens a socket, sends a line, reads who answered.
pub(super) fn ask(spec: &AskSpec, text: &str) -> Result<(Socket, Answer), SocketError> {
    let socket = open(&spec.socket)?;
    if !spec.unconnected {
        socket.connect(&spec.to.into()).map_err(named("connect"))?;
    }
    let answer = again(&socket, spec, text)?;
    Ok((socket, answer))
}

/// One more exchange on an open socket.
pub(super) fn again(socket: &Socket, spec: &AskSpec, text: &str) -> Result<Answer, SocketError> {
    let line = format!("{text}\n");
    let (reply, from) = if spec.socket.kind == Kind::Udp {
        datagram(socket, spec, &line)?
    } else {
        (stream_line(socket, &line)?, None)
    };
    let echo: Echo = serde_json::from_str(&reply).map_err(|_| {
        SocketError::named("recv", format!("{reply:?} is not from the lab's server"))
    })?;
    if echo.text != text {
        return Err(SocketError::named(
            "recv",
            format!("asked {text:?}, answered {:?}", echo.text),
        ));
    }
    let peer = if spec.unconnected { None } else { Some(peer_name(socket)?) };
    Ok(Answer { echo, local: sock_name(socket)?, peer, from })
}

/// `getpeername(2)`.
pub(super) fn peer_name(socket: &Socket) -> Result<SocketAddr, SocketError> {
    internet(socket.peer_addr(), "getpeername")
}

/// `getsockname(2)`.
pub(super) fn sock_name(socket: &Socket) -> Result<SocketAddr, SocketError> {
    internet(socket.local_addr(), "getsockname")
}

/// The address that a call gave.
pub(super) fn internet(
    result: io::Result<socket2::SockAddr>,
    call: &str,
) -> Result<SocketAddr, SocketError> {
    let address = result.map_err(named(call))?;
    address.as_socket().ok_or_else(|| SocketError::named(call, "no internet address"))
}

/// Ends a connection so that the peer sees it at once, whoever else has the fd.
pub(super) fn hang_up(socket: &Socket) {
    // A socket that is not connected any more has nothing to shut down.
    drop(socket.shutdown(Shutdown::Both));
}

/// Names the system call of an error.
pub(super) fn named(call: &str) -> impl Fn(io::Error) -> SocketError + '_ {
    move |error| SocketError::of(call, &error)
}

/// Sends a datagram and receives one.
fn datagram(
    socket: &Socket,
    spec: &AskSpec,
    line: &str,
) -> Result<(String, Option<SocketAddr>), SocketError> {
    if spec.unconnected {
        socket.send_to(line.as_bytes(), &spec.to.into()).map_err(named("sendto"))?;
    } else {
        socket.send(line.as_bytes()).map_err(named("send"))?;
    }
    receive(socket)
}

/// `recvfrom(2)` of text. A stream has no source.
pub(super) fn receive(socket: &Socket) -> Result<(String, Option<SocketAddr>), SocketError> {
    let mut buffer = [0; 4096];
    let received = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer);
    let (length, from) = received.map_err(io::Error::from).map_err(named("recvfrom"))?;
    let bytes = buffer.get(..length).unwrap_or_default();
    let source = from.and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
        v4.or_else(|| from.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
    });
    Ok((String::from_utf8_lossy(bytes).into_owned(), source))
}

/// Sends a line and reads one.
fn stream_line(mut socket: &Socket, line: &str) -> Result<String, SocketError> {
    socket.write_all(line.as_bytes()).map_err(named("send"))?;
    let mut reply = Vec::new();
    let mut buffer = [0; 1024];
    while reply.last() != Some(&b'\n') {
        let length = socket.read(&mut buffer).map_err(named("recv"))?;
        if length == 0 {
            return Err(SocketError::named("recv", "EOF"));
        }
        reply.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
