// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs for tests only. `probe_translate` is the decision of the socket path, driven by
//! BPF_PROG_TEST_RUN, which the kernel does not have for socket-address programs: each run
//! answers the next record of PROBES.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "AtomicU64 has no compare_exchange on this target")]
#![expect(dead_code, unused_imports, reason = "the socket path uses the rest of these modules")]

#[path = "../kernel.rs"]
mod kernel;
#[path = "../maps.rs"]
mod maps;
mod record;
#[path = "../scratch.rs"]
mod scratch;

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action::XDP_PASS},
    btf_maps::Array,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lb_common::{
    addr::Addr,
    be::Be16,
    key::{FrontendKey4, FrontendKey6},
    protocol::Protocol,
    translate::{Client, Destination, Scope, ServiceView, translate},
    verdict::{Target, Verdict},
};

use crate::{
    kernel::Live,
    maps::KernelMaps,
    record::{DROP, PASS, PROBES_LEN, REFUSE, Record, TRANSLATE},
};

/// Questions and answers.
#[btf_map]
static PROBES: Array<Record, { PROBES_LEN as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The next record's index.
#[btf_map]
static CURSOR: Array<u64, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Answers the next record.
#[classifier]
fn probe_translate(_context: TcContext) -> i32 {
    answer_next().unwrap_or(0)
}

/// What a program costs that does nothing.
#[classifier]
fn probe_nothing(_context: TcContext) -> i32 {
    0
}

/// Lets every frame go on: a veth device's other end must have a program to take in at once
/// what is sent back in front of the stack (`veth_xdp_flush` wakes nobody else).
#[xdp(frags)]
fn probe_pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// The client that a record describes.
struct Asker(Live<Record>);

#[expect(clippy::cast_possible_truncation, reason = "a batch has fewer records than 2^32")]
#[inline(always)]
fn answer_next() -> Option<i32> {
    let cursor = Live::new(CURSOR.get_ptr_mut(0))?;
    let index = cursor.load::<u64, 0>();
    cursor.store::<u64, 0>(index + 1);
    let record = Live::new(PROBES.get_ptr_mut(index as u32))?;
    let verdict = translate(&KernelMaps, &Asker(record), &destination(record));
    answer(record, &verdict);
    Some(1)
}

#[inline(always)]
fn destination(record: Live<Record>) -> Destination {
    let address = record.load::<Addr, { offset_of!(Record, destination) }>();
    let port = record.load::<Be16, { offset_of!(Record, port) }>();
    let protocol = Protocol::from_number(record.load::<u8, { offset_of!(Record, protocol) }>());
    match address.to_v4() {
        Some(address) => Destination::V4(FrontendKey4::new(address, port, protocol)),
        None => Destination::V6(FrontendKey6::new(address, port, protocol)),
    }
}

#[inline(always)]
fn answer(record: Live<Record>, verdict: &Verdict) {
    let number = match verdict {
        Verdict::Pass(_) => PASS,
        Verdict::Translate(target, _) => {
            answer_target(record, target);
            TRANSLATE
        }
        Verdict::Refuse(_) => REFUSE,
        Verdict::Drop(_) => DROP,
    };
    record.store::<u32, { offset_of!(Record, reason) }>(verdict.reason().index());
    record.store::<u32, { offset_of!(Record, verdict) }>(number);
}

#[inline(always)]
fn answer_target(record: Live<Record>, target: &Target) {
    record.store::<Addr, { offset_of!(Record, target) }>(target.address);
    record.store::<Be16, { offset_of!(Record, target_port) }>(target.port);
    record.store::<u32, { offset_of!(Record, backend) }>(target.backend);
    record.store::<u32, { offset_of!(Record, generation) }>(target.generation);
}

impl Client for Asker {
    #[inline(always)]
    fn scope(&self) -> Scope {
        if self.0.load::<u8, { offset_of!(Record, outside) }>() == 0 {
            Scope::Inside
        } else {
            Scope::Outside
        }
    }

    #[inline(always)]
    fn on_host(&self) -> bool {
        self.0.load::<u8, { offset_of!(Record, on_host) }>() != 0
    }

    #[inline(always)]
    fn identity(&self) -> Addr {
        self.0.load::<Addr, { offset_of!(Record, identity) }>()
    }

    #[inline(always)]
    fn comes_from(&self, _ipv6: bool, test: impl Fn(Addr) -> bool) -> bool {
        test(self.identity())
    }

    #[inline(always)]
    fn entropy(&self, _: &ServiceView) -> u32 {
        self.0.load::<u32, { offset_of!(Record, entropy) }>()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.0.load::<u64, { offset_of!(Record, now_ns) }>()
    }
}

/// Unreachable: no program here can panic, or the verifier would refuse it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
