// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The attachments: pinned cgroup links, made once and updated ever after.

use std::{collections::BTreeMap, io, os::fd::OwnedFd, path::Path};

use super::{
    error::{LoadError, file},
    object::Program,
    pins::{self, Pins},
};
use crate::datapath::{cgroup::Cgroup, probe, syscall};

/// A place in the kernel where a program runs.
#[derive(Debug)]
pub struct Hook {
    /// The program's name, in the object and as a pin.
    pub name: &'static str,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
}

/// A pinned program.
#[derive(Debug)]
pub struct PinnedProgram {
    /// The hook's name.
    pub name: String,
    /// The kernel's id.
    pub id: u32,
    /// The link that attaches it.
    pub link: Option<u32>,
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
    for program in programs {
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
        let link = syscall::object_get(&path).and_then(syscall::describe_link);
        link.ok().map(|link| link.program)
    });
    let programs = pins.every("programs").into_iter().chain(pins.every("next/programs"));
    let programs = programs.filter_map(|path| {
        let program = syscall::object_get(&path).and_then(syscall::describe_program);
        program.ok().map(|program| program.id)
    });
    links.chain(programs).collect()
}

/// The programs that are pinned, in the order of their names, each with the link that runs it.
pub(super) fn pinned(pins: &Pins) -> Result<Vec<PinnedProgram>, LoadError> {
    let mut links = BTreeMap::new();
    for path in pins.links()? {
        let link = syscall::object_get(&path)
            .and_then(syscall::describe_link)
            .map_err(file("read", &path))?;
        links.insert(link.program, link.id);
    }
    // What is no program there is none of ours.
    let programs = pins.programs()?.into_iter().filter_map(|path| {
        let program = syscall::object_get(&path).and_then(syscall::describe_program).ok()?;
        let link = links.get(&program.id).copied();
        Some(PinnedProgram { link, name: program.name, id: program.id })
    });
    let mut programs: Vec<_> = programs.collect();
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
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
    // A link to another cgroup, or to one that is gone, is of no use.
    let fits = syscall::describe_link(&link)
        .is_ok_and(|found| found.cgroup == cgroup.id() && found.attach_type == hook.attach_type);
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

/// Every hook, in the order in which programs are attached or replaced: those that undo a
/// translation first, so that none is ever made that cannot be undone.
pub const HOOKS: [Hook; 9] = [
    Hook { name: "sock_release", attach_type: 34 },
    Hook { name: "recvmsg4", attach_type: 19 },
    Hook { name: "recvmsg6", attach_type: 20 },
    Hook { name: "getpeername4", attach_type: 29 },
    Hook { name: "getpeername6", attach_type: 30 },
    Hook { name: "sendmsg4", attach_type: 14 },
    Hook { name: "sendmsg6", attach_type: 15 },
    Hook { name: "connect4", attach_type: 10 },
    Hook { name: "connect6", attach_type: 11 },
];
