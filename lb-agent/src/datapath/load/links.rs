// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hooks, and the attachments to the cgroup: pinned links, made once and updated ever
//! after.

use std::{collections::BTreeMap, io, os::fd::OwnedFd, path::Path};

use super::{
    devices,
    error::{LoadError, file},
    object::Program,
    pins::{self, Pins},
};
use crate::datapath::{
    cgroup::Cgroup,
    device::XdpMode,
    filters::Direction,
    probe,
    syscall::{self, BPF_XDP, LinkDescription, LinkTarget},
};

/// A place in the kernel where a program runs.
#[derive(Debug)]
pub struct Hook {
    /// The program's name, as a pin.
    pub name: &'static str,
    /// Its name in the object.
    pub entry: &'static str,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
    /// What it is a place of.
    pub place: Place,
    /// Whether ours runs before all others there; else after them. Of devices only.
    pub first: bool,
}

/// What programs are attached to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The cgroup whose sockets are balanced.
    Cgroup,
    /// Each device that leads to clients outside, or to a pod whose sockets are left alone.
    Device,
    /// Such a device whose packets begin with the IP header. Its programs are loaded when the
    /// first one appears.
    Bare,
    /// Such a device in front of the stack, where `--xdp` has it.
    Xdp,
}

/// A pinned program at one of its places, or a program of others at such a place.
#[derive(Debug)]
pub struct PinnedProgram {
    /// The hook's name, or what others call theirs.
    pub name: String,
    /// The kernel's id.
    pub id: u32,
    /// The link that attaches it; `None` also for a filter, which needs none.
    pub link: Option<u32>,
    /// How it is attached; `None` if it is not.
    pub way: Option<Way>,
    /// The device that it is attached to, if that is no cgroup.
    pub device: Option<Turn>,
    /// Whether it is ours.
    pub is_ours: bool,
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// By a link to a cgroup.
    Cgroup,
    /// By a tcx link to a device.
    Tcx,
    /// By a filter of a device's clsact qdisc.
    Clsact,
    /// By a link to a device, in front of the stack, or that of its generic code.
    Xdp(XdpMode),
}

/// When a program runs at a device.
#[derive(Debug)]
pub struct Turn {
    /// The device's index.
    pub index: u32,
    /// Which way the packets go that it sees; `None`: in, in front of the stack.
    pub direction: Option<Direction>,
    /// The device's name, or what is known of it.
    pub device: String,
    /// Its place among the programs of the same direction, from 1, and how many there are;
    /// `None` if the device is gone, or of another network namespace than the caller's.
    pub place: Option<(usize, usize)>,
}

impl Way {
    /// The word that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::Xdp(XdpMode::Native) => "xdp native",
            Self::Xdp(XdpMode::Generic) => "xdp generic",
        }
    }
}

/// Makes every program run at the cgroup, in the order of [`HOOKS`]. A link that is there
/// is updated in place: no moment passes without a program. Whether anything changed.
///
/// # Errors
///
/// Links that this call made are removed again; those that it updated stay so.
pub(super) fn attach(
    programs: &[Program],
    cgroup: &Cgroup,
    pins: &Pins,
) -> Result<bool, LoadError> {
    let mut made = Vec::new();
    let mut changed = false;
    for program in programs.iter().filter(|program| program.hook.place == Place::Cgroup) {
        match attach_one(program, cgroup, pins) {
            Ok(Change::None) => {}
            Ok(Change::Updated) => changed = true,
            Ok(Change::Made) => made.push(pins.link(program.hook.name)),
            Err(error) => {
                for link in made {
                    pins::remove(&link)?;
                }
                return Err(error);
            }
        }
    }
    Ok(changed || !made.is_empty())
}

/// Ends an attachment and removes its pin. Removing the pin alone would end it some time
/// later, and not while somebody else holds the link: whatever comes next on this node would
/// still meet our programs.
pub(super) fn detach(pin: &Path) -> Result<(), LoadError> {
    match syscall::object_get(pin) {
        Ok(found) if syscall::describe_program(&found).is_ok() => devices::remove_filter(pin)?,
        Ok(link) => syscall::link_detach(link).map_err(file("detach", pin))?,
        // Nothing there, or no link: then there is nothing to end.
        Err(error) => tracing::debug!(pin = %pin.display(), %error, "no link to detach"),
    }
    pins::remove(pin)
}

