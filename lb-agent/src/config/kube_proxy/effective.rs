// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What settings come to: values for the agent, and the whole configuration for `/configz`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    EXTERNAL_IPS, Settings,
    fields::{field, fields},
    value::{HEALTHZ_PORT, METRICS_PORT, bind_address, duration, texts},
};
use crate::{
    config::{BindAddress, Binds},
    source::addresses::{AddressChoice, NodePortAddresses},
};

/// What the agent makes of the settings.
#[derive(Clone, Debug)]
pub struct Effective {
    /// Where the API server is; `None`: as a pod of the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// This node's name; `None`: the host's.
    pub hostname: Option<String>,
    /// Where NodePorts answer.
    pub node_ports: NodePortAddresses,
    /// Whether externalIPs are served (XIP-04).
    pub external_ips: bool,
    /// Where the servers listen.
    pub binds: Binds,
    /// Half of how long a change may wait before health fails (HLZ-03); more than 0.
    pub sync_period: Duration,
    /// Whether log lines are JSON.
    pub is_json: bool,
    /// How much is logged, as klog counts.
    pub verbosity: u64,
    /// `/proc/self/oom_score_adj`.
    pub oom_score_adj: i64,
    /// The conntrack sysctls.
    pub conntrack: Conntrack,
}

/// The conntrack sysctls (CT-10); 0 leaves one as it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Conntrack {
    /// nf_conntrack_max for each processor; with 0 `min` does not count either.
    pub max_per_core: u64,
    /// nf_conntrack_max at least.
    pub min: u64,
    /// nf_conntrack_tcp_timeout_established.
    pub tcp_established: Duration,
    /// nf_conntrack_tcp_timeout_close_wait.
    pub tcp_close_wait: Duration,
    /// Whether nf_conntrack_tcp_be_liberal is set.
    pub tcp_be_liberal: bool,
    /// nf_conntrack_udp_timeout.
    pub udp: Duration,
    /// nf_conntrack_udp_timeout_stream.
    pub udp_stream: Duration,
}

impl Settings {
    /// The values for the agent, with kube-proxy's defaults (CFG-04); where nothing was set
    /// by a file, NodePorts have our own.
    pub fn effective(&self) -> Effective {
        let text = |path| self.text(path);
        let is_ipv6 = text("bindAddress").parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
        let bind = |path, any: &str, port| {
            let text = self.get(path).and_then(Value::as_str).filter(|text| !text.is_empty());
            bind_address(text.unwrap_or(any), port).unwrap_or(BindAddress(None))
        };
        let (healthz, metrics) = if is_ipv6 { ("::", "::1") } else { ("0.0.0.0", "127.0.0.1") };
        Effective {
            kubeconfig: some(text("clientConnection.kubeconfig")).map(PathBuf::from),
            hostname: some(text("hostnameOverride")),
            node_ports: self.node_ports(),
            external_ips: self.external_ips(),
            binds: Binds {
                healthz: bind("healthzBindAddress", healthz, HEALTHZ_PORT),
                metrics: bind("metricsBindAddress", metrics, METRICS_PORT),
                hard_fail: self.flag("bindAddressHardFail"),
            },
            sync_period: self.sync_period(),
            is_json: text("logging.format") == "json",
            verbosity: self.count("logging.verbosity"),
            oom_score_adj: self.value("oomScoreAdj").as_i64().unwrap_or_default(),
            conntrack: self.conntrack(),
        }
    }

    /// The whole configuration as kube-proxy's `/configz` has it: what is in force, what was
    /// set, and the defaults. An empty mode is the one that is followed.
    pub fn configz(&self, effective: &Effective) -> Value {
        let mut document = self.document(effective);
        if let Some(mode) = document.get_mut("mode").filter(|mode| **mode == "") {
            *mode = json!("nftables");
        }
        json!({ GROUP: document })
    }

    /// A file that says what is the default anyway (`--write-config-to`).
    pub fn defaults() -> Value {
        let settings = Self::default();
        let mut effective = settings.effective();
        effective.node_ports.choice = AddressChoice::All;
        settings.document(&effective)
    }

    /// Every field.
    fn document(&self, effective: &Effective) -> Value {
        let mut root = Map::new();
        for field in fields() {
            let value = effective.value(field.path).unwrap_or_else(|| self.value(field.path));
            let (sections, name) = field.path.rsplit_once('.').unwrap_or(("", field.path));
            let mut at = &mut root;
            for section in sections.split('.').filter(|section| !section.is_empty()) {
                let below = at.entry(section).or_insert_with(|| json!({}));
                let Value::Object(below) = below else { return Value::Null };
                at = below;
            }
            at.insert(name.to_owned(), value);
        }
        // A flag of our own goes before the gate.
        if effective.external_ips != self.external_ips()
            && let Some(Value::Object(gates)) = root.get_mut("featureGates")
        {
            gates.insert(EXTERNAL_IPS.to_owned(), effective.external_ips.into());
        }
        Value::Object(root)
    }

