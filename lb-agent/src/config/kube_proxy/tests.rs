// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files and flags as operators have them.

use std::{fmt::Write as _, net::IpAddr};

use super::*;
use crate::{config::BindAddress, source::addresses::AddressChoice};

fn parse(text: &str) -> Result<Settings, Error> {
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    Settings::parse(&format!("{head}{text}"), Path::new("config.yaml"))
}

fn settings(text: &str) -> Settings {
    parse(text).unwrap()
}

fn told(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// A document with one field set, from line 3 on, one line a section.
fn document(path: &str, value: &Value) -> (String, u64) {
    let mut text = String::new();
    let mut line = 2;
    for (depth, part) in path.split('.').enumerate() {
        line += 1;
        let end = if path.ends_with(part) { " " } else { "\n" };
        write!(text, "{}{part}:{end}", "  ".repeat(depth)).unwrap();
    }
    (format!("{text}{value}\n"), line)
}

/// A value of a kind that is not what kube-proxy takes without it, and one that is none.
fn samples(kind: Kind) -> Option<(Value, Value)> {
    let (good, bad) = match kind {
        Kind::Version | Kind::Name => return None,
        Kind::Text => (Value::from("x"), Value::from(7)),
        Kind::Texts => (vec!["192.0.2.0/24"].into(), Value::from("x")),
        Kind::Bool => (true.into(), "yes".into()),
        Kind::Count => (7.into(), (-7).into()),
        Kind::Bit => (7.into(), 32.into()),
        Kind::Score => (7.into(), 1001.into()),
        Kind::Float => (7.5.into(), "x".into()),
        Kind::Duration | Kind::Flush => ("7s".into(), "7".into()),
        Kind::Gates => (Value::from_iter([("Gate".to_owned(), true)]), vec!["Gate"].into()),
        Kind::Address => ("192.0.2.7".into(), "x".into()),
        Kind::Healthz | Kind::Metrics => ("192.0.2.7:7".into(), "x".into()),
        Kind::Mode => ("nftables".into(), "userspace".into()),
        Kind::Format => ("json".into(), "xml".into()),
        Kind::Local => ("NodeCIDR".into(), "Node".into()),
        Kind::Cidrs => ("10.244.0.0/16,fd00::/64".into(), "10.244.0.0".into()),
        Kind::Places => (vec!["192.0.2.0/24"].into(), vec!["primary", "::/0"].into()),
        Kind::Any => ("7".into(), Value::Null),
    };
    Some((good, bad))
}

/// Every field of the type: alone in a file it is understood, and its line is told; a value
/// of another kind is refused with field and line.
#[test]
fn cfg_01_every_field_is_understood_and_nonsense_is_refused_with_its_line() {
    for field in fields() {
        let Some((good, bad)) = samples(field.kind) else { continue };
        let (text, line) = document(field.path, &good);
        let remarks = settings(&text).remarks();
        let remark = remarks.iter().find(|remark| remark.field.path == field.path).unwrap();
        assert_eq!((remark.place, &remark.value), (Place::Line(line), &good), "{text}");
        assert_eq!(remarks.len(), 3, "{text}");
        let fate = match &field.here {
            Here::Honoured => Fate::Honoured,
            Here::Void => Fate::Void,
            Here::Same(_) if field.path == "mode" => Fate::Honoured,
            Here::Same(_) => Fate::Differs,
        };
        assert_eq!(remark.fate, fate, "{}", field.path);
        assert!(!field.why.is_empty(), "{}", field.path);
        if !bad.is_null() {
            let (text, line) = document(field.path, &bad);
            let told = told(&text);
            let start = format!("config.yaml:{line}: {}: ", field.path);
            assert!(told.starts_with(&start), "{told}");
        }
    }
}

#[test]
fn what_there_is_not_is_named_with_its_line_and_all_of_it_at_once() {
    let told = told("mode: nftables\nproxyMode: ipvs\nconntrack:\n  max: 7\niptables: 7\n");
    assert_eq!(
        told,
        "config.yaml:4: proxyMode: there is no such field in a KubeProxyConfiguration\n\
         config.yaml:6: conntrack.max: there is no such field in a KubeProxyConfiguration\n\
         config.yaml:7: iptables: there is no such field in a KubeProxyConfiguration"
    );
    let parse = |text| Settings::parse(text, Path::new("f")).unwrap_err().to_string();
    assert!(parse("mode: ''\n").contains("apiVersion is missing"));
    assert!(parse("kind: Service\napiVersion: v1\n").contains("f:1: kind: \"Service\" is not"));
    assert!(parse("mode: [\n").starts_with("f:"), "{}", parse("mode: [\n"));
    assert!(
        parse("mode: ''\nmode: ipvs\n").contains("f:2: "),
        "{}",
        parse("mode: ''\nmode: ipvs\n")
    );
}

/// As kubeadm writes it: nothing of it is refused.
#[test]
fn kubeadms_file_is_taken() {
    let settings = settings(
        "bindAddress: 0.0.0.0\nbindAddressHardFail: false\nclientConnection:\n  \
         acceptContentTypes: \"\"\n  burst: 0\n  contentType: \"\"\n  kubeconfig: \
         /var/lib/kube-proxy/kubeconfig.conf\n  qps: 0\nclusterCIDR: 10.244.0.0/16\n\
         configSyncPeriod: 0s\nconntrack:\n  maxPerCore: null\n  min: null\n  \
         tcpBeLiberal: false\n  tcpCloseWaitTimeout: null\n  tcpEstablishedTimeout: null\n  \
         udpStreamTimeout: 0s\n  udpTimeout: 0s\ndetectLocal:\n  bridgeInterface: \"\"\n  \
         interfaceNamePrefix: \"\"\ndetectLocalMode: \"\"\nenableProfiling: false\n\
         healthzBindAddress: \"\"\nhostnameOverride: \"\"\niptables:\n  localhostNodePorts: null\n  \
         masqueradeAll: false\n  masqueradeBit: null\n  minSyncPeriod: 0s\n  syncPeriod: 0s\n\
         ipvs:\n  excludeCIDRs: null\n  minSyncPeriod: 0s\n  scheduler: \"\"\n  strictARP: false\n  \
         syncPeriod: 0s\n  tcpFinTimeout: 0s\n  tcpTimeout: 0s\n  udpTimeout: 0s\nlogging:\n  \
         flushFrequency: 0\n  options:\n    json:\n      infoBufferSize: \"0\"\n    text:\n      \
         infoBufferSize: \"0\"\n  verbosity: 0\nmetricsBindAddress: \"\"\nmode: \"\"\nnftables:\n  \
         masqueradeAll: false\n  masqueradeBit: null\n  minSyncPeriod: 0s\n  syncPeriod: 0s\n\
         nodePortAddresses: null\noomScoreAdj: null\nportRange: \"\"\n\
         showHiddenMetricsForVersion: \"\"\nwinkernel:\n  enableDSR: false\n  \
         forwardHealthCheckVip: false\n  networkName: \"\"\n  rootHnsEndpointName: \"\"\n  \
         sourceVip: \"\"\n",
    );
    settings.refuse_differences().unwrap();
    let effective = settings.effective();
    assert_eq!(effective.kubeconfig.unwrap(), Path::new("/var/lib/kube-proxy/kubeconfig.conf"));
    assert_eq!(effective.node_ports.choice, AddressChoice::All);
    assert_eq!(effective.binds.healthz.0.unwrap().port(), 10256);
}

#[test]
fn what_asks_for_another_behaviour_is_refused_and_named() {
    for (text, parts) in [
        ("mode: ipvs\n", "line 3: mode \"ipvs\""),
        ("iptables: {masqueradeAll: true}\n", "line 3: iptables.masqueradeAll true"),
        ("nftables:\n  masqueradeAll: true\n", "line 4: nftables.masqueradeAll true"),
        ("ipvs: {scheduler: lc}\n", "line 3: ipvs.scheduler \"lc\""),
    ] {
        let told = settings(text).refuse_differences().unwrap_err().to_string();
        assert!(told.contains(parts) && told.contains("--accept-differences"), "{told}");
    }
    for text in ["mode: iptables\n", "mode: nftables\n", "ipvs: {scheduler: rr}\n"] {
        settings(text).refuse_differences().unwrap();
    }
}

#[test]
fn cfg_04_defaults_are_kube_proxys() {
    let effective = settings("").effective();
    let bind = |bind: BindAddress| bind.0.unwrap().to_string();
    assert_eq!(bind(effective.binds.healthz), "0.0.0.0:10256");
    assert_eq!(bind(effective.binds.metrics), "127.0.0.1:10249");
    assert_eq!((effective.oom_score_adj, effective.binds.hard_fail), (-999, false));
    assert_eq!(effective.conntrack.max_per_core, 32 * 1024);
    // HLZ-01: of the family of bindAddress; a port that is missing is added.
    let text = "bindAddress: '::'\nmetricsBindAddress: 192.0.2.1\n";
    let effective = settings(text).effective();
    assert_eq!(bind(effective.binds.healthz), "[::]:10256");
    assert_eq!(bind(effective.binds.metrics), "192.0.2.1:10249");
    let configz = settings("").configz(&settings("").effective());
    let of = |path: &str| configz["kubeproxy.config.k8s.io"].pointer(path).unwrap().clone();
    assert_eq!(of("/iptables/syncPeriod"), "30s");
    assert_eq!(of("/configSyncPeriod"), "15m0s");
    assert_eq!((of("/clientConnection/qps"), of("/clientConnection/burst")), (5.into(), 10.into()));
}

/// HLZ-03: the period of the mode that is followed; 0 is what kubeadm writes for the default.
#[test]
fn hlz_03_the_sync_period_is_that_of_the_mode() {
    let each = "iptables: {syncPeriod: 10s}\nnftables: {syncPeriod: 20s}\n\
        ipvs: {syncPeriod: 1m}\n";
    for (mode, secs) in [("''", 10), ("iptables", 10), ("nftables", 20), ("ipvs", 60)] {
        let period = settings(&format!("mode: {mode}\n{each}")).effective().sync_period;
        assert_eq!(period.as_secs(), secs, "{mode}");
    }
    for text in ["", "iptables: {syncPeriod: 0s}\n", "mode: nftables\nnftables: {syncPeriod: 0s}\n"]
    {
        assert_eq!(settings(text).effective().sync_period.as_secs(), 30, "{text}");
    }
    let remarks = settings("iptables: {syncPeriod: 10s}\n").remarks();
    assert_eq!(remarks.last().unwrap().fate, Fate::Honoured);
}

/// MOD-03, MOD-04: without addresses the mode says where NodePorts answer.
#[test]
fn mod_03_and_04_the_mode_decides_where_node_ports_answer_by_default() {
    use AddressChoice::{All, Primary};
    let of = |text: &str| {
        let addresses = settings(text).effective().node_ports;
        (addresses.choice, addresses.localhost)
    };
    assert_eq!(of(""), (All, true));
    assert_eq!(of("mode: iptables\niptables: {localhostNodePorts: false}\n"), (All, false));
    assert_eq!(of("mode: nftables\n"), (Primary, false));
    assert_eq!(of("mode: ipvs\n"), (All, false));
    assert_eq!(of("nodePortAddresses: [primary]\n"), (Primary, true));
    let ranges = AddressChoice::Ranges(vec!["192.0.2.0/24".parse().unwrap()]);
    assert_eq!(of("mode: nftables\nnodePortAddresses: [192.0.2.0/24]\n"), (ranges, false));
}

/// MSQ-01, MSQ-02: how kube-proxy tells local traffic is read, and an operator is told that it
/// decides nothing.
#[test]
fn msq_01_and_02_who_is_local_is_asked_of_no_setting() {
    for text in [
        "detectLocalMode: ClusterCIDR\nclusterCIDR: 10.244.0.0/16,fd00:10:244::/48\n",
        "detectLocalMode: NodeCIDR\n",
        "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\n",
        "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\n",
        "clusterCIDR: 10.244.0.0/16\n",
    ] {
        let settings = settings(text);
        settings.refuse_differences().unwrap();
        let remarks = settings.remarks();
        let void = remarks.iter().filter(|remark| remark.fate == Fate::Void);
        assert_eq!(void.count(), text.lines().count(), "{text}");
    }
    assert!(told("detectLocalMode: Guess\n").contains("detectLocalMode"));
}

#[test]
fn xip_04_the_gate_switches_external_ips_off() {
    for (text, served, fate) in [
        ("{AllowServiceExternalIPs: false}", false, Fate::Honoured),
        ("{AllowServiceExternalIPs: true}", true, Fate::Honoured),
        ("{Other: false}", true, Fate::Void),
    ] {
        let settings = settings(&format!("featureGates: {text}\n"));
        assert_eq!(settings.effective().external_ips, served, "{text}");
        let remark = settings.remarks().pop().unwrap();
        assert_eq!((remark.field.path, remark.fate), ("featureGates", fate));
    }
}

#[test]
fn cfg_06_bind_address_is_the_nodes_own_and_unspecified_is_none() {
    let primary = |text: &str| settings(text).effective().node_ports.primary;
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    assert_eq!(primary("bindAddress: 192.0.2.7\n"), Some(address));
    assert_eq!((primary("bindAddress: '::'\n"), primary("")), (None, None));
}

#[test]
fn cfg_01_the_defaults_that_are_written_are_a_file_that_changes_nothing() {
    let text = Settings::defaults().to_string();
    let settings = Settings::parse(&text, Path::new("defaults")).unwrap();
    settings.refuse_differences().unwrap();
    assert_eq!(settings.effective().node_ports.choice, AddressChoice::All);
    assert_eq!(settings.effective().conntrack, Settings::default().effective().conntrack);
}
