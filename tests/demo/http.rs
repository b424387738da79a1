// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HTTP requests by sockets of a pod, each on a connection of its own.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use lab::{
    driver::Driver,
    wire::{Echo, Family, Kind},
};

/// One answered request as the client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// What the server said: who it is, whom it saw.
    pub(crate) echo: Echo,
    /// Whom the client believes to talk to: `getpeername(2)`, or the source of a datagram.
    pub(crate) peer: SocketAddr,
    /// The client's own address.
    pub(crate) local: SocketAddr,
}

/// `GET /` from `to`.
///
/// # Errors
/// The system call that failed, or what was no answer.
pub(crate) fn request(driver: &Driver, to: SocketAddr) -> Result<Answered> {
    let sock = driver.open(Kind::Tcp, Family::of(to))?;
    driver.connect(sock, to)?;
    driver.send(sock, &format!("GET / HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n"))?;
    let peer = driver.peer_name(sock)?;
    let local = driver.sock_name(sock)?;
    let mut answer = String::new();
    loop {
        let (part, _) = driver.recv_from(sock)?;
        if part.is_empty() {
            break;
        }
        answer.push_str(&part);
    }
    driver.close(sock)?;
    Ok(Answered { echo: parse(&answer)?, peer, local })
}

/// The body of a response that says 200.
fn parse(answer: &str) -> Result<Echo> {
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an empty line")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("answered {:?}", head.lines().next().unwrap_or_default());
    }
    serde_json::from_str(body).with_context(|| format!("{body:?} is not from the lab's server"))
}