    /// XIP-04: the gate, which is open unless it is switched off.
    fn external_ips(&self) -> bool {
        self.value("featureGates").get(EXTERNAL_IPS) != Some(&false.into())
    }

    /// kube-proxy's, which is a field of its mode; its flag for iptables counts in nftables
    /// mode, too. 0 is the default, as in what kubeadm writes.
    fn sync_period(&self) -> Duration {
        let mode = self.text("mode");
        let path = match (mode.as_str(), self.file()) {
            ("ipvs", _) => "ipvs.syncPeriod",
            ("nftables", Some(_)) => "nftables.syncPeriod",
            _ => "iptables.syncPeriod",
        };
        let period = duration(&self.text(path)).filter(|period| !period.is_zero());
        period.unwrap_or(SYNC_PERIOD)
    }

    fn conntrack(&self) -> Conntrack {
        let time = |path| duration(&self.text(path)).unwrap_or_default();
        Conntrack {
            max_per_core: self.count("conntrack.maxPerCore"),
            min: self.count("conntrack.min"),
            tcp_established: time("conntrack.tcpEstablishedTimeout"),
            tcp_close_wait: time("conntrack.tcpCloseWaitTimeout"),
            tcp_be_liberal: self.flag("conntrack.tcpBeLiberal"),
            udp: time("conntrack.udpTimeout"),
            udp_stream: time("conntrack.udpStreamTimeout"),
        }
    }

    /// Without a list of addresses the mode decides (MOD-03, MOD-04); without a mode, which
    /// only flags can leave out, it is as in nftables mode but for 127.0.0.1.
    fn node_ports(&self) -> NodePortAddresses {
        let mode = self.get("mode").and_then(Value::as_str);
        let mode = if self.file().is_some() { mode.or(Some("")) } else { mode };
        let places = self.get("nodePortAddresses").and_then(texts).unwrap_or_default();
        let by_mode = match mode {
            None | Some("nftables") => AddressChoice::Primary,
            Some(_) => AddressChoice::All,
        };
        let choice = match places.as_slice() {
            [] => by_mode,
            places => places.join(",").parse().unwrap_or(by_mode),
        };
        let localhost = match mode {
            Some("nftables" | "ipvs") => false,
            None | Some(_) => self.flag("iptables.localhostNodePorts"),
        };
        NodePortAddresses { choice, localhost, primary: self.primary() }
    }

    /// CFG-06: an unspecified address overrides nothing.
    fn primary(&self) -> Option<IpAddr> {
        let address: IpAddr = self.text("bindAddress").parse().ok()?;
        Some(address).filter(|address| !address.is_unspecified())
    }

    /// What was set, or the default.
    fn value(&self, path: &str) -> Value {
        let default = || field(path).map_or(Value::Null, |field| field.default.clone());
        self.get(path).cloned().unwrap_or_else(default)
    }

    fn text(&self, path: &str) -> String {
        self.value(path).as_str().unwrap_or_default().to_owned()
    }

    fn flag(&self, path: &str) -> bool {
        self.value(path).as_bool().unwrap_or_default()
    }

    fn count(&self, path: &str) -> u64 {
        self.value(path).as_u64().unwrap_or_default()
    }
}

impl Effective {
    /// The value of a field that flags of our own can set, too.
    fn value(&self, path: &str) -> Option<Value> {
        let address = |bind: &BindAddress| {
            bind.0.map_or_else(String::new, |address| address.to_string()).into()
        };
        match path {
            "healthzBindAddress" => Some(address(&self.binds.healthz)),
            "metricsBindAddress" => Some(address(&self.binds.metrics)),
            "bindAddressHardFail" => Some(self.binds.hard_fail.into()),
            "hostnameOverride" => Some(self.hostname.clone().unwrap_or_default().into()),
            "nodePortAddresses" => Some(match &self.node_ports.choice {
                AddressChoice::All => Value::Null,
                AddressChoice::Primary => json!(["primary"]),
                AddressChoice::Ranges(ranges) => ranges.iter().map(ToString::to_string).collect(),
            }),
            "iptables.localhostNodePorts" => Some(self.node_ports.localhost.into()),
            _ => None,
        }
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// What kube-proxy takes for 0.
const SYNC_PERIOD: Duration = Duration::from_secs(30);

/// The key of kube-proxy's `/configz`.
const GROUP: &str = "kubeproxy.config.k8s.io";
