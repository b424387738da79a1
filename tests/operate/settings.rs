// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The operator's kube-proxy settings, in a file and as flags (CFG, CT-10).

use std::{fs, path::PathBuf, time::Duration};

use lab::{
    Lab,
    agent::{Agent, AgentSpec, Printed, verb},
    manifests::Manifests,
    need_lab,
    node::Node,
    place,
};

/// A lab of one node, its manifests, and a file of settings.
struct Bed {
    lab: Lab,
    spec: AgentSpec,
    file: PathBuf,
}

impl Bed {
    fn start(settings: &str) -> Self {
        let lab = Lab::builder().nodes(1).pods(1).start().unwrap();
        let manifests = Manifests::of(&lab).unwrap();
        let bed = Self {
            spec: AgentSpec::manifests(manifests.dir()),
            file: lab.dir().join("kube-proxy.yaml"),
            lab,
        };
        bed.write(settings);
        bed
    }

    fn write(&self, settings: &str) {
        let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
        fs::write(&self.file, format!("{head}{settings}")).unwrap();
    }

    fn node(&self) -> &Node {
        self.lab.node("node-1").unwrap()
    }

    /// An agent that takes its settings from the file.
    fn spec(&self) -> AgentSpec {
        self.spec.clone().arg("--config").arg(&self.file)
    }

    fn check(&self) -> Printed {
        let program = place::binary("lb-agent", "LB_AGENT").unwrap();
        let file = self.file.to_str().unwrap();
        verb(self.node(), &program, &["check", "--config", file]).unwrap()
    }

    /// A conntrack sysctl of the node.
    fn conntrack(&self, name: &str) -> u64 {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        let text = self.node().run(|| fs::read_to_string(path)).unwrap().unwrap();
        text.trim().parse().unwrap()
    }

    fn set_conntrack(&self, name: &str, value: u64) {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        self.node().run(|| fs::write(path, value.to_string())).unwrap().unwrap();
    }
}

/// CFG-01: what becomes of each line is told, by `check --config` and by the agent's log; a
/// change of the file ends the agent with exit code 1.
#[test]
fn cfg_01_a_file_is_followed_line_by_line_and_a_change_of_it_ends_the_agent() {
    need_lab!();
    let bed = Bed::start(
        "mode: nftables\nmetricsBindAddress: 127.0.0.1:10259\nipvs:\n  strictARP: true\n\
         hostnameOverride: node-1\n",
    );
    let told = bed.check();
    assert_eq!(told.code, Some(0), "{told:?}");
    for line in ["4     metricsBindAddress", "6     ipvs.strictARP"] {
        assert!(told.stdout.contains(line), "{}", told.stdout);
    }
    let spec = bed.spec().arg("--metrics-bind-address=127.0.0.1:1").arg("--masquerade-all");
    let mut agent = Agent::start(bed.node(), &spec).unwrap();
    let get = |path| {
        let address = ([127, 0, 0, 1], 10259).into();
        bed.node().run(|| lab::http::get(address, path)).unwrap().unwrap().1
    };
    assert_eq!(get("/proxyMode"), "nftables");
    let configz: serde_json::Value = serde_json::from_str(&get("/configz")).unwrap();
    let configz = &configz["kubeproxy.config.k8s.io"];
    assert_eq!(configz["metricsBindAddress"], "127.0.0.1:10259");
    assert_eq!(
        (&configz["ipvs"]["strictARP"], &configz["mode"]),
        (&true.into(), &"nftables".into())
    );
    let log = agent.log();
    for part in ["ipvs.strictARP", "no meaning", "metrics-bind-address", "masquerade-all"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    bed.write("mode: iptables\n");
    let status = agent.process().wait(Duration::from_secs(20)).unwrap();
    assert_eq!(status.code(), Some(1), "{}", agent.log());
    assert!(agent.log().contains("has changed"), "{}", agent.log());
}

#[test]
fn what_would_change_behaviour_is_refused_unless_it_is_accepted() {
    need_lab!();
    let bed = Bed::start("nftables:\n  masqueradeAll: true\n");
    let told = bed.check();
    assert_eq!(told.code, Some(3), "{told:?}");
    assert!(told.stdout.contains("differs"), "{}", told.stdout);
    let mut agent = Agent::spawn(bed.node(), &bed.spec()).unwrap();
    let status = agent.process().wait(Duration::from_secs(20)).unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(agent.log().contains("line 4: nftables.masqueradeAll true"), "{}", agent.log());
    drop(Agent::start(bed.node(), &bed.spec().arg("--accept-differences")).unwrap());
    bed.write("masqueradeAll: true\n");
    let told = bed.check();
    assert_eq!(told.code, Some(2), "{told:?}");
    assert!(told.stderr.contains("kube-proxy.yaml:3: masqueradeAll: there is no"), "{told:?}");
}

/// CT-10: for real, in the node's own namespace; CFG-07: `--init-only` does it and ends.
#[test]
fn ct_10_conntrack_is_set_at_start_and_by_init_only() {
    need_lab!();
    let bed = Bed::start("conntrack:\n  udpTimeout: 33s\n  tcpBeLiberal: true\n");
    if !fs::exists("/proc/sys/net/netfilter/nf_conntrack_max").unwrap() {
        println!("SKIP this machine has no conntrack");
        return;
    }
    let stream = bed.conntrack("udp_timeout_stream");
    bed.set_conntrack("tcp_timeout_close_wait", 61);
    drop(Agent::start(bed.node(), &bed.spec()).unwrap());
    assert_eq!(bed.conntrack("tcp_timeout_close_wait"), 3600);
    assert_eq!(bed.conntrack("tcp_timeout_established"), 86_400);
    assert_eq!((bed.conntrack("udp_timeout"), bed.conntrack("tcp_be_liberal")), (33, 1));
    assert_eq!(bed.conntrack("udp_timeout_stream"), stream, "0 leaves it");

    bed.set_conntrack("tcp_timeout_close_wait", 61);
    let init = bed.spec.clone().arg("--init-only").arg("--conntrack-tcp-timeout-close-wait=90s");
    let init = init.arg("--conntrack-tcp-timeout-established=0");
    bed.set_conntrack("tcp_timeout_established", 62);
    let mut agent = Agent::spawn(bed.node(), &init).unwrap();
    assert!(agent.process().wait(Duration::from_secs(20)).unwrap().success(), "{}", agent.log());
    assert_eq!(bed.conntrack("tcp_timeout_close_wait"), 90);
    assert_eq!(bed.conntrack("tcp_timeout_established"), 62);
}

/// `--cleanup` is `unload`, `--write-config-to` gives a file that is read back.
#[test]
fn cfg_03_the_flags_that_end_the_agent_do_their_work_first() {
    need_lab!();
    let bed = Bed::start("");
    drop(Agent::start(bed.node(), &bed.spec).unwrap());
    assert!(bed.node().bpf_root.exists());
    for args in [vec!["--write-config-to", bed.file.to_str().unwrap()], vec!["--cleanup"]] {
        let spec = args.iter().fold(bed.spec.clone(), AgentSpec::arg);
        let mut agent = Agent::spawn(bed.node(), &spec).unwrap();
        let status = agent.process().wait(Duration::from_secs(20)).unwrap();
        assert!(status.success(), "{args:?}: {}", agent.log());
    }
    assert!(!bed.node().bpf_root.join("v1").exists());
    let told = bed.check();
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.stdout.contains("conntrack.maxPerCore"), "{}", told.stdout);
}
