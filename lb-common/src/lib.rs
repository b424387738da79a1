// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The contract between the kernel programs and the agent.
//!
//! Both sides compile this crate: `lb-ebpf` for `bpfel-unknown-none`, `lb-agent` for
//! the node. It owns the layout of every BPF map, the choice of a backend, and the
//! table of counters. It never does I/O, reads no clock, draws no random number and
//! holds no `unsafe`.
//!
//! Layout rules: structs are `#[repr(C)]` with explicit padding that is always zero
//! (map keys are compared as bytes), hold integers and byte arrays only, and derive
//! [`bytemuck::Pod`]. Numbers are in host order unless their type is [`be::Be16`],
//! [`be::Be32`] or [`addr::Addr`], which hold network order and nothing else does.
//! `layout.rs` pins size, alignment and offsets; a change there raises
//! [`maps::LAYOUT_VERSION`].
//!
//! ```text
//! flow ─► translate ─► frontend key ─► service record ─► set word ─► slot ─► backend
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod affinity;
pub mod backend;
pub mod be;
pub mod checksum;
pub mod config;
pub mod counter;
pub mod crc32c;
pub mod event;
pub mod flow;
pub mod fragment;
pub mod key;
mod layout;
pub mod limit;
pub mod maps;
pub mod name;
pub mod namespace;
pub mod pick;
pub mod protocol;
pub mod range;
pub mod service;
pub mod slot;
pub mod snat;
pub mod socket;
pub mod translate;
pub mod verdict;
