// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attachments in front of the stack: XDP links, where the operator and the driver want it.
//!
//! What the program leaves alone goes on to `tc_ingress`, so that a device without it is served
//! as well, only slower.

use std::io;

use super::{Failure, failed, pin, pin_name};
use crate::datapath::{
    device::{Device, XdpMode},
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
    /// Whether the program is to run at a device.
    fn has(self, device: &Device) -> bool {
        match self {
            Self::Off => false,
            Self::Auto => device.kind != VETH,
            Self::Native => true,
        }
    }
}

/// Makes the program run at a device as was chosen, or not run there.
pub(super) fn attach(
    program: &Program,
    index: u32,
    choice: XdpChoice,
    pins: &Pins,
) -> Result<(), Failure> {
    let path = pins.link(&pin_name(program.hook.name, index));
    let device = Device::read(index).map_err(failed)?;
    let link = syscall::object_get(&path).ok();
    let found = link.as_ref().and_then(|link| syscall::describe_link(link).ok());
    let found = found.filter(|found| found.target == LinkTarget::Xdp { index });
    let wanted = choice.has(&device);
    let runs = device.xdp.filter(|(id, _)| found.is_some_and(|found| found.program == *id));
    match (runs, &link) {
        (Some((id, XdpMode::Native)), Some(link)) if wanted => {
            if id == program.id {
                return Ok(());
            }
            return syscall::link_update(link, &program.fd).map_err(Failure::Kernel);
        }
        (_, Some(_)) => links::detach(&path).map_err(Failure::Pin)?,
        (_, None) => {}
    }
    if !wanted {
        return Ok(());
    }
    match syscall::link_create_xdp(&program.fd, index) {
        Ok(link) => pin(&link, pins, &path),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Err(Failure::Gone),
        Err(error) if choice == XdpChoice::Auto => {
            tracing::debug!(device = index, %error, "no XDP here: tc alone serves");
            Ok(())
        }
        Err(error) => Err(Failure::Kernel(why(error))),
    }
}

/// What the kernel's answer means.
fn why(error: io::Error) -> io::Error {
    let text = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "its driver has no native XDP",
        Some(libc::EBUSY | libc::EEXIST) => "another XDP program is there; see show programs",
        _ => return error,
    };
    io::Error::other(text)
}

const VETH: &str = "veth";
