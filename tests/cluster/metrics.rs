// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The metrics page beside that of the real kube-proxy.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Service;
use lab::{
    Lab,
    agent::{Agent, AgentSpec},
    cluster::{Cluster, User},
    http,
    kube_proxy::{KubeProxy, ProxyMode},
    need_lab,
    node::Node,
    objects::{self, Port},
    wait,
};
use serde_json::Value;

/// What a page says of a metric: its type, and its bounds if it is a histogram.
type Page = BTreeMap<String, (String, Vec<String>)>;

/// MET-01 to MET-10 and MET-12 have the names, types and bounds of kube-proxy's nftables
/// mode; what only one of the two has is explained here.
#[test]
fn names_types_and_bounds_are_those_of_kube_proxy() {
    need_lab!();
    let lab = Lab::start().unwrap();
    let cluster = Cluster::start(&lab).unwrap();
    let pods = lab.pods();
    for pod in &pods {
        cluster.run_pod(pod, &[("app", "web")]).unwrap();
    }
    let admin = cluster.kubeconfig(User::Admin);
    let [theirs, ours] = lab.nodes() else { panic!("the lab has two nodes") };
    let limit = Duration::from_secs(30);
    let _proxy = KubeProxy::start(theirs, &admin, ProxyMode::Nftables, limit).unwrap();
    let agent = Agent::start(ours, &AgentSpec::kubeconfig(&admin)).unwrap();
    cluster.api().apply(&web()).unwrap();
    // Series of theirs appear when they are first observed, and so does the trigger's.
    for (node, port) in [(theirs, 10256), (ours, 10256)] {
        for path in ["/healthz", "/livez"] {
            get(node, port, path);
        }
    }
    // A trigger has whole seconds: one in the second of the start counts as before it.
    let mut ready = true;
    let (have, want) = wait::for_value(limit, "both pages to be complete", || {
        ready = !ready;
        cluster.set_ready(&pods[0], ready)?;
        let (have, want) = (page(&metrics(ours)), page(&metrics(theirs)));
        let programmed = agent
            .metric("kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"}")?;
        anyhow::ensure!(programmed > 0.0, "no slice was timed");
        let timed = want.get("kubeproxy_network_programming_duration_seconds");
        anyhow::ensure!(timed.is_some_and(|(_, bounds)| !bounds.is_empty()), "nor by kube-proxy");
        Ok((have, want))
    })
    .unwrap();

    let only_theirs: Vec<_> = want.keys().filter(|name| !have.contains_key(*name)).collect();
    let only_ours: Vec<_> = have.keys().filter(|name| !want.contains_key(*name)).collect();
    println!(
        "{} of kube-proxy's metrics; only there {only_theirs:?}; only here {only_ours:?}",
        want.len()
    );
    assert_eq!(only_theirs, ONLY_THEIRS);
    for name in only_ours {
        assert!(LATER.iter().any(|(later, _)| later == name), "kube-proxy never has {name}");
    }
    for (name, (kind, bounds)) in &want {
        let Some(ours) = have.get(name) else { continue };
        assert_eq!(&ours.0, kind, "{name}");
        assert!(bounds.is_empty() || &ours.1 == bounds, "{name}: {bounds:?} and {:?}", ours.1);
    }
}

/// `/proxyMode`, `/healthz`, `/metrics/slis` and `/configz` answer as kube-proxy's do; CFG-04:
/// the defaults are the same.
#[test]
fn the_other_pages_of_the_metrics_address_are_those_of_kube_proxy() {
    need_lab!();
    let lab = Lab::builder().pods(1).start().unwrap();
    let cluster = Cluster::start(&lab).unwrap();
    let admin = cluster.kubeconfig(User::Admin);
    let [theirs, ours] = lab.nodes() else { panic!("the lab has two nodes") };
    let limit = Duration::from_secs(30);
    let _proxy = KubeProxy::start(theirs, &admin, ProxyMode::Nftables, limit).unwrap();
    let _agent = Agent::start(ours, &AgentSpec::kubeconfig(&admin)).unwrap();
    for path in ["/proxyMode", "/healthz"] {
        assert_eq!(get(ours, 10249, path), get(theirs, 10249, path), "{path}");
    }
    let slis = "/metrics/slis";
    let names = |node| page(&get(node, 10249, slis).1).into_keys().collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs));
    let configz =
        |node| -> Value { serde_json::from_str(&get(node, 10249, "/configz").1).unwrap() };
    let (have, want) = (leaves("", &configz(ours)), leaves("", &configz(theirs)));
    let differ: Vec<_> = want
        .iter()
        .filter(|(path, value)| have.get(*path) != Some(value))
        .map(|(path, value)| (path.as_str(), value.clone(), have.get(path).cloned()))
        .filter(|(path, ..)| !CONFIGURED.iter().any(|(name, _)| path.ends_with(name)))
        .collect();
    println!("{} settings, {} differ", want.len(), differ.len());
    assert_eq!(differ, [], "path, kube-proxy's value, ours");
}

