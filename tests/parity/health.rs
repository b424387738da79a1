// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A health check as a load balancer makes it: what a node says of itself.

use std::{io, net::SocketAddr};

use anyhow::Result;
use lab::http;

use crate::{bed::Client, outcome::Outcome};

/// What a client meets that asks a health check's port.
///
/// # Errors
/// When the client's namespace is gone.
pub(crate) fn ask(client: &Client, to: SocketAddr) -> Result<Outcome> {
    let reply = match client.place.run(|| http::ask(to, "GET", "/"))? {
        Ok(reply) => reply,
        Err(error) => return Ok(failure(&error)),
    };
    let weight = reply.headers.get(WEIGHT).and_then(|weight| weight.parse().ok());
    Ok(match weight {
        Some(weight) => Outcome::Health { status: reply.status, weight },
        None => Outcome::Odd(format!("status {} without a weight", reply.status)),
    })
}

/// What a failed one was.
fn failure(error: &anyhow::Error) -> Outcome {
    let io = error.downcast_ref::<io::Error>();
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => Outcome::Refused,
        Some(io::ErrorKind::ConnectionReset) => Outcome::Reset,
        Some(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Outcome::Silent,
        _ => Outcome::Odd(format!("{error:#}")),
    }
}

/// The header that balancers weigh nodes by (HCN-04).
const WEIGHT: &str = "x-load-balancing-endpoint-weight";
