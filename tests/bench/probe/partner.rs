// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Answers a byte with a byte, over TCP and UDP, on every address of its pod; and what else it
//! reads at once, with one too.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    thread,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::{PORT, inside};

/// Serves until it is killed.
pub(crate) fn run() -> Result<()> {
    inside::pin(inside::PARTNER_CPU)?;
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    listener.set_reuse_address(true)?;
    listener.bind(&any.into()).with_context(|| format!("binding to {any}"))?;
    listener.listen(BACKLOG)?;
    let listener = TcpListener::from(listener);
    let socket = UdpSocket::bind(any)?;
    println!("listening");
    thread::spawn(move || datagrams(&socket));
    connections(&listener);
    Ok(())
}

/// One connection after the other: probes have one at a time.
fn connections(listener: &TcpListener) {
    let mut bytes = vec![0; inside::PIECE];
    while let Ok((mut stream, _)) = listener.accept() {
        // A probe ends its connections with a reset, and a stream with an end.
        while matches!(stream.read(&mut bytes), Ok(1..)) && stream.write_all(&[1]).is_ok() {}
    }
}

/// One datagram after the other.
fn datagrams(socket: &UdpSocket) {
    let mut bytes = [0; 16];
    loop {
        // An ICMP error of an earlier reply shows up here: nothing to do.
        if let Ok((_, from)) = socket.recv_from(&mut bytes) {
            drop(socket.send_to(&[1], from));
        }
    }
}

/// Connections that may wait for accept: a sweep comes quicker than a partner accepts.
const BACKLOG: i32 = 16_384;
