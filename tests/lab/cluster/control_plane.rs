// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control plane's processes, with the flags that make them quick and
//! self-contained.
//!
//! Identity is a file of tokens; the certificate is the one that kube-apiserver
//! makes for itself, and its key signs service account tokens too.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::User;
use crate::{
    address,
    place::{Place, bounded_output},
    process::Process,
    tools::Tool,
    wait,
};

/// Writes tokens and kubeconfigs.
pub(super) fn write_files(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("pki")).with_context(|| format!("creating {}", dir.display()))?;
    let tokens = User::ALL.map(|user| {
        let name = user.name();
        format!("{},{name},{name},\"{}\"\n", token(user), user.group())
    });
    fs::write(dir.join("tokens.csv"), tokens.concat()).context("writing tokens.csv")?;
    for user in User::ALL {
        let path = kubeconfig(dir, user);
        let text = serde_json::to_vec_pretty(&kubeconfig_of(dir, user))?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Path of a user's kubeconfig.
pub(super) fn kubeconfig(dir: &Path, user: User) -> PathBuf {
    dir.join(format!("{}.kubeconfig", user.name()))
}

/// Starts etcd. It need not survive a power cut.
pub(super) fn etcd(control: &Place, dir: &Path) -> Result<Process> {
    let mut command = control.command(Tool::Etcd.path()?)?;
    command.arg("--data-dir").arg(dir.join("etcd")).args([
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
    ]);
    control.spawn("etcd", command)
}

/// Starts kube-apiserver on the fabric.
pub(super) fn api_server(control: &Place, dir: &Path) -> Result<Process> {
    let pki = dir.join("pki");
    let key = pki.join("apiserver.key");
    let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
    let mut command = control.command(Tool::ApiServer.path()?)?;
    command.args([
        file("cert-dir", &pki),
        file("token-auth-file", &dir.join("tokens.csv")),
        file("service-account-key-file", &key),
        file("service-account-signing-key-file", &key),
        format!("--advertise-address={}", control.v4),
        format!("--secure-port={PORT}"),
        format!("--service-cluster-ip-range={}", address::SERVICE_RANGES),
    ]);
    command.args([
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--allow-privileged=true",
        // Pods of the lab need no token volume.
        "--disable-admission-plugins=ServiceAccount",
        "--enable-priority-and-fairness=false",
        "--profiling=false",
        // Node ports that tests ask for collide with nothing on the machine.
        "--service-node-port-range=30000-32767",
    ]);
    control.spawn("kube-apiserver", command)
}

/// Starts kube-controller-manager with the controllers that Services, the pods
/// of workloads and namespaces need.
pub(super) fn controllers(control: &Place, dir: &Path) -> Result<Process> {
    let pki = dir.join("pki");
    let mut command = control.command(Tool::ControllerManager.path()?)?;
    command.arg("--kubeconfig").arg(kubeconfig(dir, User::Admin));
    command.arg("--service-account-private-key-file").arg(pki.join("apiserver.key"));
    command.arg("--root-ca-file").arg(pki.join("apiserver.crt"));
    command.arg(format!("--controllers={}", CONTROLLERS.join(",")));
    command.args([
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        "--concurrent-service-endpoint-syncs=10",
        "--profiling=false",
    ]);
    control.spawn("kube-controller-manager", command)
}

/// Waits until `/readyz` says ok.
pub(super) fn wait_ready(control: &Place, dir: &Path, process: &mut Process) -> Result<()> {
    let ready = wait::for_value(READY_LIMIT, "kube-apiserver to be ready", || {
        if !process.is_running() {
            return Ok(false);
        }
        let mut command = control.command(Tool::Kubectl.path()?)?;
        command.arg("--kubeconfig").arg(kubeconfig(dir, User::Admin));
        command.args(["--request-timeout=2s", "get", "--raw", "/readyz"]);
        match bounded_output(command, Duration::from_secs(5))? {
            (Some(0), _, _) => Ok(true),
            (_, _, stderr) => bail!("{}", stderr.trim()),
        }
    });
    match ready {
        Ok(true) => Ok(()),
        Ok(false) => bail!("kube-apiserver ended; {}", process.log_tail()),
        Err(error) => Err(error.context(process.log_tail())),
    }
}

/// A kubeconfig; JSON is YAML.
fn kubeconfig_of(dir: &Path, user: User) -> serde_json::Value {
    let server = format!("https://{}:{PORT}", address::CONTROL.0);
    let authority = dir.join("pki/apiserver.crt");
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "lab",
            "cluster": { "server": server, "certificate-authority": authority },
        }],
        "users": [{ "name": user.name(), "user": { "token": token(user) } }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": user.name() } }],
        "current-context": "lab",
    })
}

/// What proves who one is: the lab is nobody's secret.
fn token(user: User) -> String {
    format!("lab-token-of-{}", user.name())
}

/// The API server's port on the fabric.
const PORT: u16 = 6443;
/// How long the API server may take: two seconds are usual.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// Controllers that run.
const CONTROLLERS: &[&str] = &[
    "daemonset-controller",
    "deployment-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "service-cidr-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
];
