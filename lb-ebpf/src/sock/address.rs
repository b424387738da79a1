// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A typed view of `struct bpf_sock_addr`: all of its unsafe reads and writes.
#![expect(unsafe_code, reason = "fields of the kernel's context")]

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    EbpfContext,
    bindings::{bpf_sock, bpf_sock_addr},
};
use lb_common::{
    addr::Addr,
    affinity::AffinityKey,
    be::{Be16, Be32},
    key::{FrontendKey4, FrontendKey6},
    protocol::Protocol,
    range::Guard,
    translate::{Client, Destination, Scope, ServiceView},
};

use super::namespace;
use crate::kernel::{self, Global};

/// Cookie of the node's own network namespace, set by the agent. Comparing with it, and
/// not with the initial namespace's, also works where the node is itself a container.
#[unsafe(no_mangle)]
static HOST_NETNS: Global = Global::new(0);

/// The address that a socket call is about, and the socket that makes the call.
pub(crate) struct SockAddr {
    context: *mut bpf_sock_addr,
    family: Family,
}

/// Which fields of the context hold the address: fixed by the hook.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Family {
    V4,
    V6,
}

impl SockAddr {
    /// The context of a hook for IPv4 addresses.
    #[inline(always)]
    pub(crate) fn v4(context: *mut bpf_sock_addr) -> Self {
        Self { context, family: Family::V4 }
    }

    /// The context of a hook for IPv6 sockets.
    #[inline(always)]
    pub(crate) fn v6(context: *mut bpf_sock_addr) -> Self {
        Self { context, family: Family::V6 }
    }

    /// The socket's protocol: exact, since a socket's type is no proof of it.
    #[expect(clippy::cast_possible_truncation, reason = "protocol numbers have 8 bits")]
    #[inline(always)]
    pub(crate) fn protocol(&self) -> Protocol {
        // SAFETY: a field of the context that the kernel passed.
        Protocol::from_number(unsafe { (*self.context).protocol } as u8)
    }

    /// The address that is dialled, or that replied.
    #[inline(always)]
    pub(crate) fn address(&self) -> Addr {
        match self.family {
            Family::V4 => Addr::from_v4(self.address4()),
            Family::V6 => Addr::from_words(self.words6()),
        }
    }

    /// The port that is dialled, or that replied.
    #[expect(clippy::cast_possible_truncation, reason = "the field holds 16 bits")]
    #[inline(always)]
    pub(crate) fn port(&self) -> Be16 {
        // SAFETY: as above. The field is 32 bits wide and holds a __be16.
        Be16::from_wire(unsafe { (*self.context).user_port } as u16)
    }

    /// What is dialled, as a frontend key of the family it belongs to: an IPv4-mapped
    /// address is IPv4 (SOC-09).
    #[inline(always)]
    pub(crate) fn destination(&self) -> Destination {
        let (port, protocol) = (self.port(), self.protocol());
        if self.family == Family::V4 {
            return Destination::V4(FrontendKey4::new(self.address4(), port, protocol));
        }
        let address = Addr::from_words(self.words6());
        match address.to_v4() {
            Some(address) => Destination::V4(FrontendKey4::new(address, port, protocol)),
            None => Destination::V6(FrontendKey6::new(address, port, protocol)),
        }
    }

    /// Puts another address and port in place of what was dialled or what replied.
    #[inline(always)]
    pub(crate) fn rewrite(&self, address: Addr, port: Be16) {
        let here = Self { context: opaque(self.context), family: self.family };
        let [w0, w1, w2, w3] = address.to_words();
        if self.family == Family::V4 {
            here.set_word4(w3);
        } else {
            here.set_word6::<0>(w0);
            here.set_word6::<1>(w1);
            here.set_word6::<2>(w2);
            here.set_word6::<3>(w3);
        }
        // SAFETY: a writable field of the context in all of our hooks.
        unsafe { (*here.context).user_port = u32::from(port.to_wire()) };
    }

    /// The calling socket's cookie.
    #[inline(always)]
    pub(crate) fn socket_cookie(&self) -> u64 {
        kernel::socket_cookie(self)
    }

    /// The cookie of the calling socket's network namespace.
    #[inline(always)]
    pub(crate) fn netns_cookie(&self) -> u64 {
        kernel::netns_cookie(self)
    }

    /// Whether the calling socket is a subflow of an MPTCP connection. Its parent is the
    /// one that programs see, and that is closed: state under the subflow's cookie would
    /// never be asked for.
    #[inline(always)]
    pub(crate) fn is_mptcp_subflow(&self) -> bool {
        let socket = self.socket();
        !socket.is_null() && kernel::is_mptcp_subflow(socket)
    }

    /// The calling socket.
    #[inline(always)]
    fn socket(&self) -> *mut c_void {
        // SAFETY: a field of the context that the kernel passed.
        let union = unsafe { (*self.context).__bindgen_anon_1 };
        // SAFETY: every variant of the union is this pointer.
        unsafe { union.sk }.cast()
    }

