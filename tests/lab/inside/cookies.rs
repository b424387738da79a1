// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Socket cookies: the kernel counts them up, in blocks a CPU.

use socket2::Socket;

use super::exchange::{self, named};
use crate::wire::{Family, Kind, SocketError, SocketSpec};

/// Opens sockets until the cookie of one, masked, is in `places`.
pub(super) fn open_at(spec: &SocketSpec, mask: u64, places: &[u64]) -> Result<Socket, SocketError> {
    for _ in 0..TRIES {
        let socket = exchange::open(spec)?;
        let cookie = socket.cookie().map_err(named("getsockopt"))?;
        if places.contains(&(cookie & mask)) {
            return Ok(socket);
        }
    }
    Err(SocketError::named("driver", "no such cookie in a million sockets"))
}

/// Opens and closes this many sockets that have a cookie.
pub(super) fn burn(count: u64) -> Result<(), SocketError> {
    let spec = SocketSpec::new(Kind::Udp, Family::V4);
    for _ in 0..count {
        exchange::open(&spec)?.cookie().map_err(named("getsockopt"))?;
    }
    Ok(())
}

/// Sockets to try.
const TRIES: u32 = 1_000_000;
