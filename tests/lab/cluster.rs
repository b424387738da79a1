// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A real control plane for a lab: etcd, kube-apiserver, kube-controller-manager.
//!
//! ```text
//! Cluster ── objects ──> kube-apiserver ──> controllers make EndpointSlices
//!    └─ as kubelet: Nodes, Pods bound to nodes, their status   └─> agents, kubectl
//! ```
//!
//! It runs in the lab's `control` place, where nodes and pods reach it. There is
//! no scheduler and no kubelet: [`Cluster`] itself tells the API server where
//! pods run and how they are, since their processes are the lab's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::{
    Lab,
    place::{Place, bounded_output},
    process::Process,
    tools::Tool,
};

mod api;
mod control_plane;
mod kubelet;
mod rights;

pub use api::{Api, Object};
pub use rights::role as agent_role;

/// Who asks the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// May do everything.
    Admin,
    /// The user `lb-agent`: may do nothing until a binding names it.
    Agent,
}

/// A control plane that runs. Dropping it stops it.
#[derive(Debug)]
pub struct Cluster {
    control: Place,
    dir: PathBuf,
    api: Api,
    api_server: Option<Process>,
    controllers: Process,
    etcd: Process,
}

/// An API server that hangs. Dropping it lets the server go on.
#[derive(Debug)]
pub struct Hung<'a>(&'a Process);

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        // One that was killed meanwhile needs no waking.
        drop(self.0.signal(Signal::SIGCONT));
    }
}

impl User {
    /// Both.
    const ALL: [Self; 2] = [Self::Admin, Self::Agent];

    /// Its name, also its token's.
    const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Agent => "lb-agent",
        }
    }

    /// The group that gives it its rights.
    const fn group(self) -> &'static str {
        match self {
            Self::Admin => "system:masters",
            Self::Agent => "",
        }
    }
}

impl Cluster {
    /// Starts the control plane in the lab and registers its nodes. The
    /// programs are built first where they are missing (minutes, once).
    ///
    /// # Errors
    /// When a program cannot be built, or the API server is not ready within
    /// 60 s; the message has the end of its log.
    pub fn start(lab: &Lab) -> Result<Self> {
        for tool in [Tool::Etcd, Tool::ApiServer, Tool::ControllerManager, Tool::Kubectl] {
            tool.path()?;
        }
        let control = lab.control().clone();
        let dir = lab.dir().join("control");
        control_plane::write_files(&dir)?;
        let etcd = control_plane::etcd(&control, &dir)?;
        let mut api_server = control_plane::api_server(&control, &dir)?;
        control_plane::wait_ready(&control, &dir, &mut api_server)?;
        // After the API server has made its certificate, which they trust.
        let controllers = control_plane::controllers(&control, &dir)?;
        let api = Api::connect(&control, &control_plane::kubeconfig(&dir, User::Admin))?;
        let cluster = Self { control, dir, api, api_server: Some(api_server), controllers, etcd };
        lab.nodes().iter().try_for_each(|node| cluster.register(node))?;
        Ok(cluster)
    }

    /// Typed objects of the API server.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// A kubeconfig file; it works from every place of the lab.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        control_plane::kubeconfig(&self.dir, user)
    }

    /// Runs kubectl as admin; gives its output.
    ///
    /// # Errors
    /// When it fails; the message holds its error output.
    pub fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut command = self.kubectl_command()?;
        command.args(args);
        let (code, stdout, stderr) = bounded_output(command, KUBECTL_LIMIT)?;
        ensure!(code == Some(0), "kubectl ended with {code:?}: {stderr}{stdout}");
        Ok(stdout)
    }

    /// `kubectl apply` of a YAML text.
    pub fn kubectl_apply(&self, yaml: &str) -> Result<String> {
        let file = self.dir.join("apply.yaml");
        fs::write(&file, yaml).with_context(|| format!("writing {}", file.display()))?;
        self.kubectl(["apply", "-f", &file.to_string_lossy()])
    }

    /// A kubectl command that will run in the control place as admin.
    pub fn kubectl_command(&self) -> Result<Command> {
        let mut command = self.control.command(Tool::Kubectl.path()?)?;
        command.arg("--kubeconfig").arg(self.kubeconfig(User::Admin));
        // Its cache of what the API server offers stays in the lab.
        command.arg("--cache-dir").arg(self.dir.join("kubectl"));
        Ok(command)
    }

    /// Kills the API server: watches break, nobody answers.
    pub fn stop_api_server(&mut self) -> Result<()> {
        self.api_server.take().map_or(Ok(()), |mut process| process.kill().map(drop))
    }

    /// Starts it again on the same store and waits until it is ready.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.stop_api_server()?;
        let mut process = control_plane::api_server(&self.control, &self.dir)?;
        control_plane::wait_ready(&self.control, &self.dir, &mut process)?;
        self.api_server = Some(process);
        Ok(())
    }

    /// Has the API server hang until the guard is dropped, also by a panic: its process does
    /// nothing, its kernel still answers for it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hang_api_server(&self) -> Result<Hung<'_>> {
        let process = self.api_server.as_ref().context("the API server does not run")?;
        process.signal(Signal::SIGSTOP)?;
        Ok(Hung(process))
    }

    /// Directory of certificates, kubeconfigs and the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The ends of all logs, for a test that failed.
    pub fn logs(&self) -> String {
        let api_server = self.api_server.as_ref().map(Process::log_tail).unwrap_or_default();
        [api_server, self.controllers.log_tail(), self.etcd.log_tail()].join("\n")
    }
}

/// How long one kubectl command may take.
const KUBECTL_LIMIT: Duration = Duration::from_mins(1);
