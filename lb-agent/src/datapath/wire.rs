// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bridge between `bytemuck::Pod`, which lb-common derives, and `aya::Pod`, which
//! aya's maps ask for.
#![expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use bytemuck::{Pod, Zeroable};

/// A value as it stands in a map: the bytes of `T` and nothing else.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(transparent)]
pub struct Wire<T: Pod>(pub T);

// SAFETY: `bytemuck::Pod` demands more than `aya::Pod`: no padding, and every bit pattern
// is a value. `repr(transparent)` adds nothing to `T`.
unsafe impl<T: Pod> aya::Pod for Wire<T> {}

// SAFETY: as above, by `repr(transparent)`.
unsafe impl<T: Pod> Zeroable for Wire<T> {}

// SAFETY: as above, by `repr(transparent)`.
unsafe impl<T: Pod> Pod for Wire<T> {}
