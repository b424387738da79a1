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
    links::{self, Hook, Place},
    object::Program,
    pins::{self, Pins},
};
use crate::datapath::{
    device::{Begins, Device},
    syscall,
};

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

/// The devices to serve, as they are now.
pub(super) struct Ends(Vec<End>);

/// A device to serve.
struct End {
    index: u32,
    name: Arc<str>,
    device: io::Result<Device>,
    xdp: XdpChoice,
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

impl Ends {
    /// Asks the kernel about devices that lead outside, and to pods.
    pub(super) fn read(uplinks: &Devices, pods: &Devices, xdp: XdpChoice) -> Self {
        let uplinks = uplinks.iter().map(|uplink| (uplink, xdp));
        let pods = pods.iter().map(|pod| (pod, XdpChoice::Off));
        let end = |((index, name), xdp): ((&u32, &Arc<str>), XdpChoice)| {
            let (index, name) = (*index, name.clone());
            End { index, name, device: Device::read(index), xdp }
        };
        Self(uplinks.chain(pods).map(end).collect())
    }

    /// Whether packets of any begin with the IP header.
    pub(super) fn any_bare(&self) -> bool {
        self.0.iter().any(|end| end.place() == Some(Place::Bare))
    }

    /// Whether a hook is one of a device's. While the device cannot be asked, any may be.
    fn have(&self, hook: &Hook, index: u32) -> bool {
        let mut ends = self.0.iter().filter(|end| end.index == index);
        ends.any(|end| match (&end.device, hook.place) {
            (Err(_), _) => true,
            (Ok(_), Place::Xdp) => end.place() == Some(Place::Device),
            (Ok(_), place) => end.place() == Some(place),
        })
    }
}

impl End {
    /// Which programs are the device's; `None`: none are.
    fn place(&self) -> Option<Place> {
        match self.device.as_ref().ok()?.begins {
            Begins::Ethernet => Some(Place::Device),
            Begins::Ip => Some(Place::Bare),
            Begins::Gre | Begins::Other(_) => None,
        }
    }

    /// Makes the programs run at the device: why it is not served as it should, if it is not.
    fn serve(
        &self,
        programs: &[Program],
        (manner, skipped): (Manner, &mut Vec<Skipped>),
        pins: &Pins,
    ) -> Result<Option<LoadError>, LoadError> {
        let device = || self.name.clone();
        let read = match &self.device {
            Ok(read) => read,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            Err(error) => {
                let source = io::Error::new(error.kind(), error.to_string());
                return Ok(Some(LoadError::Device {
                    program: "tc_ingress",
                    device: device(),
                    source,
                }));
            }
        };
        let Some(place) = self.place() else {
            return Ok(Some(LoadError::Headers { device: device(), begins: read.begins }));
        };
        let at = |place| programs.iter().filter(move |program| program.hook.place == place);
        for program in at(place) {
            let attach = if manner.tcx { tcx::attach } else { clsact::attach };
            match attach(program, self.index, pins) {
                Ok(()) => {}
                Err(Failure::Gone) => return Ok(None),
                Err(Failure::Kernel(source)) => {
                    let program = program.hook.name;
                    return Ok(Some(LoadError::Device { program, device: device(), source }));
                }
                Err(Failure::Pin(error)) => return Err(error),
            }
        }
        for program in at(Place::Xdp) {
            match xdp::attach(program, self.index, read, self.xdp, pins) {
                Ok(omission) => {
                    let reason = omission.and_then(xdp::Omission::text);
                    skipped.extend(reason.map(|reason| Skipped { device: device(), reason }));
                }
                Err(Failure::Gone) => {}
                Err(Failure::Kernel(source)) => {
                    return Ok(Some(LoadError::Xdp { device: device(), source }));
                }
                Err(Failure::Pin(error)) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Makes the programs run at these devices and at no others, XDP at none that leads to a pod. An
/// attachment that is there is updated in place; programs of others at a device stay as they are.
/// Why some devices are not served, if any are not; a device that has just gone is none of them.
/// `skipped`: the devices where the operator's choice leaves XDP out.
///
/// # Errors
///
/// When a pin could not be made or removed.
pub(super) fn follow(
    programs: &[Program],
    ends: &Ends,
    (manner, skipped): (Manner, &mut Vec<Skipped>),
    pins: &Pins,
) -> Result<Vec<LoadError>, LoadError> {
    for path in pins.links()? {
        // A qdisc goes last, with `tidy`.
        let attachment =
            place_of(&path).and_then(|(name, index)| Some((links::hook(name)?, index)));
        if attachment.is_some_and(|(hook, index)| !ends.have(hook, index)) {
            links::detach(&path)?;
        }
    }
    let mut unserved = Vec::new();
    for end in &ends.0 {
        unserved.extend(end.serve(programs, (manner, &mut *skipped), pins)?);
    }
    tidy(pins.layout())?;
    Ok(unserved)
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
