// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this kernel can do, and who else is at work on it.

mod btf;
mod requirements;

use std::{fmt, path::PathBuf};

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};

use super::{
    cgroup::Cgroup,
    load::{HOOKS, Hook, TCX_INGRESS},
    syscall::{self, Attached},
};

pub use self::{
    btf::{BtfError, namespace_layout},
    requirements::{CAPABILITIES, Requirement, State, requirements},
};

/// A program that is not ours, at a hook that we use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Foreign {
    /// The program's id.
    pub id: u32,
    /// Its name; empty if it cannot be read.
    pub name: String,
    /// The hook, by the name of our program there.
    pub hook: &'static str,
    /// The cgroup it is attached to; `None` if that cannot be seen from here.
    pub cgroup: Option<PathBuf>,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, hook, cgroup } = self;
        let name = if name.is_empty() { "without a name" } else { name };
        write!(f, "program {id} ({name}) at {hook} of ")?;
        match cgroup {
            Some(cgroup) => write!(f, "cgroup {}", cgroup.display()),
            None => f.write_str("a cgroup above"),
        }
    }
}

/// The programs at connect4 and connect6 that run for processes of a cgroup beside our own.
pub fn foreign(cgroup: &Cgroup, ours: &[u32]) -> Vec<Foreign> {
    let hooks = HOOKS.iter().filter(|hook| hook.name.starts_with("connect"));
    let programs = hooks.flat_map(|hook| {
        let runs = syscall::attached(cgroup, hook.attach_type, true).unwrap_or_default();
        runs.programs.into_iter().map(move |id| (hook, id))
    });
    programs
        .filter(|(_, id)| !ours.contains(id))
        .map(|(hook, id)| describe(cgroup, hook, id))
        .collect()
}

/// The program whose attachment shuts ours out of a hook: one at this cgroup or above that
/// was attached without the multi flag.
pub fn blocker(cgroup: &Cgroup, hook: &'static Hook) -> Option<Foreign> {
    cgroup.lineage().iter().find_map(|above| {
        let Attached { programs, flags } =
            syscall::attached(above, hook.attach_type, false).ok()?;
        let id = *programs.first()?;
        (flags & syscall::BPF_F_ALLOW_MULTI == 0).then(|| describe(cgroup, hook, id))
    })
}

/// Whether the kernel has bpf_set_retval for our programs (Linux 5.18): without it, a
/// Service without endpoints cannot refuse a connection.
pub fn has_set_retval() -> bool {
    has_helper(BpfHelper::BPF_FUNC_set_retval)
}

/// Whether the kernel has bpf_skc_to_mptcp_sock for our programs (Linux 5.19).
pub fn has_mptcp() -> bool {
    has_helper(BpfHelper::BPF_FUNC_skc_to_mptcp_sock)
}

/// Whether the kernel attaches programs to devices by tcx (Linux 6.6).
pub fn has_tcx() -> bool {
    syscall::attached_to_device(LOOPBACK, TCX_INGRESS).is_ok()
}

fn has_helper(helper: BpfHelper) -> bool {
    is_helper_supported(ProgramType::CgroupSockAddr, helper).unwrap_or_default()
}

fn describe(cgroup: &Cgroup, hook: &'static Hook, id: u32) -> Foreign {
    let name = syscall::program_by_id(id).and_then(syscall::describe_program);
    let at = cgroup.lineage().into_iter().find(|above| {
        syscall::attached(above, hook.attach_type, false)
            .is_ok_and(|attached| attached.programs.contains(&id))
    });
    Foreign {
        id,
        name: name.map(|program| program.name).unwrap_or_default(),
        hook: hook.name,
        cgroup: at.map(|at| at.path().to_owned()),
    }
}

/// The index of the loopback device.
const LOOPBACK: u32 = 1;
