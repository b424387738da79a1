// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Safe wrappers of the kernel's helpers, and memory that others change under our eyes.
#![expect(unsafe_code, reason = "the only door to BPF helpers and map memory")]

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd},
    ptr::NonNull,
};

use aya_ebpf::{EbpfContext, helpers};
use bytemuck::Pod;
use lb_common::{
    addr::Addr,
    backend::{BackendFlags, Life},
    be::{Be16, Be32},
    checksum::Sum,
    config::PortRange,
    event::Lease,
    flow::{FlowEntry, FlowFlags, FlowKey, FlowWords},
    fragment::FragmentPorts,
    key::FrontendValue,
    namespace::NamespaceLayout,
    range::{Admission, CidrRule},
    service::{ServiceFlags, SetWord},
};

/// A value in map memory: other CPUs and the agent may change it at any time, so every
/// access is one volatile load or store of one field.
pub(crate) struct Live<T>(NonNull<T>);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Live<T> {}

impl<T: Pod> Live<T> {
    /// Wraps what a map lookup returned.
    #[inline(always)]
    pub(crate) fn new(pointer: Option<*mut T>) -> Option<Self> {
        pointer.and_then(NonNull::new).map(Self)
    }

    /// Loads the field at a byte offset (`offset_of!`); a field outside of the value
    /// does not compile.
    #[inline(always)]
    pub(crate) fn load<F: Field, const OFFSET: usize>(self) -> F {
        let field = self.field::<F::Words, OFFSET>();
        // SAFETY: `field` checked the bounds; the map owns the memory for as long as the
        // program runs (the verifier's guarantee for a looked-up value).
        bytemuck::cast(unsafe { field.read_volatile() })
    }

    /// Loads a word of the array of `LEN` words at a byte offset; the index wraps.
    #[inline(always)]
    pub(crate) fn load_word<const OFFSET: usize, const LEN: usize>(self, index: u32) -> u64 {
        const {
            assert!(OFFSET + LEN * size_of::<u64>() <= size_of::<T>());
            assert!(OFFSET.is_multiple_of(align_of::<u64>()) && LEN.is_power_of_two());
        };
        let index = index as usize & (LEN - 1);
        let word = self.0.as_ptr().wrapping_byte_add(OFFSET).cast::<u64>().wrapping_add(index);
        // SAFETY: the assertions and the mask keep it inside the value, which the map owns.
        unsafe { word.read_volatile() }
    }

    /// Stores the field at a byte offset.
    #[inline(always)]
    pub(crate) fn store<F: Field, const OFFSET: usize>(self, value: F) {
        let field = self.field::<F::Words, OFFSET>();
        // SAFETY: as in `load`; map memory is writable for programs.
        unsafe { field.write_volatile(bytemuck::cast(value)) }
    }

    /// Adds to the field at a byte offset, atomically; wraps.
    #[inline(always)]
    pub(crate) fn add<const OFFSET: usize>(self, amount: u64) {
        let field = self.field::<u64, OFFSET>();
        // SAFETY: as in `store`; the field is 8-byte aligned (layout.rs).
        unsafe { atomic_xadd::<u64, u64, { SeqCst }>(field, amount) };
    }

    /// Replaces the field at a byte offset if it holds `old`; whether it did.
    #[inline(always)]
    pub(crate) fn replace<const OFFSET: usize>(self, old: u64, new: u64) -> bool {
        let field = self.field::<u64, OFFSET>();
        // SAFETY: as in `add`.
        let (_, replaced) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(field, old, new) };
        replaced
    }

    /// A part of the value at a byte offset.
    #[inline(always)]
    pub(crate) fn part<F: Pod, const OFFSET: usize>(self) -> Option<Live<F>> {
        Live::new(Some(self.field::<F, OFFSET>()))
    }

    /// Where the value is, for a helper.
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut T {
        self.0.as_ptr()
    }

    /// A pointer to a field, with the bounds checked at compile time.
    #[inline(always)]
    fn field<F, const OFFSET: usize>(self) -> *mut F {
        const {
            assert!(OFFSET + size_of::<F>() <= size_of::<T>());
            assert!(OFFSET.is_multiple_of(align_of::<F>()));
        };
        self.0.as_ptr().wrapping_byte_add(OFFSET).cast()
    }
}

/// A field of a map value, and the integers to move it with: a volatile access to a byte
/// array would go byte by byte.
pub(crate) trait Field: Pod {
    /// Integers of the field's size.
    type Words: Pod;
}

/// Names the integers of each field type.
macro_rules! fields {
    ($($field:ty: $words:ty),+ $(,)?) => {
        $(impl Field for $field {
            type Words = $words;
        })+
    };
}

fields! {
    u8: u8, u16: u16, i32: i32, u32: u32, u64: u64, Sum: u64, [u64; 2]: [u64; 2], [u64; 4]: [u64; 4],
    Addr: [u64; 2], Be16: u16, Be32: u32,
    BackendFlags: u32, Life: u64, ServiceFlags: u32, SetWord: u64, FrontendValue: u64,
    Admission: u32, CidrRule: u32, PortRange: u64, Lease: u64,
    FlowKey: [u64; 5], FlowWords: FlowWords, FlowEntry: [u64; 8], FlowFlags: u8,
    FragmentPorts: [u64; 2],
}

