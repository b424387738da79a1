// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SCRATCH: memory of each CPU, for what one step of a program leaves to the next, and for what
//! the verifier is not to know.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use lb_common::limit::Limit;

use crate::kernel::{self, Field, Live};

/// What a program puts down and takes up again. No other one on this CPU comes between: they
/// run with bottom halves off.
#[btf_map]
static SCRATCH: PerCpuArray<[u64; SCRATCH_WORDS], 1> = PerCpuArray::new();

/// The same value, of which the verifier knows no more. It follows every way that led to a
/// value apart to the program's end, unless what it knows is the same on all of them.
#[inline(always)]
pub(crate) fn launder<T: Field>(value: T) -> Option<T> {
    const { assert!(size_of::<T>() <= PUT_DOWN) };
    let scratch = Live::new(SCRATCH.get_ptr_mut(0))?;
    scratch.store::<T, 0>(value);
    Some(scratch.load::<T, 0>())
}

/// Leaves a value for [`take_up`] in another function: a program has 512 bytes of stack for
/// all functions that call each other.
#[inline(always)]
pub(crate) fn put_down<T: Field>(value: T) -> Option<()> {
    Live::new(SCRATCH.get_ptr_mut(0))?.store::<T, PUT_DOWN>(value);
    Some(())
}

/// What was put down.
#[inline(always)]
pub(crate) fn take_up<T: Field>() -> Option<T> {
    Some(Live::new(SCRATCH.get_ptr_mut(0))?.load::<T, PUT_DOWN>())
}

/// Leaves a value for [`aside`], beside what is put down.
#[inline(always)]
pub(crate) fn put_aside<T: Field>(value: T) -> Option<()> {
    Live::new(SCRATCH.get_ptr_mut(0))?.store::<T, ASIDE>(value);
    Some(())
}

/// What was put aside.
#[inline(always)]
pub(crate) fn aside<T: Field>() -> Option<T> {
    Some(Live::new(SCRATCH.get_ptr_mut(0))?.load::<T, ASIDE>())
}

/// Leaves a value for [`search`], beside all else.
#[inline(always)]
pub(crate) fn put_search<T: Field>(value: T) -> Option<()> {
    Live::new(SCRATCH.get_ptr_mut(0))?.store::<T, SEARCH>(value);
    Some(())
}

/// What was put there.
#[inline(always)]
pub(crate) fn search<T: Field>() -> Option<T> {
    Some(Live::new(SCRATCH.get_ptr_mut(0))?.load::<T, SEARCH>())
}

/// Where a question to the kernel is written, in place of what is searched.
#[inline(always)]
pub(crate) fn paper() -> Option<Live<[u64; 8]>> {
    Live::new(SCRATCH.get_ptr_mut(0))?.part::<[u64; 8], SEARCH>()
}

/// [`kernel::coarse_now_ns`], which changes with each tick, for less than half of its price.
#[inline(always)]
pub(crate) fn tick_ns() -> u64 {
    let Some(scratch) = Live::new(SCRATCH.get_ptr_mut(0)) else {
        return kernel::coarse_now_ns();
    };
    let ticks = kernel::ticks();
    if scratch.load::<u64, TICKS>() != ticks {
        scratch.store::<u64, TICK_NS>(kernel::coarse_now_ns());
        scratch.store::<u64, TICKS>(ticks);
    }
    scratch.load::<u64, TICK_NS>()
}

/// Whether this CPU may send one more ICMP error now.
#[inline(always)]
pub(crate) fn admit_answer(now_ns: u64) -> bool {
    admit::<ANSWERS>(Limit::ANSWERS, now_ns)
}

/// Whether this CPU may have one more fragment go round now.
#[inline(always)]
pub(crate) fn admit_round(now_ns: u64) -> bool {
    admit::<ROUNDS>(Limit::ROUNDS, now_ns)
}

#[inline(always)]
fn admit<const BUCKET: usize>(limit: Limit, now_ns: u64) -> bool {
    let Some(scratch) = Live::new(SCRATCH.get_ptr_mut(0)) else {
        return false;
    };
    let full_at_ns = limit.admit(scratch.load::<u64, BUCKET>(), now_ns);
    if let Some(full_at_ns) = full_at_ns {
        scratch.store::<u64, BUCKET>(full_at_ns);
    }
    full_at_ns.is_some()
}

/// Words of SCRATCH: what is laundered, what is put down, what is put aside; the
/// limits' state and what the time is, which stay; which port is looked for.
const SCRATCH_WORDS: usize = 36;
/// Where in SCRATCH things are put down.
const PUT_DOWN: usize = 64;
/// Where they are put aside.
const ASIDE: usize = 128;
/// Where the limits are: when the buckets are full.
const ANSWERS: usize = 192;
const ROUNDS: usize = 200;
/// Where the last tick is, and the time then.
const TICKS: usize = 208;
const TICK_NS: usize = 216;
/// Where it is said which port is looked for.
const SEARCH: usize = 224;
