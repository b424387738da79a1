// SPDX-License-Identifier: Apache-2.0 OR MIT
//! deploy/sluice.yaml says what the code does: its flags parse, what they name is mounted,
//! probes ask what the health server answers.

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;

use super::*;
use crate::{
    cli::{Cli, Verb},
    config::kube_proxy::HEALTHZ_PORT,
    datapath::probe::CAPABILITIES,
    observe::http::{LIVEZ, READYZ},
    run::state,
};

/// The object of a kind.
fn object(kind: &str) -> Value {
    let objects = DEPLOYMENT.split("\n---\n");
    let mut objects = objects.map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    objects.find(|object| object["kind"] == kind).unwrap()
}

/// The pod's spec, and its one container.
fn pod() -> (Value, Value) {
    let spec = object("DaemonSet")["spec"]["template"]["spec"].clone();
    let [container] = &spec["containers"].as_array().unwrap()[..] else { panic!("one container") };
    let container = container.clone();
    (spec, container)
}

/// The flags, by the parser that will read them.
fn args() -> Args {
    let (_, container) = pod();
    let words = container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    let words = words.map(|word| word.replace("SLUICE_API_HOST", "192.0.2.1"));
    match Cli::try_parse_from(["lb-agent".to_owned()].into_iter().chain(words)).unwrap().verb {
        Verb::Run(args) => *args,
        other => panic!("{other:?}"),
    }
}

/// The directory of the host that a path of the container is, and how mounts made there
/// reach the host.
fn mounted(path: &std::path::Path) -> (String, Option<String>) {
    let (spec, container) = pod();
    let mounts = container["volumeMounts"].as_array().unwrap().iter();
    let mount = mounts.filter(|mount| path.starts_with(mount["mountPath"].as_str().unwrap()));
    let mount = mount.max_by_key(|mount| mount["mountPath"].as_str().map(str::len));
    let mount = mount.unwrap_or_else(|| panic!("{} is not mounted", path.display()));
    let mut volumes = spec["volumes"].as_array().unwrap().iter();
    let volume = volumes.find(|volume| volume["name"] == mount["name"]).unwrap();
    let rest = path.strip_prefix(mount["mountPath"].as_str().unwrap()).unwrap();
    let host = PathBuf::from(volume["hostPath"]["path"].as_str().unwrap()).join(rest);
    let propagation = mount["mountPropagation"].as_str().map(str::to_owned);
    (host.to_str().unwrap().trim_end_matches('/').to_owned(), propagation)
}

#[test]
fn what_the_flags_name_is_the_hosts() {
    let args = args();
    let bpf_root = &args.roots.bpf_root;
    let (host, propagation) = mounted(bpf_root);
    assert_eq!(host, bpf_root.to_str().unwrap(), "`lb-agent show` on the host finds it");
    // A bpffs that the agent mounts must stay when its pod goes.
    assert_eq!(propagation.as_deref(), Some("Bidirectional"));
    let (host, _) = mounted(args.cgroup.cgroup_root.as_deref().unwrap());
    assert_eq!(host, "/sys/fs/cgroup");
    let state = state::directory(bpf_root);
    assert_eq!(mounted(&state).0, state.to_str().unwrap());
}

#[test]
fn syn_09_the_api_server_is_reached_by_an_address_of_its_own() {
    let args = args();
    assert!(args.kubeconfig.is_none() && args.manifests.is_none());
    assert!(args.master.is_some());
}

#[test]
fn what_the_environment_gives_is_read() {
    let (_, container) = pod();
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let read: Vec<_> = run.get_arguments().filter_map(|flag| flag.get_env()?.to_str()).collect();
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(read.contains(&name), "no flag reads {name}");
    }
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
}

#[test]
fn hlz_01_probes_ask_what_is_answered_where_it_is_answered() {
    let (spec, container) = pod();
    assert_eq!(spec["hostNetwork"], true, "the node's sockets, addresses and ports");
    let [port] = &container["ports"].as_array().unwrap()[..] else { panic!("one port") };
    assert_eq!(port["containerPort"], HEALTHZ_PORT);
    assert_eq!(port["hostPort"], HEALTHZ_PORT);
    for (probe, path) in [("livenessProbe", LIVEZ), ("readinessProbe", READYZ)] {
        let get = &container[probe]["httpGet"];
        assert_eq!((&get["path"], &get["port"]), (&path.into(), &port["name"]));
    }
}

#[test]
fn the_container_may_do_what_check_asks_for() {
    let security = pod().1["securityContext"].clone();
    let added = security["capabilities"]["add"].as_array().cloned().unwrap_or_default();
    for (capability, _) in CAPABILITIES {
        let short = Value::from(capability.trim_start_matches("CAP_"));
        assert!(security["privileged"] == true || added.contains(&short), "{capability}");
    }
}

#[test]
fn the_objects_name_each_other() {
    let (binding, role, account) =
        (object("ClusterRoleBinding"), object("ClusterRole"), object("ServiceAccount"));
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], account["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["namespace"], account["metadata"]["namespace"]);
    let (spec, container) = pod();
    assert_eq!(spec["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(object("DaemonSet")["metadata"]["namespace"], account["metadata"]["namespace"]);
    let image = concat!("sluice:", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], image);
}

const DEPLOYMENT: &str = include_str!("../../../../deploy/sluice.yaml");
