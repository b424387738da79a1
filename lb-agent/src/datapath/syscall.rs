// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The system calls that neither aya nor the standard library has: bpf(2) commands for
//! batches, cgroup links, queries and pins, and a few of the kernel's other doors.
//!
//! All of this room's raw calls are here. Each function takes and gives owned or borrowed
//! types, and answers with the kernel's errno.
#![expect(unsafe_code, reason = "raw system calls")]

mod attr;
mod links;

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _, Write as _},
    net::UdpSocket,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    time::Duration,
};

use bytemuck::{Pod, Zeroable as _};

pub use self::links::{
    AtDevice, Attached, BPF_F_ALLOW_MULTI, BPF_XDP, LinkDescription, LinkTarget, attached,
    attached_to_device, describe_link, iterate, link_create, link_create_device,
    link_create_iterator, link_create_xdp, link_detach, link_update,
};

/// What the kernel says about a map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MapDescription {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// The map's id: unique until the node restarts.
    pub id: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// How many elements fit.
    pub max_entries: u32,
    /// BPF_F_* of its creation.
    pub flags: u32,
}

/// What the kernel says about a program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProgramDescription {
    /// The program's id: unique until the node restarts.
    pub id: u32,
    /// The first 15 characters of its name.
    pub name: String,
    /// Ids of the maps that it uses.
    pub maps: Vec<u32>,
    /// Instructions after the verifier's translation.
    pub instructions: u32,
    /// The kernel's hash of the instructions.
    pub tag: u64,
}

/// A batch that stopped before its end.
#[derive(Debug)]
pub struct BatchFailed {
    /// Elements that were written before.
    pub done: usize,
    /// Why the next one was not.
    pub source: io::Error,
}

/// The answer to one call of [`lookup_batch`].
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Elements that were read.
    pub count: usize,
    /// Where to go on; `None` at the end of the map.
    pub next: Option<Cursor>,
}

/// Where a batch goes on: a hash's bucket, or a trie's last key.
pub type Cursor = [u8; 32];

/// Opens a pinned object.
pub fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = attr::Object { pathname: address(path.as_ptr()), ..attr::Object::zeroed() };
    bpf_fd(BPF_OBJ_GET, &mut attr)
}

/// Pins an object at a path in a BPF file system.
pub fn object_pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = attr::Object {
        pathname: address(path.as_ptr()),
        bpf_fd: number(object.as_fd()),
        ..attr::Object::zeroed()
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// The value of a key in a map, if it is there. For maps with one value for all CPUs.
pub fn lookup<K: Pod, V: Pod>(map: impl AsFd, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let mut attr = attr::Element {
        map_fd: number(map.as_fd()),
        key: address(&raw const *key),
        value: address(&raw mut value),
        ..attr::Element::zeroed()
    };
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes elements of a map, in order, up to the first that fails. Linux 5.6.
pub fn update_batch<K: Pod, V: Pod>(
    map: impl AsFd,
    keys: &[K],
    values: &[V],
) -> Result<(), BatchFailed> {
    write_batch(BPF_MAP_UPDATE_BATCH, map.as_fd(), keys, address(values.as_ptr()))
}

/// Removes elements of a map, in order, up to the first that fails (it may be missing).
/// Linux 5.6.
pub fn delete_batch<K: Pod>(map: impl AsFd, keys: &[K]) -> Result<(), BatchFailed> {
    write_batch(BPF_MAP_DELETE_BATCH, map.as_fd(), keys, 0)
}

/// Reads elements of a hash map or trie from a cursor on, as many as `keys` and `values` have
/// room for. `ENOSPC`: the next bucket alone has more. Linux 5.6; for tries 5.13.
pub fn lookup_batch<K: Pod, V: Pod>(
    map: impl AsFd,
    from: Option<Cursor>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<Read> {
    let cursor = from.unwrap_or_default();
    let mut next = Cursor::default();
    let mut attr = attr::Batch {
        from: if from.is_some() { address(&raw const cursor) } else { 0 },
        next: address(&raw mut next),
        keys: address(keys.as_mut_ptr()),
        values: address(values.as_mut_ptr()),
        count: length(keys.len().min(values.len())),
        map_fd: number(map.as_fd()),
        ..attr::Batch::zeroed()
    };
    match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
        Ok(_) => Ok(Read { count: attr.count as usize, next: Some(next) }),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(Read { count: attr.count as usize, next: None })
        }
        Err(error) => Err(error),
    }
}

/// The name of a device of the caller's namespace.
pub fn device_name(index: u32) -> io::Result<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: `name` has the IF_NAMESIZE bytes that the call may write.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return Err(io::Error::last_os_error());
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Opens a program by its id; needs CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    bpf_fd(BPF_PROG_GET_FD_BY_ID, &mut attr::ById { id, ..attr::ById::zeroed() })
}

