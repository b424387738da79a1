// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attachments in front of the stack: XDP links, where the operator and the driver want it.
//!
//! What the program leaves alone goes on to `tc_ingress`, so that a device without it is served
//! as well, only slower.

use std::io;

use super::{Failure, failed, is_gone, pin, pin_name};
use crate::datapath::{
    device::{Begins, Device, XdpMode},
    load::{links, object::Program, pins::Pins},
    syscall::{self, LinkTarget},
};

/// The value of `--xdp`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum XdpChoice {
    /// At no device.
    #[default]
    Off,
    /// In the driver, where it can, and loses nothing by it. A veth device is left out: what it
    /// sends back is lost unless the other end has GRO or XDP of its own, which cannot be seen.
    Auto,
    /// In the driver of each device; where it cannot, that is an error.
    Native,
}

impl XdpChoice {
    /// Why the program is not to run at a device, if it is not.
    fn omits(self, device: &Device) -> Option<Omission> {
        match self {
            Self::Off => Some(Omission::Unasked),
            Self::Auto | Self::Native if device.begins != Begins::Ethernet => Some(Omission::Bare),
            Self::Auto => (device.kind == VETH).then_some(Omission::Lossy),
            Self::Native => None,
        }
    }
}

/// Why the program does not run at a device that is served all the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Omission {
    /// Nobody asked for it.
    Unasked,
    /// Its packets have no Ethernet header.
    Bare,
    /// The device may lose what is sent back.
    Lossy,
    /// Its driver cannot.
    Incapable,
    /// Another program has the place.
    Taken,
    /// The kernel had another reason.
    Refused,
}

impl Omission {
    /// What an operator is told; nothing where nothing was asked for.
    pub(super) const fn text(self) -> Option<&'static str> {
        match self {
            Self::Unasked => None,
            Self::Bare => Some("its packets have no Ethernet header to be sent back with"),
            Self::Lossy => Some("what a veth device sends back may be lost"),
            Self::Incapable => Some(INCAPABLE),
            Self::Taken => Some(TAKEN),
            Self::Refused => Some("the kernel does not attach it; --xdp native says why"),
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Self::Incapable,
            Some(libc::EBUSY | libc::EEXIST) => Self::Taken,
            _ => Self::Refused,
        }
    }
}

/// Makes the program run at a device as was chosen, or not run there: why not.
pub(super) fn attach(
    program: &Program,
    index: u32,
    device: &Device,
    choice: XdpChoice,
    pins: &Pins,
) -> Result<Option<Omission>, Failure> {
    let path = pins.link(&pin_name(program.hook.name, index));
    let link = syscall::object_get(&path).ok();
    let found = link.as_ref().and_then(|link| syscall::describe_link(link).ok());
    let found = found.filter(|found| found.target == LinkTarget::Xdp { index });
    let omission = choice.omits(device);
    let runs = device.xdp.filter(|(id, _)| found.is_some_and(|found| found.program == *id));
    match (runs, &link) {
        (Some((id, XdpMode::Native)), Some(link)) if omission.is_none() => {
            if id != program.id {
                syscall::link_update(link, &program.fd).map_err(failed)?;
            }
            return Ok(None);
        }
        (_, Some(_)) => links::detach(&path).map_err(Failure::Pin)?,
        (_, None) => {}
    }
    if omission.is_some() {
        return Ok(omission);
    }
    match syscall::link_create_xdp(&program.fd, index) {
        Ok(link) => pin(&link, pins, &path).map(|()| None),
        // Of a device that has just gone the kernel says EINVAL here.
        Err(_) if Device::read(index).is_err_and(|error| is_gone(&error)) => Err(Failure::Gone),
        Err(error) if choice == XdpChoice::Auto => {
            tracing::debug!(device = index, %error, "no XDP here: tc alone serves");
            Ok(Some(Omission::of(&error)))
        }
        Err(error) => Err(Failure::Kernel(why(error))),
    }
}

/// What the kernel's answer means.
fn why(error: io::Error) -> io::Error {
    match Omission::of(&error) {
        Omission::Incapable => io::Error::other(INCAPABLE),
        Omission::Taken => io::Error::other(TAKEN),
        _ => error,
    }
}

/// The words for what the kernel says of a device.
const INCAPABLE: &str = "its driver has no native XDP";
const TAKEN: &str = "another XDP program is there; see show programs";
const VETH: &str = "veth";
