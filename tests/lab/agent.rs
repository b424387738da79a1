// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent` on a node of the lab: its own roots, its node's namespace.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    http,
    node::Node,
    place::{binary, bounded_output},
    process::Process,
    wait,
};

/// Where the agent reads objects from.
#[derive(Clone, Debug)]
pub enum Source {
    /// `--manifests`.
    Manifests(PathBuf),
    /// `--kubeconfig`.
    Kubeconfig(PathBuf),
    /// Neither: as a pod of the cluster.
    InCluster,
}

/// How to run an agent.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// Where it reads from.
    pub source: Source,
    /// The program; none: `LB_AGENT`, or the one built next to the test.
    pub program: Option<PathBuf>,
    /// More arguments for `run`.
    pub args: Vec<OsString>,
    /// More environment.
    pub env: Vec<(String, String)>,
}

/// An agent that runs, or ran, on a node. Dropping it kills the process, as a
/// crash would; the datapath that it pinned goes with the lab.
#[derive(Debug)]
pub struct Agent {
    node: Node,
    program: PathBuf,
    process: Process,
}

/// What an agent's command printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl AgentSpec {
    /// The built agent on a directory of manifests.
    pub fn manifests(dir: &Path) -> Self {
        Self::of(Source::Manifests(dir.to_owned()))
    }

    /// The built agent on an API server.
    pub fn kubeconfig(file: &Path) -> Self {
        Self::of(Source::Kubeconfig(file.to_owned()))
    }

    /// Adds an argument for `run`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// No further arguments.
    fn of(source: Source) -> Self {
        Self { source, program: None, args: Vec::new(), env: Vec::new() }
    }
}

impl Agent {
    /// Starts one without waiting for it. Its log goes on where an earlier
    /// agent of the node ended.
    pub fn spawn(node: &Node, spec: &AgentSpec) -> Result<Self> {
        let program = spec.program.clone().map_or_else(|| binary("lb-agent", "LB_AGENT"), Ok)?;
        let mut command = node.command(&program)?;
        command.arg("run").args(roots(node, "run")).args(["--node-name", &node.name]);
        // A node of the lab is a part of this machine's cgroup tree.
        command.arg("--allow-nested-cgroup");
        match &spec.source {
            Source::Manifests(dir) => command.arg("--manifests").arg(dir),
            Source::Kubeconfig(file) => command.arg("--kubeconfig").arg(file),
            Source::InCluster => &mut command,
        };
        command.args(&spec.args).envs(spec.env.iter().map(|(key, value)| (key, value)));
        let process = node.spawn("agent", command)?;
        Ok(Self { node: node.clone(), program, process })
    }

    /// Starts one and waits until it is ready.
    pub fn start(node: &Node, spec: &AgentSpec) -> Result<Self> {
        let mut agent = Self::spawn(node, spec)?;
        agent.wait_ready(READY_LIMIT)?;
        Ok(agent)
    }

