// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The collector: an iterator over FLOWS that takes out the flows whose time is over, and says
//! in two bytes what it found at each element. The agent makes it run by reading from it; it
//! is attached nowhere.
//!
//! A flow is judged and removed inside the kernel, some hundred nanoseconds apart: no packet
//! of the time between a look and a removal is lost, as it would be between two system calls.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "as the programs of the product")]
#![expect(unsafe_code, reason = "the kernel hands out pointers to a map's elements")]

#[path = "../kernel.rs"]
#[expect(dead_code, reason = "the other programs use the rest of it")]
mod kernel;

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, seq_file},
    btf_maps::{Array, HashMap},
    helpers::bpf_seq_write,
    macros::btf_map,
};
use lb_common::{
    flow::{FlowEntry, FlowKey, Pass, Visit, visit},
    maps::Capacities,
};

use crate::kernel::Live;

/// Flows of the packet path: the agent's own, which is pinned.
#[btf_map]
static FLOWS: HashMap<
    FlowKey,
    FlowEntry,
    { Capacities::MINIMUM.flows as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// What the agent says before it reads.
#[btf_map]
static PASS: Array<Pass, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// What the kernel hands to an iterator over a map's elements
/// (`struct bpf_iter__bpf_map_elem`).
#[repr(C)]
pub struct Element {
    meta: *const Meta,
    map: *const c_void,
    /// NULL after the last one.
    key: *mut FlowKey,
    value: *mut FlowEntry,
}

/// The start of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    /// Where what is written goes.
    seq: *mut seq_file,
}

/// One half of a flow.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn collect(element: *const Element) -> i32 {
    if let Some(visit) = look(element) {
        say(element, visit);
    }
    0
}

/// Looks at a half and its other half, and removes both if the flow is over.
#[inline(always)]
fn look(element: *const Element) -> Option<Visit> {
    // SAFETY: the kernel passes a valid context; the verifier knows its fields.
    let key = unsafe { (*element).key };
    // SAFETY: as above.
    let half = unsafe { (*element).value };
    let key = Live::new(Some(key))?.load::<FlowKey, 0>();
    let half = Live::new(Some(half))?.load::<FlowEntry, 0>();
    let pass = Live::new(PASS.get_ptr_mut(0))?;
    let pass = Pass {
        now_ns: pass.load::<u64, { offset_of!(Pass, now_ns) }>(),
        passing_secs: pass.load::<u32, { offset_of!(Pass, passing_secs) }>(),
        _pad: 0,
    };
    let other_key = half.other_key();
    let other = Live::new(FLOWS.get_ptr_mut(other_key)).map(Live::load::<FlowEntry, 0>);
    let other = other.filter(|other| other.to.same(&key.reversed()));
    let visit = visit(&pass, &key, &half, other.as_ref());
    if visit.is_over() {
        if other.is_some() {
            // The only error is that it is gone already; so below.
            let _gone = FLOWS.remove(other_key);
        }
        let _gone = FLOWS.remove(key);
    }
    Some(visit)
}

/// Tells the reader. It reads again when its buffer is full, so that nobody else on this CPU
/// waits for all of the map.
#[inline(always)]
fn say(element: *const Element, visit: Visit) {
    let word: u16 = bytemuck::must_cast(visit);
    // SAFETY: as above.
    let meta = unsafe { (*element).meta };
    // SAFETY: `meta` is valid while the program runs.
    let seq = unsafe { (*meta).seq };
    // SAFETY: the two bytes are on the stack.
    unsafe { bpf_seq_write(seq, (&raw const word).cast::<c_void>(), 2) };
}

/// Unreachable: nothing here can panic, or the verifier would refuse it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