/// Scalars and lists by their path.
fn leaves(path: &str, value: &Value) -> BTreeMap<String, Value> {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().flat_map(|(key, value)| leaves(&format!("{path}.{key}"), value)).collect()
        }
        leaf => [(path.to_owned(), leaf.clone())].into(),
    }
}

/// Settings that the two agents of the test do not share, and why.
const CONFIGURED: [(&str, &str); 10] = [
    (".clientConnection.kubeconfig", "a flag of the test, which here goes before the settings"),
    (".clusterCIDR", "a flag of the test"),
    (".conntrack.maxPerCore", "a flag of the test"),
    (".conntrack.tcpCloseWaitTimeout", "a flag of the test"),
    (".conntrack.tcpEstablishedTimeout", "a flag of the test"),
    (".detectLocalMode", "kube-proxy fills in its default; it has no meaning here"),
    (".hostnameOverride", "a flag of the test"),
    (".iptables.minSyncPeriod", "kube-proxy shows the section of its own mode alone"),
    (".iptables.syncPeriod", "kube-proxy shows the section of its own mode alone"),
    (".ipvs.syncPeriod", "kube-proxy shows the section of its own mode alone"),
];

/// A dual-stack Service of all pods.
fn web() -> Service {
    let mut service = objects::service("web", &[], &Port::both(80, 8080));
    let spec = service.spec.as_mut().unwrap();
    spec.selector = Some([("app".to_owned(), "web".to_owned())].into());
    spec.ip_family_policy = Some("RequireDualStack".to_owned());
    spec.ip_families = None;
    service
}

/// `GET` on a node's own loopback.
fn get(node: &Node, port: u16, path: &str) -> (u16, String) {
    node.run(|| http::get(([127, 0, 0, 1], port).into(), path)).unwrap().unwrap()
}

/// A node's metrics of kube-proxy.
fn metrics(node: &Node) -> String {
    let page = get(node, 10249, "/metrics").1;
    let ours = |line: &&str| {
        line.starts_with("kubeproxy_")
            || line.split(' ').nth(2).is_some_and(|name| name.starts_with("kubeproxy_"))
    };
    page.lines().filter(ours).collect::<Vec<_>>().join("\n")
}

/// Types and bounds by name.
fn page(text: &str) -> Page {
    let mut page = Page::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            let (known, _) = page.entry(name.to_owned()).or_default();
            kind.clone_into(known);
        } else if let Some((name, rest)) = line.split_once("_bucket{") {
            let bound = rest.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            let bounds = &mut page.entry(name.to_owned()).or_default().1;
            if !bounds.iter().any(|known| known == bound) {
                bounds.push(bound.to_owned());
            }
        }
    }
    page
}

/// Nothing is missing that the nftables mode has.
const ONLY_THEIRS: [&str; 0] = [];
/// What kube-proxy shows only once it happened and we show from the start, at 0.
const LATER: [(&str, &str); 5] = [
    ("kubeproxy_sync_partial_proxy_rules_duration_seconds", "its second sync"),
    ("kubeproxy_conntrack_reconciler_sync_duration_seconds", "a change of a UDP endpoint"),
    ("kubeproxy_conntrack_reconciler_deleted_entries_total", "a stale UDP flow"),
    ("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "a failure"),
    ("kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total", "a failure"),
];
