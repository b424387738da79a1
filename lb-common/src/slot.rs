// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SLOTS: the table that a set word points into.

use bytemuck::{Pod, Zeroable};

use crate::be::{Be16, Be32};

/// Value of SLOTS, 16 bytes.
///
/// Holds an IPv4 backend's whole address, so that the common case reads nothing
/// behind it; an IPv6 backend's address is in BACKENDS.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Slot {
    /// The backend's address; zero for an IPv6 backend.
    pub address4: Be32,
    /// The backend's port.
    pub port: Be16,
    /// Always 0.
    pub _pad: u16,
    /// Index into BACKENDS.
    pub backend: u32,
    /// The generation of that index which is meant.
    pub generation: u32,
}
