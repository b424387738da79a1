// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `guest-init`: the first process of a guest. Mounts, loads modules, takes the steps, and turns
//! the machine off, whatever came of them.
//!
//! What it says on the console begins with `guest` and the seconds since boot; the test that
//! booted the guest compares it.

mod steps;

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use lab::netns::Batch;
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
    unistd::{getpid, sync},
};

fn main() -> ExitCode {
    if getpid().as_raw() != 1 {
        eprintln!("guest-init: only as the first process of a guest");
        return ExitCode::FAILURE;
    }
    if let Err(error) = prepare().and_then(|()| steps::run()) {
        say(&format!("failed: {error:#}"));
    }
    say("end");
    sync();
    match reboot(RebootMode::RB_POWER_OFF) {
        // The kernel panics when its first process ends, and the machine with it.
        Err(error) => say(&format!("cannot turn the machine off: {error}")),
        Ok(never) => match never {},
    }
    ExitCode::FAILURE
}

/// One line on the console.
fn say(text: &str) {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split_whitespace().next().unwrap_or("?");
    println!("guest {seconds}: {}", text.replace('\n', " "));
}

/// What a distribution's own first process would have done before us.
fn prepare() -> Result<()> {
    for (kind, target) in MOUNTS {
        let flags = MsFlags::empty();
        mount(Some(kind), target, Some(kind), flags, None::<&str>)
            .with_context(|| format!("mounting {kind} on {target}"))?;
    }
    let linux = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    say(&format!("linux: {}", linux.trim()));
    let mut modules: Vec<_> = fs::read_dir("/modules")?.flatten().map(|it| it.path()).collect();
    modules.sort();
    modules.iter().try_for_each(|module| load(module))?;
    Batch::default().line("link set lo up").run()
}

/// Loads a module, which may be compressed.
fn load(module: &Path) -> Result<()> {
    let file = fs::File::open(module)?;
    let is_plain = module.extension().is_some_and(|end| end == "ko");
    let flags = if is_plain { 0 } else { MODULE_INIT_COMPRESSED_FILE };
    finit_module(&file, c"", ModuleInitFlags::from_bits_retain(flags))
        .with_context(|| format!("loading {}", module.display()))
}

/// File systems, in this order.
const MOUNTS: [(&str, &str); 8] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
    ("securityfs", "/sys/kernel/security"),
];
/// From `linux/module.h`; Linux 5.17.
const MODULE_INIT_COMPRESSED_FILE: u32 = 4;
