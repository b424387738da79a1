// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a node must have, looked at one by one: for `check`, and for the log of `run`.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use aya::{programs::ProgramType, sys::is_program_supported};
use lb_common::namespace::NamespaceLayout;

use crate::datapath::{
    cgroup::{self, Cgroup},
    diag, filters, load,
    probe::{
        self,
        btf::{self, BtfError},
    },
    syscall,
};

/// One requirement, and how this node meets it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Requirement {
    /// What is needed, in a word or two.
    pub name: &'static str,
    /// Whether it is there.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What is lost without it; empty if it is there.
    pub lost: &'static str,
    /// The command or change that mends it; empty if it is there or nothing does.
    pub mend: String,
}

/// How a requirement is met.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// It is there.
    Ok,
    /// The agent runs without it, and something is lost.
    Degraded,
    /// The agent cannot run, or refuses to.
    Missing,
}

impl State {
    /// The word that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Requirement {
    /// What was found, then what is lost, then what mends it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)?;
        if !self.lost.is_empty() {
            write!(f, "; {}", self.lost)?;
        }
        if !self.mend.is_empty() {
            write!(f, "; {}", self.mend)?;
        }
        Ok(())
    }
}

/// Looks at everything, whatever is missing before it. `cgroup_root`: `None` for the root of
/// the mounted cgroup2 tree.
pub fn requirements(bpf_root: &Path, cgroup_root: Option<&Path>) -> Vec<Requirement> {
    let mut found = vec![capabilities(), kernel()];
    found.extend(programs());
    found.extend([set_retval(), mptcp(), namespace_cookie(), destroy()]);
    found.extend([tcx(), grace(), kernel_types(), jit()]);
    found.extend([lockdown(btf::lockdown()), pod_addresses(btf::namespace_layout())]);
    found.push(bpf_file_system(bpf_root));
    let (mount, root) = cgroup_mount(cgroup_root);
    found.push(mount);
    if let Some(root) = root {
        found.push(real_root(&root));
        found.push(balancers(&root, bpf_root));
    }
    found
}

fn capabilities() -> Requirement {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lacks = lacking(&status);
    if lacks.is_empty() {
        return ok("capabilities", "CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN".to_owned());
    }
    let found = format!("this process lacks {}", lacks.join(", "));
    let mend = "run as root, or in a privileged container".to_owned();
    if lacks == ["CAP_SYS_ADMIN"] {
        return degraded("capabilities", found, "other programs cannot be named", mend);
    }
    missing("capabilities", found, "programs cannot be loaded or attached", mend)
}

/// The capabilities that are not in the effective set of `/proc/<pid>/status`.
fn lacking(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    CAPABILITIES.iter().filter(|(_, bit)| held & 1 << bit == 0).map(|(name, _)| *name).collect()
}

fn kernel() -> Requirement {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let found = format!("Linux {}", release.trim());
    match version(&release) {
        Some(version) if version >= FULL => ok("kernel", found),
        Some(version) if version >= OLDEST => {
            let lost = "not tried, and the lines below say what is lost";
            degraded("kernel", found, lost, "update to Linux 5.18 or later".to_owned())
        }
        _ => {
            let lost = "pods cannot be told from the host, or hooks do not exist";
            missing("kernel", found, lost, "update to Linux 5.18 or later".to_owned())
        }
    }
}

/// Major and minor number of a release such as `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn programs() -> [Requirement; 2] {
    let of_type = |name, program_type| {
        let answer = is_program_supported(program_type);
        match answer {
            Ok(true) => ok(name, "the kernel has this type of program".to_owned()),
            Ok(false) => missing(
                name,
                "the kernel does not know this type of program".to_owned(),
                "no socket can be balanced",
                "use a kernel with CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL".to_owned(),
            ),
            Err(error) => missing(
                name,
                format!("cannot be told: {error}"),
                "no socket can be balanced",
                "run as root".to_owned(),
            ),
        }
    };
    [
        of_type("socket address hooks", ProgramType::CgroupSockAddr),
        of_type("socket release hook", ProgramType::CgroupSock),
    ]
}

fn set_retval() -> Requirement {
    helper(
        "bpf_set_retval",
        probe::has_set_retval(),
        "a connection to a Service without endpoints times out instead of being refused",
        "update to Linux 5.18 or later",
    )
}

fn mptcp() -> Requirement {
    helper(
        "bpf_skc_to_mptcp_sock",
        probe::has_mptcp(),
        "connections of MPTCP sockets leave records behind that nobody frees",
        "update to Linux 5.19 or later",
    )
}

fn helper(name: &'static str, has: bool, lost: &'static str, mend: &str) -> Requirement {
    if has {
        ok(name, "the kernel has this helper".to_owned())
    } else {
        degraded(name, "the kernel does not have this helper".to_owned(), lost, mend.to_owned())
    }
}