/// Describes a map. `EINVAL`: it is something else.
pub fn describe_map(map: impl AsFd) -> io::Result<MapDescription> {
    if !is_a("map", map.as_fd())? {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut found = attr::MapFound::zeroed();
    describe(map.as_fd(), &mut found)?;
    Ok(MapDescription {
        map_type: found.type_,
        id: found.id,
        key_size: found.key_size,
        value_size: found.value_size,
        max_entries: found.max_entries,
        flags: found.map_flags,
    })
}

/// Describes a program. `EINVAL`: it is something else.
pub fn describe_program(program: impl AsFd) -> io::Result<ProgramDescription> {
    if !is_a("prog", program.as_fd())? {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut maps = [0_u32; MAX_MAPS];
    let mut found = attr::ProgramFound {
        nr_map_ids: length(MAX_MAPS),
        map_ids: address(maps.as_mut_ptr()),
        ..attr::ProgramFound::zeroed()
    };
    describe(program.as_fd(), &mut found)?;
    let name = found.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(ProgramDescription {
        id: found.id,
        name: String::from_utf8_lossy(name).into_owned(),
        maps: maps.into_iter().take(found.nr_map_ids as usize).collect(),
        instructions: found.xlated_prog_len / BYTES_PER_INSTRUCTION,
        tag: found.tag,
    })
}

/// Waits until every program that runs now has ended: programs run inside an RCU read-side
/// section, and the call returns after a grace period (8 to 16 ms). Where the kernel cannot
/// (nohz_full), waits a second instead, which no program outlives.
pub fn wait_for_grace() {
    if !membarrier() {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Waits for an RCU grace period by membarrier(2); whether this kernel can.
pub fn membarrier() -> bool {
    // SAFETY: no pointers are passed.
    let result =
        unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0_u32, 0_i32) };
    result == 0
}

/// Runs a function in a child process that first enters a cgroup, and gives its answer.
///
/// The child is a copy of one thread of ours: the function must not allocate, lock or
/// panic.
///
/// # Errors
///
/// Those of fork(2); `PermissionDenied` if the child could not enter the cgroup.
pub fn in_cgroup(processes: &File, function: impl FnOnce() -> i64) -> io::Result<i64> {
    let (mut answers, answer) = io::pipe()?;
    // SAFETY: the child calls what is safe after a fork only: write(2), the caller's
    // function, which promises the same, and _exit(2).
    let child = unsafe { libc::fork() };
    if child == 0 {
        let entered = (&*processes).write_all(b"0").is_ok();
        let word = if entered { function() } else { NOT_ENTERED };
        let _parent_is_gone = (&answer).write_all(&word.to_ne_bytes());
        // SAFETY: ends the process without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    drop(answer);
    let mut word = [0; 8];
    let read = answers.read_exact(&mut word);
    // SAFETY: the child is ours and nobody else waits for it; no status is stored.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    match read.map(|()| i64::from_ne_bytes(word))? {
        NOT_ENTERED => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a child process could not enter the cgroup",
        )),
        answer => Ok(answer),
    }
}

/// The cookie of the network namespace that the caller is in. Linux 5.14.
pub fn netns_cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind(("::1", 0)))?;
    let mut cookie = 0_u64;
    let mut size: libc::socklen_t = 8;
    // SAFETY: `cookie` has the eight bytes that `size` says, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// The kind of file system that a path is in: [`BPF_FS_MAGIC`], [`CGROUP2_SUPER_MAGIC`]
/// or another.
pub fn file_system(path: &Path) -> io::Result<i64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a value of this C struct of integers.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with NUL and `found` is writable; both outlive the call.
    let result = unsafe { libc::statfs(path.as_ptr(), &raw mut found) };
    if result == 0 { Ok(found.f_type) } else { Err(io::Error::last_os_error()) }
}

fn write_batch<K: Pod>(
    command: u32,
    map: BorrowedFd<'_>,
    keys: &[K],
    values: u64,
) -> Result<(), BatchFailed> {
    let mut attr = attr::Batch {
        keys: address(keys.as_ptr()),
        values,
        count: length(keys.len()),
        map_fd: number(map),
        ..attr::Batch::zeroed()
    };
    bpf(command, &mut attr)
        .map(drop)
        .map_err(|source| BatchFailed { done: (attr.count as usize).min(keys.len()), source })
}

fn describe<T: Pod>(object: BorrowedFd<'_>, found: &mut T) -> io::Result<()> {
    let mut attr = attr::Describe {
        bpf_fd: number(object),
        info_len: length(size_of::<T>()),
        info: address(&raw mut *found),
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// Whether a BPF object is of a kind: `map`, `prog` or `link`. The kernel would describe
/// whatever it is given. Some of its own names have a dash, some an underscore.
fn is_a(kind: &str, object: BorrowedFd<'_>) -> io::Result<bool> {
    let target = std::fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd()))?;
    let name = target.to_string_lossy().replace('_', "-");
    Ok(name.trim_matches(['[', ']']).ends_with(&format!("bpf-{kind}")))
}

fn bpf_fd<T: Pod>(command: u32, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, close-on-exec, and nobody
    // else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T: Pod>(command: u32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is the start of `union bpf_attr` with its size, and the addresses in it
    // are of memory that the callers borrow for longer than the call lasts.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A pointer as bpf(2) wants it.
fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

/// Has the heap keep little of what is freed. glibc gives each thread a heap of its own, and
/// none of them gives back what a list of all objects took on its way. To be called before
/// the first thread starts.
pub fn keep_heap_small() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [(libc::M_ARENA_MAX, 1), (libc::M_TRIM_THRESHOLD, 128 * 1024)] {
        // SAFETY: the call takes two numbers, and no other thread allocates yet.
        unsafe {
            libc::mallopt(option, value);
        }
    }
}

/// Gives memory that has been freed in the middle of the heap back to the kernel.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call touches no memory that is in use, and any thread may make it.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A descriptor as bpf(2) wants it.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// A length as bpf(2) wants it.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A BPF file system (`include/uapi/linux/magic.h`).
pub const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// A cgroup2 file system (`include/uapi/linux/magic.h`).
pub const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// No function answers so.
const NOT_ENTERED: i64 = i64::MIN;
const BYTES_PER_INSTRUCTION: u32 = 8;
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_MAP_LOOKUP_BATCH: u32 = 24;
const BPF_MAP_UPDATE_BATCH: u32 = 26;
const BPF_MAP_DELETE_BATCH: u32 = 27;
const MEMBARRIER_CMD_GLOBAL: i32 = 1;
const SO_NETNS_COOKIE: i32 = 71;
/// More than all of our maps.
const MAX_MAPS: usize = 64;
