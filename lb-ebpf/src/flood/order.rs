// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the flood's programs are told, and what they tell. Also compiled into the benchmark.

use bytemuck::{Pod, Zeroable};
use lb_common::be::Be16;

/// The only value of ORDER, 288 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Order {
    /// The first 56 bytes of each frame of the first flow, [`WORDS`] words for each: of the
    /// only one, or of those of a connection, in turn.
    pub(crate) heads: [u64; WORDS * FRAMES],
    /// Flows less one: all bits below some bit. Others have greater source ports.
    pub(crate) flows: u64,
    /// Out: frames that were made.
    pub(crate) made: u64,
    /// Out: datagrams that the sink took, or connections whose client had an answer.
    pub(crate) taken: u64,
    /// 1: connections; 0: datagrams.
    pub(crate) connects: u32,
    /// The port of servers, and the one that clients dial.
    pub(crate) server: Be16,
    pub(crate) dialled: Be16,
}

/// Frames that a client sends in a connection: SYN, ACK, a byte, RST.
pub(crate) const FRAMES: usize = 4;
/// Words of a frame's head, the last of which is not sent.
pub(crate) const WORDS: usize = 8;
/// Flows that take a step before the first takes its next one: those of a batch.
pub(crate) const BATCH: u32 = 64;