fn namespace_cookie() -> Requirement {
    let name = "namespace cookie";
    match syscall::netns_cookie() {
        Ok(cookie) => ok(name, format!("this network namespace is {cookie}")),
        Err(error) => missing(
            name,
            format!("SO_NETNS_COOKIE: {error}"),
            "host and pods cannot be told apart",
            "update to Linux 5.14 or later".to_owned(),
        ),
    }
}

/// CT-01: by a socket of our own.
fn destroy() -> Requirement {
    let name = "SOCK_DESTROY";
    let error = match diag::probe() {
        Ok(()) => return ok(name, "the kernel disconnects UDP sockets".to_owned()),
        Err(error) => error,
    };
    let mend = match error.kind() {
        io::ErrorKind::Unsupported => "use a kernel with CONFIG_INET_DIAG_DESTROY",
        io::ErrorKind::NotFound => "run: modprobe udp_diag",
        _ => "run as root",
    };
    let lost = "connected UDP sockets stay with backends that are gone";
    degraded(name, error.to_string(), lost, mend.to_owned())
}

/// By a look at the loopback device, which has index 1 in every namespace.
fn tcx() -> Requirement {
    let name = "tcx";
    if probe::has_tcx() {
        return ok(name, "the kernel attaches programs to devices by tcx".to_owned());
    }
    match filters::probe() {
        Ok(()) => ok(name, "the kernel has no tcx (Linux 6.6): clsact filters are used".to_owned()),
        Err(error) => {
            let mend = match error.raw_os_error() {
                Some(libc::ENOENT) => "run: modprobe -a sch_ingress cls_bpf",
                _ => "run as root",
            };
            let lost = "clients outside the cluster are not served through this node";
            degraded(name, format!("neither tcx nor clsact: {error}"), lost, mend.to_owned())
        }
    }
}

fn grace() -> Requirement {
    if syscall::membarrier() {
        return ok("membarrier", "grace periods take milliseconds".to_owned());
    }
    degraded(
        "membarrier",
        "the kernel refuses MEMBARRIER_CMD_GLOBAL, as with nohz_full".to_owned(),
        "a removal waits one second before what it used is given away",
        String::new(),
    )
}

fn kernel_types() -> Requirement {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        return ok("BTF", path.to_owned());
    }
    degraded(
        "BTF",
        format!("{path} does not exist"),
        "MPTCP sockets cannot be told apart",
        "use a kernel with CONFIG_DEBUG_INFO_BTF".to_owned(),
    )
}

/// What the lockdown mode takes from the programs; `None`: it cannot be seen.
fn lockdown(mode: Option<String>) -> Requirement {
    let name = "kernel lockdown";
    match mode {
        None => ok(name, format!("none to be seen ({} is not there)", btf::LOCKDOWN)),
        Some(mode) if mode == btf::CONFIDENTIALITY => degraded(
            name,
            format!(
                "{mode}: no program may read the kernel's memory (bpf_probe_read_kernel, kprobes)"
            ),
            POD_ADDRESSES,
            "boot with lockdown=integrity on the kernel's command line".to_owned(),
        ),
        Some(mode) => ok(name, format!("{mode}: takes nothing that is needed here")),
    }
}

/// LB-06: where a pod's socket that is not bound looks for its address.
fn pod_addresses(layout: Result<NamespaceLayout, BtfError>) -> Requirement {
    let name = "pod addresses";
    let error = match layout {
        Ok(NamespaceLayout { device_ipv6: 0, .. }) => {
            return degraded(
                name,
                "the kernel's BTF has no struct inet6_dev: IPv6 is a module, or not there"
                    .to_owned(),
                "where loadBalancerSourceRanges are set, pods get no answer over IPv6",
                "use a kernel with CONFIG_IPV6=y, if pods have IPv6 addresses".to_owned(),
            );
        }
        Ok(_) => return ok(name, "the kernel's BTF says where namespaces keep them".to_owned()),
        Err(error) => error,
    };
    let mend = match error {
        BtfError::LockedDown => "see kernel lockdown",
        BtfError::Read(_) => "use a kernel with CONFIG_DEBUG_INFO_BTF",
        BtfError::Malformed | BtfError::Missing { .. } => {
            "use a kernel that this version was tried on (Linux 6.1, 6.12, 6.18), and report this line"
        }
    };
    degraded(name, error.to_string(), POD_ADDRESSES, mend.to_owned())
}

fn jit() -> Requirement {
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable") {
        Ok(text) if text.trim() == "0" => degraded(
            "JIT",
            "programs are interpreted".to_owned(),
            "every connection costs more",
            "run: sysctl -w net.core.bpf_jit_enable=1".to_owned(),
        ),
        // Where it cannot be switched, it is compiled in.
        Ok(_) | Err(_) => ok("JIT", "programs are compiled".to_owned()),
    }
}

fn bpf_file_system(root: &Path) -> Requirement {
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(root);
    let in_bpffs = syscall::file_system(existing).is_ok_and(|kind| kind == syscall::BPF_FS_MAGIC);
    if in_bpffs {
        return ok("BPF file system", root.display().to_string());
    }
    missing(
        "BPF file system",
        format!("{} is in none", root.display()),
        "programs would end with the agent",
        "run: mount -t bpf bpf /sys/fs/bpf".to_owned(),
    )
}

