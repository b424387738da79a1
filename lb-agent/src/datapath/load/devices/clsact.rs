// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attachments by filters of the clsact qdisc, for kernels without tcx.
//!
//! A filter stays when nobody holds it. So that the next agent knows that there is one, the
//! program is pinned below `links` under the name that the link would have; where the qdisc is
//! ours as well, it is pinned a second time as `clsact-<index>`.

use std::{io, path::Path};

use super::{Failure, failed, pin, pin_name, place_of};
use crate::datapath::{
    filters::{Direction, Filter, Filters},
    load::{
        error::{LoadError, file},
        links::{self, Hook},
        object::Program,
        pins::{self, Pins},
    },
    syscall,
};

/// Makes a program run at a device. A link that ran it there ends when the filter is made.
pub(super) fn attach(program: &Program, index: u32, pins: &Pins) -> Result<(), Failure> {
    let path = pins.link(&pin_name(program.hook.name, index));
    let mut filters = Filters::open().map_err(Failure::Kernel)?;
    let pinned = syscall::object_get(&path).ok();
    let link = pinned.as_ref().filter(|pinned| syscall::describe_link(pinned).is_ok());
    let marks = pinned.as_ref().and_then(|pinned| syscall::describe_program(pinned).ok());
    let runs = running(&mut filters, index, program.hook);
    if runs == Some(program.id) && marks.is_some_and(|marks| marks.id == program.id) {
        return Ok(());
    }
    put(&mut filters, program, index, pins)?;
    match link {
        Some(link) => syscall::link_detach(link).map_err(Failure::Kernel),
        None => Ok(()),
    }
}

/// Puts a program in the place of the one that a filter runs: whether it was another one.
pub(super) fn update(program: &Program, index: u32, pins: &Pins) -> Result<bool, LoadError> {
    let path = pins.link(&pin_name(program.hook.name, index));
    let mut filters = Filters::open().map_err(file("update", &path))?;
    match running(&mut filters, index, program.hook) {
        Some(runs) if runs != program.id => {}
        // Not there any more, or of another network namespace: then it is made anew.
        Some(_) | None => return Ok(false),
    }
    match put(&mut filters, program, index, pins) {
        Ok(()) => Ok(true),
        Err(Failure::Gone) => Ok(false),
        Err(Failure::Kernel(source)) => Err(file("update", path)(source)),
        Err(Failure::Pin(error)) => Err(error),
    }
}

/// Ends the filter that a pinned program stands for, if it runs that program. Another pin
/// stands for none.
pub(super) fn remove(pin: &Path) -> io::Result<()> {
    let program = syscall::object_get(pin).and_then(syscall::describe_program);
    let (Ok(program), Some((name, index))) = (program, place_of(pin)) else { return Ok(()) };
    let Some(hook) = links::hook(name) else { return Ok(()) };
    let mut filters = Filters::open()?;
    if running(&mut filters, index, hook) == Some(program.id) {
        filters.remove(index, direction(hook))?;
    }
    Ok(())
}

/// Removes the qdiscs of ours below a layout that hold no filter of anybody any more.
pub(in crate::datapath::load) fn tidy(layout: &Path) -> Result<(), LoadError> {
    let all = pins::entries(&layout.join("links"))?;
    for path in all.iter().filter(|path| place_of(path).is_some_and(|(name, _)| name == QDISC)) {
        let Some((_, index)) = place_of(path) else { continue };
        let mut others = all.iter().filter(|other| *other != path);
        if others.any(|other| place_of(other).is_some_and(|it| it.1 == index) && is_mark(other)) {
            continue;
        }
        remove_empty(index).map_err(file("remove", path))?;
        pins::remove(path)?;
    }
    Ok(())
}

/// Which way packets go that a hook sees.
pub(super) fn direction(hook: &Hook) -> Direction {
    if hook.attach_type == links::TCX_INGRESS { Direction::Ingress } else { Direction::Egress }
}

fn put(filters: &mut Filters, program: &Program, index: u32, pins: &Pins) -> Result<(), Failure> {
    let hook = program.hook;
    if filters.put(&program.fd, hook.name, index, direction(hook)).map_err(failed)? {
        pin(&program.fd, pins, &pins.link(&pin_name(QDISC, index)))?;
    }
    pin(&program.fd, pins, &pins.link(&pin_name(hook.name, index)))
}

/// The program that runs in our place.
fn running(filters: &mut Filters, index: u32, hook: &Hook) -> Option<u32> {
    let all = filters.all(index, direction(hook)).unwrap_or_default();
    all.iter().find(|filter| filter.is_in_our_place).map(|Filter { program, .. }| *program)
}

fn remove_empty(index: u32) -> io::Result<()> {
    let mut filters = Filters::open()?;
    let mut is_empty = true;
    for direction in [Direction::Ingress, Direction::Egress] {
        match filters.all(index, direction) {
            Ok(all) => is_empty &= all.is_empty(),
            // The device is gone, and its qdisc with it.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    if is_empty { filters.remove_qdisc(index) } else { Ok(()) }
}

/// Whether a pin is a program's.
fn is_mark(pin: &Path) -> bool {
    syscall::object_get(pin).and_then(syscall::describe_program).is_ok()
}

/// What the pin that stands for a qdisc is named by.
const QDISC: &str = "clsact";