/// Ids of our own programs, of any layout: those that run from the pinned links, and those
/// that are pinned themselves, whatever became of the agent that was about to attach them (a
/// link that was removed lets go of its program a moment later).
pub(super) fn ours(pins: &Pins) -> Vec<u32> {
    let links = pins.every("links").into_iter().filter_map(|path| {
        let pinned = syscall::object_get(&path).ok()?;
        let link = syscall::describe_link(&pinned).map(|link| link.program);
        link.or_else(|_| syscall::describe_program(&pinned).map(|program| program.id)).ok()
    });
    let programs = pins.every("programs").into_iter().chain(pins.every("next/programs"));
    let programs = programs.filter_map(|path| {
        let program = syscall::object_get(&path).and_then(syscall::describe_program);
        program.ok().map(|program| program.id)
    });
    links.chain(programs).collect()
}

/// The programs that are pinned, in the order of their names, one for each link that runs it;
/// then those of others at the same devices.
pub(super) fn pinned(pins: &Pins) -> Result<Vec<PinnedProgram>, LoadError> {
    let mut attached = BTreeMap::<u32, Vec<_>>::new();
    for path in pins.links()? {
        let described =
            syscall::object_get(&path).and_then(|pin| match syscall::describe_link(&pin) {
                Ok(link) => Ok(Some(Attachment::of(&link))),
                // The pin of a filter, or of a qdisc.
                Err(_) => syscall::describe_program(pin).map(|_| Attachment::marked(&path)),
            });
        match described {
            Ok(Some(found)) => attached.entry(found.program).or_default().push(found),
            Ok(None) => {}
            // The agent has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file("read", &path)(error)),
        }
    }
    // What is no program there is none of ours.
    let described = pins.programs()?.into_iter().filter_map(|path| {
        let program = syscall::object_get(&path).and_then(syscall::describe_program).ok()?;
        Some((path.file_name()?.to_string_lossy().into_owned(), program))
    });
    let mut programs = Vec::new();
    for (name, program) in described {
        let ours = |link, way, device| PinnedProgram {
            name: name.clone(),
            id: program.id,
            link,
            way,
            device,
            is_ours: true,
        };
        match attached.remove(&program.id) {
            None => programs.push(ours(None, None, None)),
            Some(all) => {
                programs.extend(all.into_iter().map(|it| ours(it.link, Some(it.way), it.turn)));
            }
        }
    }
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    let ids = programs.iter().map(|program| program.id).collect();
    programs.extend(devices::strangers(&programs, &ids));
    Ok(programs)
}

/// What a pin below `links` stands for.
struct Attachment {
    program: u32,
    link: Option<u32>,
    way: Way,
    turn: Option<Turn>,
}

impl Attachment {
    fn of(link: &LinkDescription) -> Self {
        let way = match link.target {
            LinkTarget::Cgroup { .. } => Way::Cgroup,
            LinkTarget::Device { .. } => Way::Tcx,
            LinkTarget::Xdp { index } => Way::Xdp(devices::xdp_mode(index)),
        };
        Self { program: link.program, link: Some(link.id), way, turn: devices::turn(link) }
    }

    /// `None` for a qdisc.
    fn marked(pin: &Path) -> Option<Self> {
        let (program, turn) = devices::marked(pin)?;
        Some(Self { program, link: None, way: Way::Clsact, turn: Some(turn) })
    }
}

/// What became of a link.
enum Change {
    None,
    Updated,
    Made,
}

fn attach_one(program: &Program, cgroup: &Cgroup, pins: &Pins) -> Result<Change, LoadError> {
    let Some(link) = find(program.hook, cgroup, pins)? else {
        make(program, cgroup, pins)?;
        return Ok(Change::Made);
    };
    let runs = syscall::describe_link(&link).map_err(failed(program, cgroup))?.program;
    if runs == program.id {
        return Ok(Change::None);
    }
    syscall::link_update(&link, &program.fd).map_err(failed(program, cgroup))?;
    Ok(Change::Updated)
}

