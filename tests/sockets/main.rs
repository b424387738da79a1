// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Real sockets of real processes, through the kernel programs.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helper fails its test like the test itself"
)]

mod affinity;
mod bypass;
mod cluster_ips;
mod counts;
mod datagrams;
mod devices;
mod neighbours;
mod node_addresses;
mod protocols;
mod ranges;
mod records;
mod refusal;
mod repeat;
mod shared;
mod stale;
mod table;
mod two;
