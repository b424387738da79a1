// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the flood's programs are told, and what they tell. Also compiled into the benchmark.

use bytemuck::{Pod, Zeroable};
use lb_common::be::Be16;

/// The only value of ORDER, 80 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Order {
    /// The first bytes of each frame: Ethernet, IPv4 and UDP headers for the
    /// first flow's source port, and what follows.
    pub(crate) head: [u64; 6],
    /// Flows less one: all bits below some bit.
    pub(crate) flows: u64,
    /// The destination port of datagrams that the sink takes.
    pub(crate) port: Be16,
    /// Always 0.
    pub(crate) _pad: [u16; 3],
    /// Out: frames that were made.
    pub(crate) made: u64,
    /// Out: datagrams that the sink took.
    pub(crate) taken: u64,
}
