// SPDX-License-Identifier: Apache-2.0 OR MIT
//! tun devices: a wire between two places without Ethernet headers, and a device of any link
//! type.
#![expect(unsafe_code, reason = "a tun device is made by an ioctl")]

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};

use crate::place::Place;

/// Both ends, and the threads that carry packets from one to the other. The devices go with it.
#[derive(Debug)]
pub struct TunWire {
    over: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<()>>,
}

impl TunWire {
    /// Makes a device of this name in both places, up and without addresses.
    ///
    /// # Errors
    /// When the kernel has no tun devices, or a place has one of that name.
    pub fn between(one: &Place, other: &Place, name: &str) -> Result<Self> {
        let ends = [one, other].map(|place| -> Result<File> {
            let end = place.run(|| open(name))?.with_context(|| format!("making {name}"))?;
            place.ip(&format!("link set {name} up"))?;
            Ok(end)
        });
        let [one, other] = ends;
        let (one, other) = (Arc::new(one?), Arc::new(other?));
        let over = Arc::new(AtomicBool::new(false));
        let carriers = [(&one, &other), (&other, &one)].map(|(from, to)| {
            let (from, to, over) = (from.clone(), to.clone(), over.clone());
            thread::spawn(move || carry(&from, &to, &over))
        });
        Ok(Self { over, carriers: carriers.into() })
    }
}

/// Makes a device that says that it is of a link type (ARPHRD_*), up and with nobody at its other
/// end. It goes with the file.
///
/// # Errors
/// As for a wire.
pub fn of_link_type(place: &Place, name: &str, link_type: u16) -> Result<File> {
    let device = place.run(|| open(name))?.with_context(|| format!("making {name}"))?;
    // SAFETY: the kernel takes any number for a device that is down.
    let answer =
        unsafe { libc::ioctl(device.as_raw_fd(), TUNSETLINK, libc::c_ulong::from(link_type)) };
    if answer != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("changing {name}"));
    }
    place.ip(&format!("link set {name} up"))?;
    Ok(device)
}

impl Drop for TunWire {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            // What it could not carry, the test has missed.
            drop(carrier.join());
        }
    }
}

/// Carries packets one way until it is over.
fn carry(mut from: &File, mut to: &File, over: &AtomicBool) {
    let mut packet = vec![0; 1 << 16];
    while !over.load(Ordering::Relaxed) {
        match from.read(&mut packet) {
            // A packet that the other end does not take is lost, as on any wire.
            Ok(len) => drop(to.write(packet.get(..len).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(from),
            Err(_) => return,
        }
    }
}

/// Waits for a packet, but not for long.
fn wait(file: &File) {
    let mut readable = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which lives until the call returns.
    let _ready = unsafe { libc::poll(&raw mut readable, 1, 50) };
}

/// A tun device of the calling thread's namespace.
fn open(name: &str) -> io::Result<File> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: integers and a union of such, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes().iter().take(15)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap_or_default();
    // SAFETY: the kernel reads and writes this structure, which lives until the call returns.
    match unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } {
        0 => Ok(device),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `include/uapi/linux/if_tun.h`: _IOW('T', 205, int).
const TUNSETLINK: libc::c_ulong = 0x4004_54cd;
