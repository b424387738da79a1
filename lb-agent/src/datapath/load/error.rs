// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can go wrong between an empty BPF file system and running programs.

use std::{io, path::PathBuf, sync::Arc};

use aya::{EbpfError, maps::MapError, pin::PinError, programs::ProgramError};

use crate::datapath::{device::Begins, probe::Foreign};

/// Why the datapath could not be loaded, attached or removed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The pins' directory is in no BPF file system.
    #[error("{} is in no BPF file system; run: mount -t bpf bpf /sys/fs/bpf", path.display())]
    NoBpffs {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel reserves dots in names of a BPF file system.
    #[error("{}: a BPF file system allows no dots in names; choose another --bpf-root", path.display())]
    DottedPath {
        /// The directory.
        path: PathBuf,
    },
    /// Another agent owns the pins.
    #[error("{} is in use by {}; one agent per --bpf-root", path.display(), holder(*pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other's process id, if it can be seen from here.
        pid: Option<u32>,
    },
    /// A file or directory could not be used.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The cgroup could not be opened.
    #[error("cannot use cgroup {}: {source}; give the root of the cgroup2 tree as --cgroup-root", path.display())]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The cookie of the node's network namespace could not be read.
    #[error("cannot read the network namespace's cookie: {source}; Linux 5.14 or later is needed")]
    NetnsCookie {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel did not take the object or one of its maps.
    #[error("cannot load the kernel programs: {source}")]
    Object {
        /// aya's answer.
        #[source]
        source: EbpfError,
    },
    /// A map could not be opened.
    #[error("cannot {operation} map {map}: {source}")]
    Map {
        /// What was tried.
        operation: &'static str,
        /// The map's name.
        map: &'static str,
        /// aya's answer.
        #[source]
        source: MapError,
    },
    /// A map's contents could not be carried over.
    #[error("cannot copy map {map}: {source}")]
    Copy {
        /// The map's name.
        map: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A program is not in the object: it was built from other sources.
    #[error("the kernel programs have no {program}: rebuild the agent")]
    NoProgram {
        /// The program's name.
        program: &'static str,
    },
    /// The verifier refused a program, or it could not be described.
    #[error("cannot load program {program}: {}; RUST_LOG=debug has the verifier's whole log", last_words(&answer.to_string()))]
    Program {
        /// The program's name.
        program: &'static str,
        /// aya's answer, with the verifier's words: up to thousands of lines, so it is no
        /// `source` that every report would print.
        answer: ProgramError,
    },
    /// A program could not be pinned.
    #[error("cannot pin program {program}: {source}")]
    Pin {
        /// The program's name.
        program: &'static str,
        /// aya's answer.
        #[source]
        source: PinError,
    },
    /// A program could not be attached.
    #[error("cannot attach {program} to cgroup {}: {source}", cgroup.display())]
    Attach {
        /// The program's name.
        program: &'static str,
        /// The cgroup's directory.
        cgroup: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A program could not be attached to a network device.
    #[error("cannot attach {program} to device {device}: {}", at_device(source))]
    Device {
        /// The program's name.
        program: &'static str,
        /// The device's name.
        device: Arc<str>,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// There are no programs for what a device's packets begin with.
    #[error("device {device} does not serve clients outside: {}; name those that do with --devices", in_front(*begins))]
    Headers {
        /// The device's name.
        device: Arc<str>,
        /// What they begin with.
        begins: Begins,
    },
    /// The program in front of the stack could not be attached to a device that tc serves.
    #[error("cannot attach xdp_ingress to device {device}, which tc alone serves: {source}")]
    Xdp {
        /// The device's name.
        device: Arc<str>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another program is attached in a way that shuts ours out.
    #[error("cannot attach {program} to cgroup {}: {blocker} was attached without the multi flag, which lets no other program run; detach it", cgroup.display())]
    Blocked {
        /// Our program's name.
        program: &'static str,
        /// The cgroup that we attach to.
        cgroup: PathBuf,
        /// The other program.
        blocker: Foreign,
    },
    /// Another socket-level balancer is at work.
    #[error("{first} also rewrites connections of cgroup {}: two balancers would work against each other; detach it, or allow it with --allow-foreign-programs", cgroup.display())]
    Foreign {
        /// The cgroup that we attach to.
        cgroup: PathBuf,
        /// The first such program.
        first: Foreign,
    },
}

impl LoadError {
    /// Whether a directory that was given is to blame.
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::NoBpffs { .. } | Self::DottedPath { .. } | Self::Cgroup { .. })
    }
}

/// A file error with its place.
pub(super) fn file(
    operation: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> LoadError {
    let path = path.into();
    move |source| LoadError::File { operation, path, source }
}

/// What the answer to an attachment means.
fn at_device(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::ENOENT) => {
            "the kernel has neither tcx (Linux 6.6) nor clsact; run: modprobe -a sch_ingress cls_bpf"
                .to_owned()
        }
        _ => source.to_string(),
    }
}

/// What is in front of the IP header, and is in the way.
fn in_front(begins: Begins) -> String {
    match begins {
        Begins::Gre => {
            "its packets begin with the tunnel's own header, as it has no remote address".to_owned()
        }
        Begins::Other(number) => format!(
            "its packets begin with a header of link type {number}, neither Ethernet's nor IP's"
        ),
        Begins::Ethernet | Begins::Ip => "it has no programs".to_owned(),
    }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "a process of another PID namespace".to_owned(),
    }
}

/// What failed, and the end of the verifier's log, which says why.
fn last_words(answer: &str) -> String {
    let (what, log) = answer.split_once(". Verifier output: ").unwrap_or((answer, ""));
    let lines: Vec<_> = log.lines().filter(|line| !is_statistics(line)).collect();
    let last = lines.get(lines.len().saturating_sub(2)..).unwrap_or_default();
    [&[what], last].concat().join("; ")
}

/// The verifier ends with how long it took.
fn is_statistics(line: &str) -> bool {
    let starts = ["verification time", "stack depth", "processed ", ":"];
    line.trim().is_empty() || starts.iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_verifiers_log_is_what_people_see() {
        let answer =
            "the BPF_PROG_LOAD syscall returned Invalid argument. Verifier output: 0: R1=ctx()
1: (b7) r1 = 6
58: (95) exit
At program exit the register R0 should have been in [0, 1]
verification time 1608 usec
stack depth 128+64
processed 350 insns (limit 1000000)
: Invalid argument (os error 22)";
        assert_eq!(
            last_words(answer),
            "the BPF_PROG_LOAD syscall returned Invalid argument; 58: (95) exit; At program exit the register R0 should have been in [0, 1]"
        );
        assert_eq!(last_words("no such program"), "no such program");
    }
}
