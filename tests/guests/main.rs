// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Other kernels than this machine's: Debian's, each booted in an emulated machine that holds
//! nothing but the agent and a lab of one node.
//!
//! ```text
//! Release ──apt-get──► Kernel ──► Image (initramfs) ──qemu──► console ──► lines that are compared
//! ```
//!
//! What the guest does is [`init/steps.rs`](init/steps.rs); each line that it says is here.
#![expect(clippy::unwrap_used, reason = "a test's helper fails its test like the test itself")]

mod console;
mod image;
mod machine;
mod release;

use std::sync::{Mutex, PoisonError};

use crate::{image::Image, release::Release};

/// Kernels from 5.18 on have all that the socket path needs.
const SERVES: [&str; 38] = [
    "check: capabilities: ok",
    "check: kernel: ok",
    "check: socket address hooks: ok",
    "check: socket release hook: ok",
    "check: bpf_set_retval: ok",
    "check: bpf_skc_to_mptcp_sock: ok",
    "check: namespace cookie: ok",
    "check: SOCK_DESTROY: ok",
    "check: tcx: ok",
    "check: membarrier: ok",
    "check: BTF: ok",
    "check: JIT: ok",
    "check: kernel lockdown: ok",
    "check: pod addresses: ok",
    "check: BPF file system: ok",
    "check: cgroup2: ok",
    "check: cgroup root: ok",
    "check: no other balancer: ok",
    "check: local ports: ok",
    "run: ready, 11 of 12 programs attached",
    "programs at eth0: tcx, tcx",
    "show services: 4 rows, 4 with one backend",
    "tcp to 10.96.0.10:80: pod-1-3, peer 10.96.0.10:80",
    "tcp to [fd00:10:96::a]:80: pod-1-3, peer [fd00:10:96::a]:80",
    "udp to 10.96.0.10:80: pod-1-3, peer 10.96.0.10:80",
    "udp to [fd00:10:96::a]:80: pod-1-3, peer [fd00:10:96::a]:80",
    "sendto to 10.96.0.10:80: pod-1-3, from 10.96.0.10:80",
    "sendto to [fd00:10:96::a]:80: pod-1-3, from [fd00:10:96::a]:80",
    "tcp to [::ffff:10.96.0.10]:80: pod-1-3, peer [::ffff:10.96.0.10]:80",
    "without endpoints: connect ECONNREFUSED, sendto ECONNREFUSED",
    "source ranges, inside: pod-1-3 by IPv4, pod-1-3 by IPv6",
    "source ranges, outside: ETIMEDOUT by IPv4, ETIMEDOUT by IPv6",
    "from outside, by IPv4: pod-1-3 over TCP, pod-1-3 over UDP",
    "from outside, by IPv6: pod-1-3 over TCP, pod-1-3 over UDP",
    "backend gone: ECONNABORTED, then pod-1-2",
    "killed and started again: 0 writes, the same programs, an open connection goes on",
    "unload: no pin, no program and no map is left",
    "end",
];

/// Before 5.14 host and pods cannot be told apart, and the agent does not start.
const REFUSES: [&str; 21] = [
    "check: capabilities: ok",
    "check: kernel: missing",
    "check: socket address hooks: ok",
    "check: socket release hook: ok",
    "check: bpf_set_retval: degraded",
    "check: bpf_skc_to_mptcp_sock: degraded",
    "check: namespace cookie: missing",
    "check: SOCK_DESTROY: ok",
    "check: tcx: ok",
    "check: membarrier: ok",
    "check: BTF: ok",
    "check: JIT: ok",
    "check: kernel lockdown: ok",
    "check: pod addresses: ok",
    "check: BPF file system: ok",
    "check: cgroup2: ok",
    "check: cgroup root: ok",
    "check: no other balancer: ok",
    "check: local ports: ok",
    "run: exit code 1: lb-agent: cannot read the network namespace's cookie: Protocol not available (os error 92); Linux 5.14 or later is needed",
    "end",
];

/// Debian 12, which has no tcx: clsact serves clients outside.
#[test]
fn linux_6_1_serves() {
    let expected = SERVES.map(|line| match line {
        "programs at eth0: tcx, tcx" => "programs at eth0: clsact, clsact",
        line => line,
    });
    boot(&Release { suite: "bookworm", linux: "6.1" }, "", &expected);
}

/// Debian 13.
#[test]
fn linux_6_12_serves() {
    boot(&Release { suite: "trixie", linux: "6.12" }, "", &SERVES);
}

/// A kernel that lets no program read its memory serves all but source ranges: what it cannot
/// judge gets no answer (LB-06).
#[test]
fn linux_6_12_locked_down_admits_nobody_to_source_ranges() {
    let release = Release { suite: "trixie", linux: "6.12" };
    let expected = SERVES.map(|line| match line {
        "check: kernel lockdown: ok" => "check: kernel lockdown: degraded",
        "check: pod addresses: ok" => "check: pod addresses: degraded",
        "source ranges, inside: pod-1-3 by IPv4, pod-1-3 by IPv6" => {
            "source ranges, inside: ETIMEDOUT by IPv4, ETIMEDOUT by IPv6"
        }
        line => line,
    });
    boot(&release, "lockdown=confidentiality", &expected);
}

/// Debian 11: too old, which `check` says line by line, and `run` when it is tried.
#[test]
fn linux_5_10_is_refused() {
    boot(&Release { suite: "bullseye", linux: "5.10" }, "", &REFUSES);
}

/// Boots a release's kernel, with more arguments if any, and compares what the guest says with `expected`.
fn boot(release: &Release, arguments: &str, expected: &[&str]) {
    // An emulated machine keeps one core busy: one at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(why) = machine::missing() {
        println!("SKIP {why}");
        return;
    }
    let kernel = match release.kernel() {
        Ok(kernel) => kernel,
        Err(error) => {
            println!("SKIP no kernel to boot: {error:#}");
            return;
        }
    };
    let image = Image::build(&kernel).unwrap();
    let console = machine::run(&kernel, &image, arguments).unwrap();
    assert!(console.linux().starts_with(&format!("{}.", release.linux)), "{console}");
    println!("Linux {}: {}", console.linux(), console.times());
    assert_eq!(console.said(), expected, "{console}");
}
