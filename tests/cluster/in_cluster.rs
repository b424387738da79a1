// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent as a pod of the cluster: a service account, and two ways to the API server.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use lab::{
    agent::{Agent, AgentSpec, Source},
    cluster::User,
    need_lab,
    place::binary,
    wire::{AskSpec, Family},
};
use serde_json::Value;

use crate::fixture::{Watched, await_alive, await_log, service, vip};

/// SYN-09: a given address needs no Service; the one in the environment works once somebody
/// serves it, which may be ourselves (CIP-07).
#[test]
fn syn_09_the_way_to_the_api_server_does_not_lead_through_ourselves() {
    need_lab!();
    let mut watched = Watched::start().unwrap();
    watched.apply(&service("web", 50, "app: web", ""));
    watched.await_inside(&vip(Family::V4, 50), 4);
    let node = watched.lab.node("node-1").unwrap().clone();
    let agent = &mut watched.agents[0];
    agent.stop().unwrap();
    assert_eq!(agent.verb(&["unload"]).unwrap().code, Some(0));
    let spec = AgentSpec {
        source: Source::InCluster,
        program: Some(as_a_pod(&watched)),
        args: Vec::new(),
        env: [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
    };

    let mut agent = Agent::spawn(&node, &spec).unwrap();
    await_log(&agent, "give --master");
    await_log(&agent, "cannot watch services");
    await_alive(&agent);
    assert_eq!(agent.readyz().unwrap().0, 503, "nobody serves 10.96.0.1");
    agent.stop().unwrap();

    let direct = spec.clone().arg("--master").arg("https://192.168.50.2:6443");
    let mut agent = Agent::start(&node, &direct).unwrap();
    let driver = watched.lab.pod("pod-1-1").unwrap().driver().unwrap();
    driver.ask(AskSpec::tcp(vip(Family::V4, 50))).unwrap();
    agent.kill().unwrap();

    // Now that address is served, also for the agent itself.
    let mut agent = Agent::start(&node, &spec).unwrap();
    agent.stop().unwrap();

    // A kubeconfig whose server is that address: the flag goes before it.
    let sound = fs::read(watched.cluster.kubeconfig(User::Agent)).unwrap();
    let mut file: Value = serde_json::from_slice(&sound).unwrap();
    *file.pointer_mut("/clusters/0/cluster/server").unwrap() = "https://192.168.50.2:1".into();
    let path = watched.lab.dir().join("elsewhere");
    fs::write(&path, file.to_string()).unwrap();
    let spec = AgentSpec::kubeconfig(&path).arg("--master").arg("https://192.168.50.2:6443");
    let mut agent = Agent::spawn(&node, &spec).unwrap();
    agent.wait_ready(Duration::from_secs(20)).unwrap();
}

/// A program that is the agent with a service account where a pod has it.
fn as_a_pod(watched: &Watched) -> PathBuf {
    let agent = binary("lb-agent", "LB_AGENT").unwrap();
    let kubeconfig = fs::read(watched.cluster.kubeconfig(User::Agent)).unwrap();
    let kubeconfig: Value = serde_json::from_slice(&kubeconfig).unwrap();
    let account = watched.lab.dir().join("account");
    fs::create_dir(&account).unwrap();
    fs::write(account.join("namespace"), "kube-system").unwrap();
    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
    fs::write(account.join("token"), token).unwrap();
    let authority = kubeconfig["clusters"][0]["cluster"]["certificate-authority"].as_str();
    fs::copy(authority.unwrap(), account.join("ca.crt")).unwrap();
    let script = watched.lab.dir().join("pod-agent");
    let text = POD
        .replace("ACCOUNT", &account.to_string_lossy())
        .replace("AGENT", &agent.to_string_lossy());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// Becomes the agent, in a mount namespace of its own for `run`.
const POD: &str = r#"#!/bin/sh
set -e
[ "$1" = run ] || exec AGENT "$@"
exec unshare --mount --propagation private sh -e -c '
  mount -n -t tmpfs tmpfs /mnt
  mkdir -p /mnt/secrets/kubernetes.io
  cp -r ACCOUNT /mnt/secrets/kubernetes.io/serviceaccount
  mount -n --move /mnt /var/run
  exec AGENT "$@"
' sh "$@"
"#;
