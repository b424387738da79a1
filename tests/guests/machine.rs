// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An emulated machine without devices: a processor, memory and a serial line.

use std::{env, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lab::process::Process;

use crate::{console::Console, image::Image, release::Kernel};

/// Boots `kernel` with `image`, and `arguments` on the kernel's command line, and runs the machine
/// until it turns itself off.
///
/// # Errors
/// When it does not do so in time (it is ended then); the message has what it said last.
pub(crate) fn run(kernel: &Kernel, image: &Image, arguments: &str) -> Result<Console> {
    let mut qemu = Command::new(QEMU);
    // Emulated, also where /dev/kvm exists: inside a virtual machine that may open, and the
    // guest then hangs (docs/decisions.md).
    qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "1G", "-smp", "1", "-no-reboot"]);
    qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio"]);
    qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(image.path());
    qemu.args(["-append", &format!("{ARGUMENTS} {arguments}")]);
    let mut machine = Process::spawn("the guest", qemu, image.path().with_extension("console"))?;
    let status = machine.wait(LIMIT).with_context(|| machine.log_tail())?;
    ensure!(status.success(), "{QEMU}: {status}; {}", machine.log_tail());
    Ok(Console::of(machine.log()))
}

/// Why no machine can be had here; none when it can.
pub(crate) fn missing() -> Option<String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Some("the guests run what is built for x86-64".to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| dir.join(QEMU).is_file());
    (!found).then(|| format!("there is no {QEMU}: run `cargo xtask setup`"))
}

const QEMU: &str = "qemu-system-x86_64";
/// Nobody attacks the guest, so that it need not pay for defences; what it says is ours but for
/// emergencies; if its first process dies, the machine ends. What the kernel does not know becomes
/// that process's environment.
const ARGUMENTS: &str = "console=ttyS0 loglevel=2 panic=-1 mitigations=off nokaslr LAB_PATIENCE=5";
/// How long a guest may take from power on to power off: many times what it needs, for the machine
/// that emulates it may have other work.
const LIMIT: Duration = Duration::from_mins(4);
