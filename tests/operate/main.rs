// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an operator and a load balancer see of an agent from outside: health,
//! health-check node ports, settings, sysctls.
#![expect(clippy::unwrap_used, reason = "a test's helper fails its test like the test itself")]

mod health;
mod health_checks;
mod modes;
mod settings;

use lab::{http, place::Place};

/// `GET` from a place: the status; nothing if the connection fails.
fn status(from: &Place, to: std::net::SocketAddr, path: &str) -> Option<u16> {
    from.run(|| http::get(to, path)).unwrap().ok().map(|(status, _)| status)
}
