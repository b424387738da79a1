// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client outside the cluster, through the nodes' devices, to real pods.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helper fails its test like the test itself"
)]

mod bed;
mod clsact;
mod devices;
mod explain;
mod failover;
mod firewall;
mod flood;
mod monitor;
mod pods;
mod policy;
mod ranges;
mod reach;
mod refusal;
mod restart;
mod tagged;
mod uplinks;
mod volume;
mod xdp;
