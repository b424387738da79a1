// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of `union bpf_attr` and of the kernel's answers that we use, as in
//! `include/uapi/linux/bpf.h`. All host order. Trailing fields that are missing here are
//! zero for the kernel.

use bytemuck::{Pod, Zeroable};

/// BPF_OBJ_PIN and BPF_OBJ_GET.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Object {
    /// Address of a NUL-terminated path.
    pub(super) pathname: u64,
    /// The object to pin; 0 for BPF_OBJ_GET.
    pub(super) bpf_fd: u32,
    pub(super) file_flags: u32,
}

/// BPF_MAP_{LOOKUP,UPDATE,DELETE}_BATCH.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Batch {
    /// Address of the cursor of the last call; 0 to start.
    pub(super) from: u64,
    /// Address of where the next cursor goes.
    pub(super) next: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    /// In: room or number of elements. Out: how many were read or written.
    pub(super) count: u32,
    pub(super) map_fd: u32,
    pub(super) elem_flags: u64,
    pub(super) flags: u64,
}

/// BPF_LINK_CREATE.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LinkCreate {
    pub(super) prog_fd: u32,
    /// The cgroup's directory.
    pub(super) target_fd: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
}

/// BPF_LINK_UPDATE.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LinkUpdate {
    pub(super) link_fd: u32,
    pub(super) new_prog_fd: u32,
    pub(super) flags: u32,
    pub(super) old_prog_fd: u32,
}

/// BPF_LINK_DETACH.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LinkDetach {
    pub(super) link_fd: u32,
}

/// BPF_PROG_QUERY.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Query {
    pub(super) target_fd: u32,
    pub(super) attach_type: u32,
    /// BPF_F_QUERY_EFFECTIVE is 1.
    pub(super) effective: u32,
    /// Out: BPF_F_ALLOW_* of the cgroup's own attachment.
    pub(super) attach_flags: u32,
    /// Address of an array of ids.
    pub(super) prog_ids: u64,
    /// In: its length. Out: how many programs there are.
    pub(super) prog_cnt: u32,
    pub(super) _pad: u32,
}

/// BPF_{PROG,MAP,LINK}_GET_FD_BY_ID.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ById {
    pub(super) id: u32,
    pub(super) next_id: u32,
    pub(super) open_flags: u32,
}

/// BPF_OBJ_GET_INFO_BY_FD.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Describe {
    pub(super) bpf_fd: u32,
    pub(super) info_len: u32,
    pub(super) info: u64,
}

/// The start of `struct bpf_prog_info`.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ProgramFound {
    pub(super) type_: u32,
    pub(super) id: u32,
    pub(super) tag: u64,
    pub(super) jited_prog_len: u32,
    pub(super) xlated_prog_len: u32,
    pub(super) jited_prog_insns: u64,
    pub(super) xlated_prog_insns: u64,
    pub(super) load_time: u64,
    pub(super) created_by_uid: u32,
    /// In: room at `map_ids`. Out: number of maps.
    pub(super) nr_map_ids: u32,
    pub(super) map_ids: u64,
    pub(super) name: [u8; 16],
}

/// The start of `struct bpf_map_info`.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct MapFound {
    pub(super) type_: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
    pub(super) name: [u8; 16],
}

/// `struct bpf_link_info` of a link to a cgroup.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LinkFound {
    pub(super) type_: u32,
    pub(super) id: u32,
    pub(super) prog_id: u32,
    pub(super) _pad: u32,
    /// The inode number of the cgroup's directory; 0 once it is gone.
    pub(super) cgroup_id: u64,
    pub(super) attach_type: u32,
    pub(super) _pad2: u32,
}