    #[inline(always)]
    fn address4(&self) -> Be32 {
        // SAFETY: a readable field in hooks for IPv4.
        Be32::from_wire(unsafe { (*self.context).user_ip4 })
    }

    #[inline(always)]
    fn words6(&self) -> [Be32; 4] {
        [self.word6::<0>(), self.word6::<1>(), self.word6::<2>(), self.word6::<3>()]
    }

    /// A quarter of the IPv6 address, by constant index: the verifier knows no other.
    #[inline(always)]
    fn word6<const INDEX: usize>(&self) -> Be32 {
        const { assert!(INDEX < 4) };
        // SAFETY: a readable field in hooks for IPv6; the index is below 4.
        let words = unsafe { &raw const (*self.context).user_ip6 }.cast::<u32>();
        // SAFETY: the array has four words.
        Be32::from_wire(unsafe { words.wrapping_add(INDEX).read_volatile() })
    }

    #[inline(always)]
    fn set_word4(&self, word: Be32) {
        // SAFETY: a writable field in hooks for IPv4.
        unsafe { (*self.context).user_ip4 = word.to_wire() };
    }

    #[inline(always)]
    fn set_word6<const INDEX: usize>(&self, word: Be32) {
        const { assert!(INDEX < 4) };
        // SAFETY: a writable field in hooks for IPv6; the index is below 4.
        let words = unsafe { &raw mut (*self.context).user_ip6 }.cast::<u32>();
        // SAFETY: the array has four words.
        unsafe { words.wrapping_add(INDEX).write_volatile(word.to_wire()) };
    }

    /// The source that the program bound, or `None` while the kernel has not chosen one.
    #[inline(always)]
    fn bound_source(&self) -> Option<Addr> {
        let socket = self.socket().cast::<bpf_sock>();
        if socket.is_null() {
            return None;
        }
        let source = match self.family {
            Family::V4 => source4(socket),
            Family::V6 => source6(socket),
        };
        (source != Addr::ZERO && source != Addr::from_v4(Be32::ZERO)).then_some(source)
    }
}

/// The same pointer, about which the compiler knows nothing. It would otherwise compute a
/// field's address once for all places that write it, and the verifier refuses a context
/// pointer that something was added to.
#[inline(always)]
fn opaque(context: *mut bpf_sock_addr) -> *mut bpf_sock_addr {
    let copy;
    // SAFETY: a move between registers.
    #[expect(clippy::pointers_in_nomem_asm_block, reason = "a move between registers")]
    unsafe {
        asm!("{} = {}", lateout(reg) copy, in(reg) context, options(pure, nomem, nostack));
    }
    copy
}

/// The IPv4 address that a socket is bound to.
#[inline(always)]
fn source4(socket: *const bpf_sock) -> Addr {
    // SAFETY: the caller has checked the kernel's pointer against NULL.
    Addr::from_v4(Be32::from_wire(unsafe { (*socket).src_ip4 }))
}

/// The IPv6 address that a socket is bound to.
#[inline(always)]
fn source6(socket: *const bpf_sock) -> Addr {
    // SAFETY: as above.
    let words = unsafe { &raw const (*socket).src_ip6 }.cast::<u32>();
    let word = |index: usize| {
        // SAFETY: the array has four words, and the index is a constant below 4.
        Be32::from_wire(unsafe { words.wrapping_add(index).read_volatile() })
    };
    Addr::from_words([word(0), word(1), word(2), word(3)])
}

impl EbpfContext for SockAddr {
    #[inline(always)]
    fn as_ptr(&self) -> *mut c_void {
        self.context.cast()
    }
}

impl Client for SockAddr {
    /// A socket of this node is always inside (TRP-17).
    #[inline(always)]
    fn scope(&self) -> Scope {
        Scope::Inside
    }

    #[inline(always)]
    fn on_host(&self) -> bool {
        self.netns_cookie() == HOST_NETNS.load()
    }

    #[inline(always)]
    fn identity(&self) -> Addr {
        match self.bound_source() {
            Some(source) => source,
            None => AffinityKey::namespace(self.netns_cookie()),
        }
    }

    #[inline(always)]
    fn comes_from(&self, ipv6: bool, test: impl Fn(Addr) -> bool) -> bool {
        if let Some(source) = self.bound_source() {
            return test(source);
        }
        if self.on_host() {
            return test(Guard::NODE);
        }
        namespace::all_addresses(self.socket(), self.netns_cookie(), ipv6, test)
    }

    /// At random for Maglev too: a socket has its port after connect() only, and ends with its
    /// node.
    #[inline(always)]
    fn entropy(&self, _service: &ServiceView) -> u32 {
        kernel::random()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        kernel::now_ns()
    }
}
