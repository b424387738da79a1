// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The attachments to network devices, one for each device and direction: pinned tcx links, or
//! clsact filters on kernels that have no tcx.
//!
//! A link goes with its device; its pin stays behind and is removed here. A filter has no pin:
//! the program's own, below `links`, stands for it. Devices are named by their index, which no
//! other device of the namespace ever gets.

mod clsact;
mod tcx;
mod turns;
mod xdp;

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use super::{
    error::{LoadError, file},
    links::{self, Place},
    object::Program,
    pins::{self, Pins},
};
use crate::datapath::syscall;

pub use self::xdp::XdpChoice;
pub(super) use self::{
    clsact::tidy,
    turns::{marked, strangers, turn, xdp_mode},
};

/// The names of network devices, by index.
pub type Devices = BTreeMap<u32, Arc<str>>;

/// A device that is served without XDP although it was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skipped {
    /// The device's name.
    pub device: Arc<str>,
    /// Why.
    pub reason: &'static str,
}

/// How programs are attached to devices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Manner {
    /// By tcx links; else by clsact filters.
    pub(super) tcx: bool,
    /// What else runs in front of the stack.
    pub(super) xdp: XdpChoice,
}

/// Why a device is not served.
enum Failure {
    /// It is no longer there.
    Gone,
    /// The kernel did not attach the program.
    Kernel(io::Error),
    /// The attachment was made and not pinned, or another one could not be ended.
    Pin(LoadError),
}

/// Makes the programs run at these devices and at no others, XDP at none that leads to a pod. An attachment that is there is
/// updated in place; programs of others at a device stay as they are. `skipped`: the devices where
/// the operator's choice leaves XDP out.
///
/// # Errors
///
/// Why the first device could not be served; all others are. A device that has just gone is no
/// error.
pub(super) fn follow(
    programs: &[Program],
    uplinks: &Devices,
    pods: &Devices,
    (manner, skipped): (Manner, &mut Vec<Skipped>),
    pins: &Pins,
) -> Result<(), LoadError> {
    let is_served = |index| uplinks.contains_key(&index) || pods.contains_key(&index);
    for path in pins.links()? {
        // A qdisc goes last, with `tidy`.
        let attachment = place_of(&path).filter(|(name, _)| links::hook(name).is_some());
        if attachment.is_some_and(|(_, index)| !is_served(index)) {
            links::detach(&path)?;
        }
    }
    let mut first = Ok(());
    let uplinks = uplinks.iter().map(|uplink| (uplink, manner.xdp));
    let pods = pods.iter().map(|pod| (pod, XdpChoice::Off));
    for ((index, name), xdp) in uplinks.chain(pods) {
        for program in programs.iter().filter(|program| program.hook.place == Place::Device) {
            let attach = if manner.tcx { tcx::attach } else { clsact::attach };
            match attach(program, *index, pins) {
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
        for program in programs.iter().filter(|program| program.hook.place == Place::Xdp) {
            match xdp::attach(program, *index, xdp, pins) {
                Ok(omission) => {
                    let reason = omission.and_then(xdp::Omission::text);
                    skipped.extend(reason.map(|reason| Skipped { device: name.clone(), reason }));
                }
                Err(Failure::Gone) => {}
                Err(Failure::Kernel(source)) => {
                    first = first.and(Err(LoadError::Xdp { device: name.clone(), source }));
                }
                Err(Failure::Pin(error)) => return Err(error),
            }
        }
    }
    tidy(pins.layout())?;
    first
}

/// Puts new programs in the place of those that run at devices, of any layout. Whether
/// anything changed.
pub(super) fn update(programs: &[Program], pins: &Pins) -> Result<bool, LoadError> {
    take_over(pins)?;
    let mut changed = false;
    for path in pins.links()? {
        let Some((name, index)) = place_of(&path) else { continue };
        let Some(program) = programs.iter().find(|program| program.hook.name == name) else {
            continue;
        };
        let Ok(pinned) = syscall::object_get(&path) else { continue };
        changed |= match syscall::describe_link(&pinned) {
            Ok(runs) => tcx::update(program, &pinned, runs.program, &path)?,
            Err(_) => clsact::update(program, index, pins)?,
        };
    }
    Ok(changed)
}

/// The hook and the device's index that the pin of a device's attachment is named by.
pub(super) fn place_of(path: &Path) -> Option<(&str, u32)> {
    let (hook, index) = path.file_name()?.to_str()?.rsplit_once('-')?;
    Some((hook, index.parse().ok()?))
}

/// Ends what a pin stands for that is no link: a filter, by the program that it runs.
pub(super) fn remove_filter(pin: &Path) -> Result<(), LoadError> {
    clsact::remove(pin).map_err(file("detach", pin))
}

/// Pins an object, over what was pinned there.
fn pin(object: impl std::os::fd::AsFd, pins: &Pins, path: &Path) -> Result<(), Failure> {
    let pin = || -> Result<(), LoadError> {
        let new = pins.link("new");
        pins::remove(&new)?;
        syscall::object_pin(object, &new).map_err(file("pin", &new))?;
        pins::rename(&new, path)
    };
    pin().map_err(Failure::Pin)
}

/// The kernel's answer to an attachment.
fn failed(error: io::Error) -> Failure {
    if is_gone(&error) { Failure::Gone } else { Failure::Kernel(error) }
}

/// Whether the kernel says that a device, or the one that a link was made for, is not there.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOLINK))
}

/// Takes over the attachments of other layouts.
fn take_over(pins: &Pins) -> Result<(), LoadError> {
    for layout in pins.other_layouts() {
        for path in pins::entries(&layout.join("links"))? {
            let Some((hook, index)) = place_of(&path) else { continue };
            let own = pins.link(&pin_name(hook, index));
            if !own.exists() {
                pins::rename(&path, &own)?;
            }
        }
    }
    Ok(())
}

fn pin_name(hook: &str, index: u32) -> String {
    format!("{hook}-{index}")
}
