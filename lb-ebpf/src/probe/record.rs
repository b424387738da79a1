// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a test asks `probe_translate`, and its answer. Also compiled into the test.

use bytemuck::{Pod, Zeroable};
use lb_common::{addr::Addr, be::Be16, protocol::Protocol};

/// Value of PROBES, 88 bytes: a flow, and the verdict on it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub(crate) struct Record {
    /// What is dialled; an IPv4-mapped address is IPv4.
    pub(crate) destination: Addr,
    /// Who the client is.
    pub(crate) identity: Addr,
    /// The clock.
    pub(crate) now_ns: u64,
    /// The port that is dialled.
    pub(crate) port: Be16,
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// 1 if the client is outside of the cluster.
    pub(crate) outside: u8,
    /// 1 if the client is in the node's own network namespace.
    pub(crate) on_host: u8,
    /// Always 0.
    pub(crate) _pad: [u8; 3],
    /// The random bits.
    pub(crate) entropy: u32,
    /// Out: [`PASS`], [`TRANSLATE`], [`REFUSE`] or [`DROP`]; 0 before the program ran.
    pub(crate) verdict: u32,
    /// Out: the counter's index.
    pub(crate) reason: u32,
    /// Out: the backend's index; 0 without one.
    pub(crate) backend: u32,
    /// Out: its generation.
    pub(crate) generation: u32,
    /// Out: its port.
    pub(crate) target_port: Be16,
    /// Always 0.
    pub(crate) _pad2: u16,
    /// Out: its address.
    pub(crate) target: Addr,
}

/// `Verdict::Pass`.
pub(crate) const PASS: u32 = 1;
/// `Verdict::Translate`.
pub(crate) const TRANSLATE: u32 = 2;
/// `Verdict::Refuse`.
pub(crate) const REFUSE: u32 = 3;
/// `Verdict::Drop`.
pub(crate) const DROP: u32 = 4;
/// Entries of PROBES.
pub(crate) const PROBES_LEN: u32 = 1 << 14;
