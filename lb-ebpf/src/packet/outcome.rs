// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What one step says to the next: an action, or that there is more to do. A number, since
//! functions that are not inlined return no more.

/// Whether the program is done: TC_ACT_UNSPEC, TC_ACT_SHOT or TC_ACT_REDIRECT.
#[inline(always)]
pub(super) const fn is_action(outcome: i32) -> bool {
    outcome < REFUSE
}

/// The sender is to be told that packets of so many bytes pass.
#[inline(always)]
pub(super) const fn too_big(mtu: u16) -> i32 {
    TOO_BIG | mtu as i32
}

/// Whether an outcome is of [`too_big`].
#[inline(always)]
pub(super) const fn is_too_big(outcome: i32) -> bool {
    outcome & !0xffff == TOO_BIG
}

/// The bytes of such an outcome.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the lower half")]
#[inline(always)]
pub(super) const fn mtu(outcome: i32) -> u16 {
    outcome as u16
}

/// Nobody serves: the client is to be told.
pub(super) const REFUSE: i32 = 1 << 16;
/// The packet is at the end of its hops: its sender is to be told.
pub(super) const EXPIRED: i32 = 2 << 16;
/// The packet belongs to no flow.
pub(super) const UNKNOWN: i32 = 3 << 16;
/// A backend was chosen; the forward half of the flow to it is put down.
pub(super) const TARGET: i32 = 4 << 16;
/// The packet gets the tuple that is put down, and goes up the stack.
pub(super) const TO_STACK: i32 = 5 << 16;
/// The packet gets the tuple that is put down, and goes to its backend's node.
pub(super) const TO_BACKEND: i32 = 6 << 16;
/// The packet gets the tuple that is put down, and goes back to its client.
pub(super) const TO_CLIENT: i32 = 7 << 16;
/// The packet goes on unchanged to the node of the backend that the tuple leads to which is put
/// down.
pub(super) const DIRECT: i32 = 9 << 16;
/// The packet is too big for the next link, whose limit is in the lower half.
const TOO_BIG: i32 = 8 << 16;
