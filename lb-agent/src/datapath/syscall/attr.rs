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

/// BPF_MAP_LOOKUP_ELEM.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Element {
    pub(super) map_fd: u32,
    pub(super) _pad: u32,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) flags: u64,
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
    /// The cgroup's directory; for XDP the device's index.
    pub(super) target_fd: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
}

/// BPF_LINK_CREATE of a link to a network device.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LinkCreateDevice {
    pub(super) prog_fd: u32,
    /// In the caller's network namespace.
    pub(super) target_ifindex: u32,
    pub(super) attach_type: u32,
    /// BPF_F_BEFORE, BPF_F_AFTER or 0.
    pub(super) flags: u32,
    /// The program or link before or after which it runs; 0 for all of them.
    pub(super) relative: u32,
    pub(super) _pad: u32,
    pub(super) expected_revision: u64,
}

/// BPF_LINK_CREATE of an iterator's link.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LinkCreateIterator {
    pub(super) prog_fd: u32,
    pub(super) target_fd: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    /// Address of `union bpf_iter_link_info`, of which a map's descriptor is all.
    pub(super) iter_info: u64,
    pub(super) iter_info_len: u32,
    pub(super) _pad: u32,
}

/// BPF_ITER_CREATE.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct IteratorCreate {
    pub(super) link_fd: u32,
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

/// BPF_PROG_QUERY. All of it: of a device, the kernel writes `revision` whatever the size.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Query {
    /// A cgroup's directory, or a device's index.
    pub(super) target: u32,
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
    pub(super) prog_attach_flags: u64,
    /// Address of an array as long as the other; 0 for none, and for a cgroup.
    pub(super) link_ids: u64,
    pub(super) link_attach_flags: u64,
    pub(super) revision: u64,
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

/// `struct bpf_link_info` of a link to a cgroup or to a device.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LinkFound {
    pub(super) type_: u32,
    pub(super) id: u32,
    pub(super) prog_id: u32,
    pub(super) _pad: u32,
    /// Of a cgroup: the inode number of its directory, 0 once it is gone, and then the attach
    /// type. Of a device: its index, 0 once it is gone, and the attach type.
    pub(super) target: [u32; 4],
}