/// The mount, and the cgroup to attach to.
fn cgroup_mount(given: Option<&Path>) -> (Requirement, Option<Cgroup>) {
    let name = "cgroup2";
    let lost = "no socket can be balanced";
    let mount = cgroup::find_mount().and_then(|mount| {
        let none = || io::Error::new(io::ErrorKind::NotFound, "no cgroup2 file system is mounted");
        mount.ok_or_else(none)
    });
    let mount = match mount {
        Ok(mount) => mount,
        Err(error) => {
            let mend = "run: mount -t cgroup2 none /sys/fs/cgroup/unified".to_owned();
            return (missing(name, error.to_string(), lost, mend), None);
        }
    };
    let path: PathBuf = given.map_or(mount, Path::to_owned);
    match Cgroup::open(&path) {
        Ok(root) => (ok(name, path.display().to_string()), Some(root)),
        Err(error) => {
            let mend = "give the root of the cgroup2 tree as --cgroup-root".to_owned();
            (missing(name, format!("{}: {error}", path.display()), lost, mend), None)
        }
    }
}

fn real_root(root: &Cgroup) -> Requirement {
    if root.is_real_root() {
        return ok("cgroup root", "the root of the whole tree".to_owned());
    }
    missing(
        "cgroup root",
        format!("{} is below the root of the tree", root.path().display()),
        "sockets of processes outside of it are not balanced",
        "mount the host's cgroup2 tree, or allow it with --allow-nested-cgroup".to_owned(),
    )
}

fn balancers(root: &Cgroup, bpf_root: &Path) -> Requirement {
    let name = "no other balancer";
    let others = probe::foreign(root, &load::own_programs(bpf_root));
    let Some(first) = others.first() else {
        return ok(name, "no other program rewrites connections here".to_owned());
    };
    missing(
        name,
        format!("{first} rewrites connections"),
        "two balancers would work against each other",
        "detach it, or allow it with --allow-foreign-programs".to_owned(),
    )
}

fn ok(name: &'static str, found: String) -> Requirement {
    Requirement { name, state: State::Ok, found, lost: "", mend: String::new() }
}

fn degraded(name: &'static str, found: String, lost: &'static str, mend: String) -> Requirement {
    Requirement { name, state: State::Degraded, found, lost, mend }
}

fn missing(name: &'static str, found: String, lost: &'static str, mend: String) -> Requirement {
    Requirement { name, state: State::Missing, found, lost, mend }
}

/// Without the addresses of namespaces.
const POD_ADDRESSES: &str =
    "where loadBalancerSourceRanges are set, pods that bind no address get no answer";

/// What an agent must be able to do, with the capability's number.
pub const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_BPF", 39), ("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21)];

/// From here on sockets lose nothing.
const FULL: (u32, u32) = (5, 18);
/// Before this the programs do not load.
const OLDEST: (u32, u32) = (5, 15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.1.0-13-amd64\n"), Some((6, 1)));
        assert_eq!(version("5.4-rc1"), Some((5, 4)));
        assert_eq!(version("unknown"), None);
        assert!(version("5.9").unwrap() < OLDEST && version("5.15.0").unwrap() < FULL);
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        assert_eq!(lacking("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"), [""; 0]);
        assert_eq!(lacking("CapEff:\t000001ffffdfffff\n"), ["CAP_SYS_ADMIN"]);
        assert_eq!(lacking(""), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn lockdown_and_an_unknown_kernel_say_what_is_lost_and_what_mends_it() {
        assert_eq!(lockdown(None).state, State::Ok);
        assert_eq!(lockdown(Some("integrity".to_owned())).state, State::Ok);
        let line = lockdown(Some("confidentiality".to_owned())).to_string();
        for part in ["bpf_probe_read_kernel", "loadBalancerSourceRanges", "lockdown=integrity"] {
            assert!(line.contains(part), "{line}");
        }
        let known = NamespaceLayout { device_ipv6: 8, ..NamespaceLayout::default() };
        assert_eq!(pod_addresses(Ok(known)).state, State::Ok);
        let missing = BtfError::Missing { structure: "in_device", field: "ifa_list" };
        for (layout, parts) in [
            (Err(missing), ["no in_device.ifa_list", "report"]),
            (Err(BtfError::LockedDown), ["locked down", "see kernel lockdown"]),
            (Ok(NamespaceLayout::default()), ["inet6_dev", "CONFIG_IPV6"]),
        ] {
            let row = pod_addresses(layout);
            let line = row.to_string();
            assert!(row.state == State::Degraded && line.contains("loadBalancerSourceRanges"));
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        }
    }

    #[test]
    fn a_requirement_reads_as_one_line() {
        let text = missing("x", "nothing here".to_owned(), "all is lost", "run: y".to_owned());
        assert_eq!(text.to_string(), "nothing here; all is lost; run: y");
        assert_eq!(ok("x", "here".to_owned()).to_string(), "here");
    }
}
