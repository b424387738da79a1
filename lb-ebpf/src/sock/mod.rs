// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The socket path: a Service's address becomes a pod's once, when a socket connects or
//! sends, and the packets then flow between pods as if there were no Service.

pub(crate) mod address;
pub(crate) mod forward;
mod namespace;
pub(crate) mod reverse;
pub(crate) mod state;
pub(crate) mod traced;