/// The pinned link of a hook at this cgroup. One of another layout is taken over.
fn find(hook: &Hook, cgroup: &Cgroup, pins: &Pins) -> Result<Option<OwnedFd>, LoadError> {
    let path = pins.link(hook.name);
    if !path.exists() {
        for layout in pins.other_layouts() {
            let other = layout.join("links").join(hook.name);
            if other.exists() {
                pins::rename(&other, &path)?;
                break;
            }
        }
    }
    let Ok(link) = syscall::object_get(&path) else {
        return Ok(None);
    };
    let target = LinkTarget::Cgroup { id: cgroup.id(), attach_type: hook.attach_type };
    // A link to another cgroup, or to one that is gone, is of no use.
    let fits = syscall::describe_link(&link).is_ok_and(|found| found.target == target);
    Ok(fits.then_some(link))
}

/// Attaches a program and pins the link, over an unusable one if there is one.
fn make(program: &Program, cgroup: &Cgroup, pins: &Pins) -> Result<(), LoadError> {
    let hook = program.hook;
    let link = syscall::link_create(&program.fd, cgroup, hook.attach_type).map_err(|source| {
        let denied = source.kind() == io::ErrorKind::PermissionDenied;
        match probe::blocker(cgroup, hook).filter(|_| denied) {
            Some(blocker) => {
                let cgroup = cgroup.path().to_owned();
                LoadError::Blocked { program: hook.name, cgroup, blocker }
            }
            None => failed(program, cgroup)(source),
        }
    })?;
    let (new, path) = (pins.link("new"), pins.link(hook.name));
    pins::remove(&new)?;
    syscall::object_pin(&link, &new).map_err(file("pin", &new))?;
    pins::rename(&new, &path)
}

fn failed(program: &Program, cgroup: &Cgroup) -> impl FnOnce(io::Error) -> LoadError {
    let (program, cgroup) = (program.hook.name, cgroup.path().to_owned());
    move |source| LoadError::Attach { program, cgroup, source }
}

/// The hooks of sockets.
pub fn socket_hooks() -> impl Iterator<Item = &'static Hook> {
    HOOKS.iter().filter(|hook| hook.place == Place::Cgroup)
}

/// The hook of a name.
pub(super) fn hook(name: &str) -> Option<&'static Hook> {
    HOOKS.iter().find(|hook| hook.name == name)
}

/// Every hook, in the order in which programs are attached or replaced: those that undo a
/// translation first, so that none is ever made that cannot be undone.
pub const HOOKS: [Hook; 14] = [
    socket("sock_release", 34),
    socket("recvmsg4", 19),
    socket("recvmsg6", 20),
    socket("getpeername4", 29),
    socket("getpeername6", 30),
    socket("sendmsg4", 14),
    socket("sendmsg6", 15),
    socket("connect4", 10),
    socket("connect6", 11),
    // The translation is undone after all that others look at, and made before it: they see
    // clients talk to pods.
    egress("tc_egress", Place::Device),
    egress("tc_egress_l3", Place::Bare),
    ingress("tc_ingress", Place::Device),
    ingress("tc_ingress_l3", Place::Bare),
    Hook {
        name: "xdp_ingress",
        entry: "xdp_ingress",
        attach_type: BPF_XDP,
        place: Place::Xdp,
        first: true,
    },
];

const fn socket(name: &'static str, attach_type: u32) -> Hook {
    Hook { name, entry: name, attach_type, place: Place::Cgroup, first: false }
}

/// Both kinds of devices have the same programs, loaded with another global.
const fn egress(name: &'static str, place: Place) -> Hook {
    Hook { name, entry: "tc_egress", attach_type: TCX_EGRESS, place, first: false }
}

const fn ingress(name: &'static str, place: Place) -> Hook {
    Hook { name, entry: "tc_ingress", attach_type: TCX_INGRESS, place, first: true }
}

/// `BPF_TCX_INGRESS`.
pub const TCX_INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`.
pub const TCX_EGRESS: u32 = 47;
