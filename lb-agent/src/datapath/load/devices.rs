// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The attachments to network devices: pinned tcx links, one for each device and direction.
//!
//! A link goes with its device; its pin stays behind and is removed here. Devices are named by
//! their index, which no other device of the namespace ever gets.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use super::{
    error::{LoadError, file},
    links::{Hook, PinnedProgram, Place, TCX_INGRESS, Turn},
    object::Program,
    pins::{self, Pins},
};
use crate::datapath::syscall::{self, LinkDescription, LinkTarget};

/// The names of network devices, by index.
pub type Devices = BTreeMap<u32, Arc<str>>;

/// Makes the programs run at these devices and at no others. A link that is there is updated
/// in place; programs of others at a device stay as they are.
///
/// # Errors
///
/// Why the first device could not be served; all others are. A device that has just gone is no
/// error.
pub(super) fn follow(
    programs: &[Program],
    devices: &Devices,
    pins: &Pins,
) -> Result<(), LoadError> {
    for path in pins.links()? {
        let Some((_, index)) = place_of(&path) else { continue };
        if !devices.contains_key(&index) {
            pins::remove(&path)?;
        }
    }
    let mut first = Ok(());
    for (index, name) in devices {
        for program in programs.iter().filter(|program| program.hook.place == Place::Device) {
            match attach_one(program, *index, pins) {
                Ok(()) => {}
                Err(Failure::Gone) => break,
                Err(Failure::Kernel(source)) => {
                    let (program, device) = (program.hook.name, name.clone());
                    first = first.and(Err(LoadError::Device { program, device, source }));
                    break;
                }
                Err(Failure::Pin(error)) => return Err(error),
            }
        }
    }
    first
}

/// Puts new programs in the place of those that run at devices, of any layout. Whether
/// anything changed.
pub(super) fn update(programs: &[Program], pins: &Pins) -> Result<bool, LoadError> {
    take_over(pins)?;
    let mut changed = false;
    for path in pins.links()? {
        let Some((name, _)) = place_of(&path) else { continue };
        let Some(program) = programs.iter().find(|program| program.hook.name == name) else {
            continue;
        };
        let Ok(link) = syscall::object_get(&path) else { continue };
        let runs = syscall::describe_link(&link).map_err(file("read", &path))?;
        if runs.program != program.id {
            match syscall::link_update(&link, &program.fd) {
                // The device is gone, and the pin will be.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                result => result.map_err(file("update", &path))?,
            }
            changed = true;
        }
    }
    Ok(changed)
}

/// The hook and the device's index that the pin of a link to a device is named by.
pub(super) fn place_of(path: &Path) -> Option<(&str, u32)> {
    let (hook, index) = path.file_name()?.to_str()?.rsplit_once('-')?;
    Some((hook, index.parse().ok()?))
}

/// When a link's program runs at its device; `None` for a link to a cgroup.
pub(super) fn turn(link: &LinkDescription) -> Option<Turn> {
    let LinkTarget::Device { index, attach_type } = link.target else { return None };
    let all = syscall::attached_to_device(index, attach_type).unwrap_or_default();
    // A number is a device's in each network namespace: it is ours if our link is there.
    let place = all.iter().position(|one| one.link == link.id).map(|place| (place + 1, all.len()));
    let name = syscall::device_name(index).ok().filter(|_| place.is_some());
    let device = name.unwrap_or_else(|| format!("{index}, not in this network namespace"));
    Some(Turn { device, place })
}

/// The programs of others at the devices of these links, each where it runs.
pub(super) fn strangers<'a>(
    links: impl Iterator<Item = &'a LinkDescription>,
    ours: &BTreeSet<u32>,
) -> Vec<PinnedProgram> {
    let places = links.filter_map(|link| match link.target {
        LinkTarget::Device { index, attach_type } => Some((index, attach_type)),
        LinkTarget::Cgroup { .. } => None,
    });
    let places: BTreeSet<_> = places.collect();
    let others = places.into_iter().flat_map(|(index, attach_type)| {
        let mut all = syscall::attached_to_device(index, attach_type).unwrap_or_default();
        if !all.iter().any(|one| ours.contains(&one.program)) {
            // Another network namespace's device has the number here.
            all.clear();
        }
        let (of, device) = (all.len(), syscall::device_name(index).unwrap_or_default());
        let turn = move |position| Turn { device: device.clone(), place: Some((position + 1, of)) };
        let all = all.into_iter().enumerate().filter(|(_, one)| !ours.contains(&one.program));
        all.map(move |(position, one)| PinnedProgram {
            name: name_of(one.program, attach_type),
            id: one.program,
            link: (one.link != 0).then_some(one.link),
            device: Some(turn(position)),
            is_ours: false,
        })
    });
    others.collect()
}

/// The name of a program, and which way the packets go that it sees.
fn name_of(program: u32, attach_type: u32) -> String {
    let described = syscall::program_by_id(program).and_then(syscall::describe_program);
    let name = described.map(|program| program.name).unwrap_or_default();
    let name = if name.is_empty() { "without a name".to_owned() } else { name };
    let direction = if attach_type == TCX_INGRESS { "ingress" } else { "egress" };
    format!("{name} ({direction})")
}

/// Why a device is not served.
enum Failure {
    /// It is no longer there.
    Gone,
    /// The kernel did not attach the program.
    Kernel(io::Error),
    /// The link was made and not pinned.
    Pin(LoadError),
}

fn attach_one(program: &Program, index: u32, pins: &Pins) -> Result<(), Failure> {
    let hook = program.hook;
    let path = pins.link(&pin_name(hook, index));
    match find(&path, hook, index) {
        Some((_, runs)) if runs == program.id => Ok(()),
        Some((link, _)) => syscall::link_update(&link, &program.fd).map_err(Failure::Kernel),
        None => make(program, index, pins, &path),
    }
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

/// Attaches a program and pins the link, over one of no use if there is one.
fn make(program: &Program, index: u32, pins: &Pins, path: &Path) -> Result<(), Failure> {
    let hook = program.hook;
    let link = syscall::link_create_device(&program.fd, index, hook.attach_type, hook.first);
    let link = link.map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => Failure::Gone,
        _ => Failure::Kernel(error),
    })?;
    let pin = || -> Result<(), LoadError> {
        let new = pins.link("new");
        pins::remove(&new)?;
        syscall::object_pin(&link, &new).map_err(file("pin", &new))?;
        pins::rename(&new, path)
    };
    pin().map_err(Failure::Pin)
}

/// Takes over the links of other layouts.
fn take_over(pins: &Pins) -> Result<(), LoadError> {
    for layout in pins.other_layouts() {
        for path in pins::entries(&layout.join("links"))? {
            let Some((hook, index)) = place_of(&path) else { continue };
            let own = pins.link(&format!("{hook}-{index}"));
            if !own.exists() {
                pins::rename(&path, &own)?;
            }
        }
    }
    Ok(())
}

fn pin_name(hook: &Hook, index: u32) -> String {
    format!("{}-{index}", hook.name)
}
