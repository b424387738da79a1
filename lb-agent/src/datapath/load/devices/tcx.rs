// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attachments by tcx links (Linux 6.6).

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use super::{Failure, failed, pin, pin_name};
use crate::datapath::{
    load::{
        error::{LoadError, file},
        links::Hook,
        object::Program,
        pins::Pins,
    },
    syscall::{self, LinkTarget},
};

/// Makes a program run at a device. A filter that ran it there ends when the link is made.
pub(super) fn attach(program: &Program, index: u32, pins: &Pins) -> Result<(), Failure> {
    let hook = program.hook;
    let path = pins.link(&pin_name(hook.name, index));
    match find(&path, hook, index) {
        Some((_, runs)) if runs == program.id => Ok(()),
        Some((link, _)) => syscall::link_update(&link, &program.fd).map_err(failed),
        None => {
            let link =
                syscall::link_create_device(&program.fd, index, hook.attach_type, hook.first)
                    .map_err(failed)?;
            super::remove_filter(&path).map_err(Failure::Pin)?;
            pin(&link, pins, &path)
        }
    }
}

/// Puts a program in the place of the one that a link runs: whether it was another one.
pub(super) fn update(
    program: &Program,
    link: impl AsFd,
    runs: u32,
    pin: &Path,
) -> Result<bool, LoadError> {
    if runs == program.id {
        return Ok(false);
    }
    match syscall::link_update(link, &program.fd) {
        // The device is gone, and the pin will be.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
        result => result.map_err(file("update", pin))?,
    }
    Ok(true)
}

/// The pinned link of a hook, if it still attaches something to this device of this network
/// namespace, and the program that runs.
fn find(path: &Path, hook: &Hook, index: u32) -> Option<(OwnedFd, u32)> {
    let link = syscall::object_get(path).ok()?;
    let found = syscall::describe_link(&link).ok()?;
    let target = LinkTarget::Device { index, attach_type: hook.attach_type };
    let here = syscall::attached_to_device(index, hook.attach_type).ok()?;
    let attached = here.iter().any(|one| one.link == found.id);
    (found.target == target && attached).then_some((link, found.program))
}
