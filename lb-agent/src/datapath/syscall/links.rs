// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Links: what attaches programs to cgroups and network devices, and what is attached there.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use bytemuck::Zeroable as _;

use super::{address, attr, bpf, bpf_fd, describe, is_a, length, number};

/// What the kernel says about a link to a cgroup or a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkDescription {
    /// The link's id: unique until the node restarts.
    pub id: u32,
    /// The program that runs.
    pub program: u32,
    /// Where it runs.
    pub target: LinkTarget,
}

/// What a link attaches a program to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkTarget {
    /// A cgroup.
    Cgroup {
        /// The inode number of its directory, 0 once it is gone.
        id: u64,
        /// `enum bpf_attach_type`.
        attach_type: u32,
    },
    /// A network device.
    Device {
        /// Its index, 0 once it is gone.
        index: u32,
        /// `enum bpf_attach_type`.
        attach_type: u32,
    },
    /// A network device, in front of the stack.
    Xdp {
        /// Its index, 0 once it is gone.
        index: u32,
    },
}

/// A program at a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AtDevice {
    /// The program's id.
    pub program: u32,
    /// The id of the link that attaches it; 0 for none.
    pub link: u32,
}

/// Programs of one hook at one cgroup.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attached {
    /// Their ids, in the order in which they run.
    pub programs: Vec<u32>,
    /// BPF_F_ALLOW_MULTI, BPF_F_ALLOW_OVERRIDE or none: what the cgroup lets its children
    /// do. Always 0 in an effective query.
    pub flags: u32,
}

/// Attaches a program to a cgroup. Without flags: a link always lets others attach, too.
pub fn link_create(program: impl AsFd, cgroup: impl AsFd, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = attr::LinkCreate {
        prog_fd: number(program.as_fd()),
        target_fd: number(cgroup.as_fd()),
        attach_type,
        ..attr::LinkCreate::zeroed()
    };
    bpf_fd(BPF_LINK_CREATE, &mut attr)
}

/// Attaches a program to a network device of the caller's namespace, by tcx: `first` of all
/// programs there, or last. `EINVAL`: the kernel has no tcx. Linux 6.6.
pub fn link_create_device(
    program: impl AsFd,
    index: u32,
    attach_type: u32,
    first: bool,
) -> io::Result<OwnedFd> {
    let mut attr = attr::LinkCreateDevice {
        prog_fd: number(program.as_fd()),
        target_ifindex: index,
        attach_type,
        flags: if first { BPF_F_BEFORE } else { 0 },
        ..attr::LinkCreateDevice::zeroed()
    };
    bpf_fd(BPF_LINK_CREATE, &mut attr)
}

/// Makes a program an iterator over a map's elements. Linux 5.9.
pub fn link_create_iterator(program: impl AsFd, map: impl AsFd) -> io::Result<OwnedFd> {
    let map_fd = number(map.as_fd());
    let mut attr = attr::LinkCreateIterator {
        prog_fd: number(program.as_fd()),
        attach_type: BPF_TRACE_ITER,
        iter_info: address(&raw const map_fd),
        iter_info_len: length(size_of_val(&map_fd)),
        ..attr::LinkCreateIterator::zeroed()
    };
    bpf_fd(BPF_LINK_CREATE, &mut attr)
}

/// Starts an iterator anew: reading from it runs its program for one element after the other,
/// and gives what that writes. Linux 5.8.
pub fn iterate(link: impl AsFd) -> io::Result<File> {
    let mut attr = attr::IteratorCreate { link_fd: number(link.as_fd()), flags: 0 };
    bpf_fd(BPF_ITER_CREATE, &mut attr).map(File::from)
}

