// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent: watches a cluster's Services and EndpointSlices and keeps the kernel's maps
//! equal to what they say.
//!
//! ```text
//! source ─► model::Snapshot ─► plan::compile ─► plan::diff ─► datapath
//! ```

pub mod cli;
pub mod config;
pub mod datapath;
pub mod flows;
pub mod fnv;
pub mod model;
pub mod observe;
pub mod plan;
pub mod pods;
pub mod reconcile;
pub mod run;
pub mod sockets;
pub mod source;
