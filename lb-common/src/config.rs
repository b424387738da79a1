// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CONFIG: what the agent tells the kernel programs while they run.

use bytemuck::{Pod, Zeroable};

/// The one value of CONFIG, 64 bytes. Each field is changed with one aligned store.
///
/// What never changes while a program is loaded (the host's namespace cookie, the size
/// of SOCKETS, what the kernel can do) is a read-only global of the program instead, so
/// that the verifier can drop dead branches.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Config {
    /// Number of entries in BYPASS; 0 spares the lookup.
    pub bypassed_namespaces: u32,
    /// Always 0.
    pub _pad: [u32; 15],
}
