// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control plane's programs, built once from `tests/tools/go.mod`.
//!
//! A binary is looked for in `KUBEBUILDER_ASSETS`, then in `~/.cache/sluice/tools/<hash of go.mod and go.sum>/`, and is
//! built into that cache when it is nowhere. A rename puts a finished binary in
//! place, and a lock file a program keeps two builders from racing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use lb_agent::fnv::fnv1a;

/// One program of the control plane, or the baseline proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The store behind the API server.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager: the EndpointSlice controllers.
    ControllerManager,
    /// kube-proxy: the baseline of benchmarks, a second opinion in tests.
    KubeProxy,
    /// kubectl: what a person would type.
    Kubectl,
}

impl Tool {
    /// All of them, in the order in which they are built.
    pub const ALL: [Self; 5] =
        [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::KubeProxy, Self::Kubectl];

    /// The binary's file name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::KubeProxy => "kube-proxy",
            Self::Kubectl => "kubectl",
        }
    }

    /// The Go package it is built from, a `tool` line of `go.mod`.
    const fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::ApiServer => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::ControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
        }
    }

    /// Path of the binary; builds it when it is nowhere yet (minutes, said on
    /// stderr).
    ///
    /// # Errors
    /// When Go is missing, or the build fails or takes longer than 30 minutes.
    pub fn path(self) -> Result<PathBuf> {
        if let Some(found) = self.installed() {
            return Ok(found);
        }
        let cached = cache_dir()?.join(self.name());
        if !cached.exists() {
            self.build(&cached)?;
        }
        Ok(cached)
    }

    /// Whether the binary is there without a build.
    pub fn is_ready(self) -> bool {
        self.installed().is_some() || cache_dir().is_ok_and(|dir| dir.join(self.name()).exists())
    }

    /// A binary that somebody else installed.
    fn installed(self) -> Option<PathBuf> {
        let assets = PathBuf::from(env::var_os("KUBEBUILDER_ASSETS")?);
        Some(assets.join(self.name())).filter(|file| file.is_file())
    }

    /// Builds into a neighbour of `cached`, then renames.
    fn build(self, cached: &Path) -> Result<()> {
        let name = self.name();
        let dir = cached.parent().context("a cached tool has a directory")?;
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let lock = fs::File::create(dir.join(format!(".{name}.lock")))?;
        if lock.try_lock().is_err() {
            eprintln!("{name}: waiting for another build of it");
            lock.lock()?;
        }
        if cached.exists() {
            return Ok(());
        }
        eprintln!("{name}: building from tests/tools/go.mod (once; minutes on a cold cache)");
        let started = Instant::now();
        let partial = dir.join(format!(".{name}.partial"));
        let build = self.go_build(&partial)?;
        wait_for_build(name, build, started)?;
        fs::rename(&partial, cached)?;
        eprintln!("{name}: built in {} s", started.elapsed().as_secs());
        Ok(())
    }

    /// Starts `go build` with this machine's own Go, never a downloaded one.
    fn go_build(self, partial: &Path) -> Result<Child> {
        let version = kubernetes_version()?;
        Command::new("go")
            .args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"])
            .arg(format!("-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={version}"))
            .arg("-o")
            .arg(partial)
            .arg(self.package())
            .current_dir(module_dir())
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "")
            .env("CGO_ENABLED", "0")
            .stdin(Stdio::null())
            .spawn()
            .context("starting `go build`: install Go 1.26 or newer (apt-get install golang-go), or set KUBEBUILDER_ASSETS")
    }
}

/// Waits for a build, with a line of progress every 20 s.
fn wait_for_build(name: &str, mut build: Child, started: Instant) -> Result<()> {
    let mut next_line = PROGRESS;
    loop {
        if let Some(status) = build.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("go build of {name} failed ({status}); its messages are above");
        }
        if started.elapsed() > BUILD_LIMIT {
            build.kill()?;
            build.wait()?;
            bail!("go build of {name} took longer than {} min", BUILD_LIMIT.as_secs() / 60);
        }
        if started.elapsed() > next_line {
            eprintln!("{name}: still building, {} s", started.elapsed().as_secs());
            next_line += PROGRESS;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// `v1.x.y` of the `k8s.io/kubernetes` line: what the programs report.
fn kubernetes_version() -> Result<String> {
    let path = module_dir().join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    text.lines()
        .map(|line| line.trim().trim_start_matches("require "))
        .find_map(|line| line.strip_prefix("k8s.io/kubernetes v"))
        .and_then(|rest| rest.split_whitespace().next())
        .map(|version| format!("v{version}"))
        .with_context(|| format!("{} requires no k8s.io/kubernetes", path.display()))
}

/// `~/.cache/sluice/tools/<hash>`, where a changed pin lands somewhere new.
fn cache_dir() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .context("neither HOME nor XDG_CACHE_HOME is set: no place to keep built tools")?;
    let mut pins = Vec::new();
    for file in ["go.mod", "go.sum"] {
        let path = module_dir().join(file);
        pins.extend(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    Ok(cache.join("sluice/tools").join(format!("{:016x}", fnv1a(pins))))
}

/// Where `go.mod` is.
fn module_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools")
}

/// Longest time that one build may take.
const BUILD_LIMIT: Duration = Duration::from_mins(30);
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(20);
