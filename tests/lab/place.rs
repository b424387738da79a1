// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A place is where a process can run: a network namespace and a cgroup with
//! addresses. Nodes (their host processes), pods, the outside client and the
//! control plane each are one.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    driver::Driver,
    netns::{Batch, Netns},
    process::Process,
    wait,
    wire::Family,
};

/// What runs in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaceKind {
    /// Host processes of a node.
    Node,
    /// One pod.
    Pod,
    /// Someone outside the cluster.
    Client,
    /// etcd, API server, controllers.
    Control,
}

/// Where a process can run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Unique in its lab: `node-1`, `pod-1-2`, `client`, `control`.
    pub name: String,
    /// What runs there.
    pub kind: PlaceKind,
    /// Its network namespace.
    pub netns: Netns,
    /// Its cgroup2 directory.
    pub cgroup: PathBuf,
    /// IPv4 address of `eth0`.
    pub v4: Ipv4Addr,
    /// IPv6 address of `eth0`.
    pub v6: Ipv6Addr,
    /// Directory for output of processes.
    pub logs: PathBuf,
}

impl Place {
    /// Its address of that family.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// Its address with a port.
    pub fn at(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(family), port)
    }

    /// A command that will run here: the process enters the cgroup, then the
    /// namespace, then becomes `program` (same pid).
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = self.inside("exec")?;
        command.arg("--").arg(program);
        Ok(command)
    }

    /// A command for one of `lab-pod`'s own verbs, run here.
    pub fn inside(&self, verb: &str) -> Result<Command> {
        let mut command = Command::new(binary("lab-pod", "LAB_POD")?);
        command.arg("--cgroup").arg(&self.cgroup).args(["--netns", self.netns.name(), verb]);
        Ok(command)
    }

    /// Starts a process made by [`Place::command`]; its output goes to
    /// `<logs>/<place>-<label>.log`. It is killed when dropped.
    pub fn spawn(&self, label: &str, command: Command) -> Result<Process> {
        let log = self.logs.join(format!("{}-{label}.log", self.name));
        Process::spawn(&format!("{label} in {}", self.name), command, log)
    }

    /// Runs a program here to its end, at most 30 s; gives its standard output.
    ///
    /// # Errors
    /// When it fails (the message holds its error output) or takes too long.
    pub fn output<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(args);
        let (status, stdout, stderr) = bounded_output(command, OUTPUT_LIMIT)?;
        ensure!(
            status == Some(0),
            "{program} in {} ended with {status:?}: {stderr}{stdout}",
            self.name
        );
        Ok(stdout)
    }

    /// Runs `body` on a thread in the namespace; see [`Netns::run`] for what
    /// it is not good for.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        self.netns.run(body)
    }

    /// A process here that opens sockets on command.
    pub fn driver(&self) -> Result<Driver> {
        Driver::start(self)
    }

    /// One `ip` command in the namespace, such as `route add 10.96.0.0/16 via 192.168.50.11`.
    pub fn ip(&self, line: &str) -> Result<()> {
        Batch::default().line(line).run_in(&self.netns)
    }

    /// One ICMP echo from here, answered within two seconds.
    pub fn ping(&self, to: IpAddr) -> Result<()> {
        let pinged = self.run(|| ping(to))?;
        pinged.with_context(|| format!("ping {to} from {}", self.name))
    }
}

/// One echo request and its reply, over a ping socket: the kernel fills in
/// identifier and checksum (`net.ipv4.ping_group_range` lets root in).
fn ping(to: IpAddr) -> io::Result<()> {
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    socket.send(&[request, 0, 0, 0, 0, 0, 0, 1])?;
    let mut answer = [0; 64];
    let length = (&socket).read(&mut answer)?;
    if length < 8 || answer.first() != Some(&reply) {
        return Err(io::Error::other("answered by something else than an echo reply"));
    }
    Ok(())
}

/// Runs a command to its end within `limit`: exit code (none when a signal
/// ended it), standard output, standard error.
pub fn bounded_output(
    mut command: Command,
    limit: Duration,
) -> Result<(Option<i32>, String, String)> {
    let name = command.get_program().display().to_string();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("starting {name}"))?;
    let pid = i32::try_from(child.id()).context("a pid fits an i32")?;
    let (sender, receiver) = mpsc::channel();
    let waiter = thread::spawn(move || sender.send(child.wait_with_output()));
    let limit = wait::patient(limit);
    let outcome = receiver.recv_timeout(limit);
    if outcome.is_err() {
        // Still unreaped, so the pid is still this child's.
        kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("killing {name}"))?;
    }
    // The thread ends with its child; nothing it could say is lost.
    drop(waiter.join());
    let output =
        outcome.with_context(|| format!("{name} ran longer than {} s", limit.as_secs()))??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

/// A program of this workspace: the variable's value where set, else next to
/// the running executable, else in a sibling profile of its target directory.
pub fn binary(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Ok(path.into());
    }
    let exe = fs::canonicalize("/proc/self/exe").context("finding the running executable")?;
    let above = exe.ancestors().skip(1).take(3);
    let candidates =
        above.flat_map(|dir| ["", "debug", "release"].map(|profile| dir.join(profile).join(name)));
    let is_program = |path: &PathBuf| path.is_file() && path != Path::new(&exe);
    candidates.into_iter().find(is_program).with_context(|| {
        format!(
            "no {name} near {}: build it (`cargo build -p lb-tests -p lb-agent`) or set {variable}",
            exe.display()
        )
    })
}

/// How long a program that is run to its end may take.
const OUTPUT_LIMIT: Duration = Duration::from_secs(30);
