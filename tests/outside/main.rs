// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client outside the cluster, through the nodes' devices, to real pods.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helper fails its test like the test itself"
)]

mod addresses;
mod association;
mod bare;
mod bed;
mod big;
mod clsact;
mod devices;
mod direct;
mod explain;
mod failover;
mod firewall;
mod flood;
mod kinds;
mod monitor;
mod narrow;
mod offloads;
mod pods;
mod policy;
mod ranges;
mod raw;
mod reach;
mod refusal;
mod restart;
mod road;
mod tagged;
mod trace;
mod uplinks;
mod volume;
mod xdp;