    /// Waits until `/readyz` says 200: self-test and first full apply are done.
    ///
    /// # Errors
    /// When it ends or is not ready within `limit`; the message has the end of
    /// its log.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let ready =
            wait::for_value(limit, &format!("the agent of {} to be ready", self.node.name), || {
                if !self.process.is_running() {
                    return Ok(false);
                }
                match self.readyz()? {
                    (200, _) => Ok(true),
                    (status, body) => bail!("/readyz said {status}: {body}"),
                }
            });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => {
                bail!("the agent of {} ended; {}", self.node.name, self.process.log_tail())
            }
            Err(error) => Err(error.context(self.process.log_tail())),
        }
    }

    /// `GET /healthz`: status and body.
    pub fn healthz(&self) -> Result<(u16, String)> {
        self.http("127.0.0.1:10256", "/healthz")
    }

    /// `GET /readyz`: status and body.
    pub fn readyz(&self) -> Result<(u16, String)> {
        self.http("127.0.0.1:10256", "/readyz")
    }

    /// `GET /livez`: status and body.
    pub fn livez(&self) -> Result<(u16, String)> {
        self.http("127.0.0.1:10256", "/livez")
    }

    /// `GET /metrics`, the text.
    pub fn metrics(&self) -> Result<String> {
        match self.http("127.0.0.1:10249", "/metrics")? {
            (200, body) => Ok(body),
            (status, body) => bail!("/metrics said {status}: {body}"),
        }
    }

    /// The value of one sample, by name and labels as they are printed.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn metric(&self, sample: &str) -> Result<f64> {
        let metrics = self.metrics()?;
        let found = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let value = found.with_context(|| format!("no sample {sample} in:\n{metrics}"))?;
        value.trim().parse().with_context(|| format!("{sample} is {value:?}, no number"))
    }

    /// SIGKILL: what a crash is.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(STOP_LIMIT)
    }

    /// Its process: pid, memory, signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything that agents of this node have logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Runs another verb of the same program with this node's roots, such as
    /// `["show", "services", "-o", "json"]`.
    pub fn verb(&self, words: &[&str]) -> Result<Printed> {
        verb(&self.node, &self.program, words)
    }

    /// Starts a verb that goes on, with what it prints in its log.
    pub fn start_verb(&self, words: &[&str]) -> Result<Process> {
        let name = words.first().unwrap_or(&"");
        let mut command = self.node.command(&self.program)?;
        command.args(words).args(roots(&self.node, name));
        self.node.spawn(name, command)
    }

    /// `GET` in the node's namespace.
    fn http(&self, address: &str, path: &str) -> Result<(u16, String)> {
        let address = address.parse().context("an address of the agent")?;
        self.node.run(|| http::get(address, path))?
    }
}

/// Runs a verb of the agent on a node, whether or not an agent runs there.
pub fn verb(node: &Node, program: &Path, words: &[&str]) -> Result<Printed> {
    let mut command = node.command(program)?;
    command.args(words).args(roots(node, words.first().unwrap_or(&"")));
    let (code, stdout, stderr) = bounded_output(command, VERB_LIMIT)?;
    Ok(Printed { code, stdout, stderr })
}

/// A copy of the agent in `dir` whose kernel object differs: a byte that ELF reserves is set,
/// so that it is another build with programs that do the same.
pub fn other_build(dir: &Path, number: u8) -> Result<PathBuf> {
    let mut bytes = fs::read(binary("lb-agent", "LB_AGENT")?)?;
    let is_object = |head: &[u8]| {
        head.starts_with(b"\x7fELF\x02\x01\x01") && head.get(18..) == Some(&EM_BPF[..])
    };
    let starts = bytes.windows(20).enumerate().filter(|(_, head)| is_object(head));
    let objects: Vec<usize> = starts.map(|(at, _)| at).collect();
    ensure!(!objects.is_empty(), "the agent has no eBPF object");
    for object in objects {
        *bytes.get_mut(object + 15).context("an ELF header ends after its 16th byte")? = number;
    }
    let path = dir.join(format!("lb-agent-{number}"));
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The arguments that set the node's agent apart from its neighbours, as far as
/// the verb has them.
fn roots(node: &Node, verb: &str) -> Vec<OsString> {
    let bpf_root = ["--bpf-root".into(), node.bpf_root.clone().into_os_string()];
    let cgroup_root = ["--cgroup-root".into(), node.cgroup_root.clone().into_os_string()];
    match verb {
        "run" | "check" => bpf_root.into_iter().chain(cgroup_root).collect(),
        "show" | "explain" | "monitor" | "diff" | "unload" => bpf_root.into(),
        _ => Vec::new(),
    }
}

/// `e_machine` of an eBPF object.
const EM_BPF: [u8; 2] = [247, 0];
/// How long an agent may take to its first full apply.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long a verb may take.
const VERB_LIMIT: Duration = Duration::from_secs(20);
