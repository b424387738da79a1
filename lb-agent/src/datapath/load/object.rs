// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel programs' object, embedded, and how it becomes maps and programs.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program as Loaded, ProgramError},
};

use lb_common::namespace::NamespaceLayout;

use super::{
    error::{LoadError, file},
    fate::Fate,
    links::{HOOKS, Hook, Place},
    pins::{self, Pins, Stage},
};
use crate::{datapath::syscall, fnv::fnv1a};

/// A loaded program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) hook: &'static Hook,
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
    /// The ids of the maps that it uses.
    pub(super) maps: Vec<u32>,
}

/// The programs' read-only globals: what never changes while they are loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Globals {
    /// Cookie of the node's own network namespace.
    pub(super) host_netns: u64,
    /// SOCKETS' size less one.
    pub(super) sockets_mask: u64,
    /// 1 if the kernel has bpf_set_retval (Linux 5.18).
    pub(super) has_set_retval: u64,
    /// 1 if the kernel has bpf_skc_to_mptcp_sock (Linux 5.19).
    pub(super) has_mptcp: u64,
    /// Bytes before the IP header of packets at devices.
    pub(super) network: u64,
    /// Where namespaces keep their addresses; all 0 if that is not known.
    pub(super) namespace: NamespaceLayout,
}

impl Globals {
    fn named(&self) -> [(&'static str, &u64); 5] {
        [
            ("HOST_NETNS", &self.host_netns),
            ("SOCKETS_MASK", &self.sockets_mask),
            ("HAS_SET_RETVAL", &self.has_set_retval),
            ("HAS_MPTCP", &self.has_mptcp),
            ("NETWORK", &self.network),
        ]
    }
}

/// What tells one set of running programs from another: a hash of the object, of the maps'
/// sizes and of the globals, in hexadecimal.
pub(super) fn build_id(fates: &[Fate], globals: &Globals) -> String {
    let sizes = fates.iter().flat_map(|fate| fate.entries.to_le_bytes());
    let layout: &[u8] = bytemuck::bytes_of(&globals.namespace);
    let named = globals.named().into_iter().flat_map(|(_, value)| value.to_le_bytes());
    let object = OBJECT.iter().copied();
    let hash = fnv1a(object.chain(sizes).chain(named).chain(layout.iter().copied()));
    format!("{hash:016x}")
}

/// Creates the maps that are not kept, pinned below `building`, and relocates the programs
/// against them and the kept ones.
pub(super) fn load(
    fates: &[Fate],
    globals: &Globals,
    place: impl Fn(&Fate) -> PathBuf,
) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    // No program reads the kernel's own structures, so nothing is relocated against its BTF.
    loader.btf(None);
    for fate in fates {
        loader.map_max_entries(fate.name, fate.entries).map_pin_path(fate.name, place(fate));
    }
    let layout: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&globals.namespace));
    loader.override_global("NAMESPACE_LAYOUT", layout, true);
    let globals = globals.named();
    for (name, value) in globals {
        loader.override_global(name, value, true);
    }
    loader.load(OBJECT).map_err(|source| LoadError::Object { source })
}

/// Passes the programs of some hooks through the verifier and pins them at a stage.
pub(super) fn load_programs(
    ebpf: &mut Ebpf,
    hooks: impl Iterator<Item = &'static Hook>,
    pins: &Pins,
    stage: Stage,
) -> Result<Vec<Program>, LoadError> {
    let programs = hooks.map(|hook| {
        let name = hook.name;
        let program = ebpf.program_mut(hook.entry).ok_or(LoadError::NoProgram { program: name })?;
        let mut loaded = || -> Result<OwnedFd, ProgramError> {
            match program {
                Loaded::CgroupSockAddr(program) => program.load()?,
                Loaded::CgroupSock(program) => program.load()?,
                Loaded::SchedClassifier(program) => program.load()?,
                Loaded::Xdp(program) => program.load()?,
                _ => return Err(ProgramError::UnexpectedProgramType),
            }
            Ok(program.fd()?.as_fd().try_clone_to_owned()?)
        };
        let fd = loaded().map_err(|answer| {
            tracing::debug!(program = name, %answer, "the verifier's log");
            LoadError::Program { program: name, answer }
        })?;
        let path = pins.program(stage, name);
        pins::remove(&path)?;
        syscall::object_pin(&fd, &path).map_err(file("pin", path))?;
        describe(hook, fd)
    });
    programs.collect()
}

/// Opens the pinned programs of a stage; `None` if one is missing or something else. Those for
/// devices without Ethernet headers may be missing.
pub(super) fn open_programs(pins: &Pins, stage: Stage) -> Option<Vec<Program>> {
    let open = |hook: &'static Hook| {
        let fd = syscall::object_get(&pins.program(stage, hook.name)).ok()?;
        describe(hook, fd).ok()
    };
    let mut programs: Vec<_> = usual().map(open).collect::<Option<_>>()?;
    programs.extend(bare().map(open).collect::<Option<Vec<_>>>().into_iter().flatten());
    Some(programs)
}

/// The hooks whose programs are always loaded.
pub(super) fn usual() -> impl Iterator<Item = &'static Hook> {
    HOOKS.iter().filter(|hook| hook.place != Place::Bare)
}

/// Those of devices without Ethernet headers.
pub(super) fn bare() -> impl Iterator<Item = &'static Hook> {
    HOOKS.iter().filter(|hook| hook.place == Place::Bare)
}

fn describe(hook: &'static Hook, fd: OwnedFd) -> Result<Program, LoadError> {
    let described = syscall::describe_program(&fd).map_err(|error| LoadError::Program {
        program: hook.name,
        answer: ProgramError::IOError(error),
    })?;
    Ok(Program { hook, fd, id: described.id, maps: described.maps })
}

/// The ELF object that build.rs made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-ebpf"));