/// Attaches a program in front of a device's stack, in the driver. `EOPNOTSUPP`: the driver has no such place. `EBUSY`: another program is there. Linux 5.9.
pub fn link_create_xdp(program: impl AsFd, index: u32) -> io::Result<OwnedFd> {
    let mut attr = attr::LinkCreate {
        prog_fd: number(program.as_fd()),
        target_fd: index,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    bpf_fd(BPF_LINK_CREATE, &mut attr)
}

/// Puts another program in a link's place: no moment passes without one.
/// `ENOLINK`: the cgroup is gone.
pub fn link_update(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attr = attr::LinkUpdate {
        link_fd: number(link.as_fd()),
        new_prog_fd: number(program.as_fd()),
        ..attr::LinkUpdate::zeroed()
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Ends an attachment at once, whoever holds the link: what is left of it does nothing.
/// Linux 5.9.
pub fn link_detach(link: impl AsFd) -> io::Result<()> {
    let mut attr = attr::LinkDetach { link_fd: number(link.as_fd()) };
    bpf(BPF_LINK_DETACH, &mut attr).map(drop)
}

/// The programs of a hook that are attached to a cgroup; `effective`: those that run for a
/// process in it, its parents' included.
pub fn attached(cgroup: impl AsFd, attach_type: u32, effective: bool) -> io::Result<Attached> {
    let mut ids = [0_u32; MAX_ATTACHED];
    let mut attr = attr::Query {
        target: number(cgroup.as_fd()),
        attach_type,
        effective: u32::from(effective),
        prog_ids: address(ids.as_mut_ptr()),
        prog_cnt: length(MAX_ATTACHED),
        ..attr::Query::zeroed()
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let programs = ids.into_iter().take(attr.prog_cnt as usize).collect();
    Ok(Attached { programs, flags: attr.attach_flags })
}

/// The programs that run at a device of the caller's namespace, in their order. `EINVAL`: the
/// kernel has no tcx. Linux 6.6.
pub fn attached_to_device(index: u32, attach_type: u32) -> io::Result<Vec<AtDevice>> {
    let mut programs = [0_u32; MAX_ATTACHED];
    let mut links = [0_u32; MAX_ATTACHED];
    let mut attr = attr::Query {
        target: index,
        attach_type,
        prog_ids: address(programs.as_mut_ptr()),
        link_ids: address(links.as_mut_ptr()),
        prog_cnt: length(MAX_ATTACHED),
        ..attr::Query::zeroed()
    };
    match bpf(BPF_PROG_QUERY, &mut attr) {
        // Nothing was ever attached there.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
        result => result?,
    };
    let pairs = programs.into_iter().zip(links).take(attr.prog_cnt as usize);
    Ok(pairs.map(|(program, link)| AtDevice { program, link }).collect())
}

/// Describes a link to a cgroup or a device. `EINVAL`: it is something else.
pub fn describe_link(link: impl AsFd) -> io::Result<LinkDescription> {
    if !is_a("link", link.as_fd())? {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut found = attr::LinkFound::zeroed();
    describe(link.as_fd(), &mut found)?;
    let attr::LinkFound { id, prog_id: program, target, .. } = found;
    let [first, second, third, _] = target;
    let target = match found.type_ {
        BPF_LINK_TYPE_CGROUP => {
            LinkTarget::Cgroup { id: bytemuck::must_cast([first, second]), attach_type: third }
        }
        BPF_LINK_TYPE_XDP => LinkTarget::Xdp { index: first },
        BPF_LINK_TYPE_TCX => LinkTarget::Device { index: first, attach_type: second },
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    Ok(LinkDescription { id, program, target })
}

/// In [`Attached::flags`]: programs of the cgroup's children run as well.
pub const BPF_F_ALLOW_MULTI: u32 = 2;

const BPF_PROG_QUERY: u32 = 16;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_ITER_CREATE: u32 = 33;
const BPF_LINK_DETACH: u32 = 34;
const BPF_TRACE_ITER: u32 = 28;
const BPF_LINK_TYPE_CGROUP: u32 = 3;
const BPF_LINK_TYPE_TCX: u32 = 11;
const BPF_LINK_TYPE_XDP: u32 = 6;
/// `enum bpf_attach_type`.
pub const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const BPF_F_BEFORE: u32 = 1 << 3;
/// The kernel's BPF_CGROUP_MAX_PROGS for one cgroup; with parents there may be more, which
/// the query would refuse with ENOSPC.
const MAX_ATTACHED: usize = 256;