/// A read-only global that the agent sets before it loads the program. The verifier
/// knows its value and drops the branches that it rules out.
#[repr(transparent)]
pub(crate) struct Global(u64);

impl Global {
    /// A global with the value it has when nobody sets it.
    pub(crate) const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The value.
    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        // SAFETY: a reference is valid; volatile, since the loader rewrites the section
        // after the compiler has seen the initial value.
        unsafe { (&raw const self.0).read_volatile() }
    }
}

/// Offsets in the kernel's own structures, set by the agent.
#[repr(transparent)]
pub(crate) struct Offsets(NamespaceLayout);

impl Offsets {
    /// The offset that is in the field at a byte offset (`offset_of!`) of the layout.
    #[inline(always)]
    pub(crate) fn load<const FIELD: usize>(&self) -> u64 {
        const { assert!(FIELD + size_of::<u32>() <= size_of::<NamespaceLayout>()) };
        let field = (&raw const self.0).cast::<u32>().wrapping_byte_add(FIELD);
        // SAFETY: inside of the static, as just checked; volatile, as in `Global::load`.
        u64::from(unsafe { field.read_volatile() })
    }
}

/// The number that a kernel pointer is. Arithmetic on a socket's pointer is forbidden; on
/// what a read of the kernel's memory returned it is not.
#[inline(always)]
pub(crate) fn address_of(pointer: *mut c_void) -> Option<u64> {
    read::<u64>((&raw const pointer).addr() as u64)
}

/// Reads the kernel's memory; `None` for an address where there is none.
#[expect(clippy::cast_possible_truncation, reason = "this target has 64-bit pointers")]
#[inline(always)]
pub(crate) fn read<T: Pod>(address: u64) -> Option<T> {
    let from = core::ptr::with_exposed_provenance::<T>(address as usize);
    // SAFETY: the helper checks the address, and any bytes are a `T`.
    unsafe { helpers::bpf_probe_read_kernel(from) }.ok()
}

/// The socket's cookie: unique as long as the node runs, never 0.
#[inline(always)]
pub(crate) fn socket_cookie(context: &impl EbpfContext) -> u64 {
    // SAFETY: the context is the one that the kernel passed to this program.
    unsafe { helpers::bpf_get_socket_cookie(context.as_ptr()) }
}

/// The cookie of the socket's network namespace.
#[inline(always)]
pub(crate) fn netns_cookie(context: &impl EbpfContext) -> u64 {
    // SAFETY: as above. NULL would ask for the initial namespace instead.
    unsafe { helpers::bpf_get_netns_cookie(context.as_ptr()) }
}

/// Makes the system call fail with an errno; what the program must then return. A kernel
/// that cannot lets the call go on, into a timeout: its only other answer is EPERM.
#[inline(always)]
pub(crate) fn fail_with(errno: i32) -> i32 {
    if HAS_SET_RETVAL.load() == 0 {
        return 1;
    }
    // SAFETY: the helper takes any number and has no memory effects.
    unsafe { helpers::bpf_set_retval(-errno) };
    0
}

/// Whether a socket is a subflow of an MPTCP connection.
#[inline(always)]
pub(crate) fn is_mptcp_subflow(socket: *mut c_void) -> bool {
    if HAS_MPTCP.load() == 0 {
        return false;
    }
    // SAFETY: the verifier has checked that this is a socket of the context.
    !unsafe { helpers::bpf_skc_to_mptcp_sock(socket) }.is_null()
}

/// 32 random bits.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: the helper has no arguments and no memory effects.
    unsafe { helpers::bpf_get_prandom_u32() }
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: as above.
    unsafe { helpers::bpf_ktime_get_ns() }
}

/// CLOCK_MONOTONIC in nanoseconds, as of the last tick: for what is told apart by seconds.
#[inline(always)]
pub(crate) fn coarse_now_ns() -> u64 {
    // SAFETY: as above.
    unsafe { helpers::bpf_ktime_get_coarse_ns() }
}

/// The kernel's ticks, a plain load for the programs.
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    // SAFETY: as above.
    unsafe { helpers::bpf_jiffies64() }
}

/// Bytes before the IP header of a packet at a device: an Ethernet header's (VLAN tags are
/// stripped), or none where the device has no such headers. The verifier knows which.
#[expect(clippy::cast_possible_truncation, reason = "0 or 14")]
#[inline(always)]
pub(crate) fn network() -> u32 {
    NETWORK.load() as u32
}

/// Where namespaces keep their addresses, set by the agent; unknown until then.
#[unsafe(no_mangle)]
pub(crate) static NAMESPACE_LAYOUT: Offsets = Offsets(bytemuck::must_cast([0_u32; 16]));

/// 1 if the kernel has bpf_set_retval (Linux 5.18), set by the agent.
#[unsafe(no_mangle)]
static HAS_SET_RETVAL: Global = Global::new(1);

/// 1 if the kernel has bpf_skc_to_mptcp_sock (Linux 5.19), set by the agent.
#[unsafe(no_mangle)]
static HAS_MPTCP: Global = Global::new(1);

/// Bytes before the IP header, set by the agent.
#[unsafe(no_mangle)]
static NETWORK: Global = Global::new(14);

/// Helpers that are GPL-only need it; the source is offered under either licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
