// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The flags that are settings: Sluice's own, and kube-proxy's under its names; or a
//! KubeProxyConfiguration instead of them (CFG-01 to CFG-04).

use std::{path::PathBuf, sync::Arc};

use clap::ValueEnum;

use super::proxy_flags::ProxyFlags;
use crate::{
    config::{
        BindAddress, BindAddressError, ConfigFile,
        kube_proxy::{
            self, Effective, Fate, HEALTHZ_PORT, METRICS_PORT, Remark, Settings, bind_address,
        },
    },
    model::rules::Rules,
    source::addresses::AddressChoice,
};

/// Flags of `run` that are settings.
#[derive(clap::Args, Debug)]
pub(super) struct Flags {
    /// Take the settings from this KubeProxyConfiguration; `check --config` says what becomes
    /// of each. Of kube-proxy's flags, those for the log, the node's name and the API server
    /// still count and go before the file, as do those that kube-proxy does not have
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on although a setting asks for another behaviour than there is
    #[arg(long)]
    accept_differences: bool,
    /// This node's name in Kubernetes; the host's name if not given
    #[arg(long, visible_alias = "hostname-override", value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,
    /// Where NodePorts answer: CIDRs, "primary" (the Node's own address of each family) or
    /// "all" [default: primary]
    #[arg(long, value_name = "CIDR,..|primary|all")]
    nodeport_addresses: Option<AddressChoice>,
    /// Whether NodePorts answer on 127.0.0.1 for processes of the node [default: true]
    #[arg(long, value_name = "BOOL")]
    localhost_nodeports: Option<bool>,
    /// Serve /healthz, /livez and /readyz here; empty for not at all [default: 0.0.0.0:10256]
    #[arg(long, value_name = "ADDR:PORT", value_parser = healthz)]
    healthz_bind_address: Option<BindAddress>,
    /// Serve /metrics here; empty for not at all [default: 127.0.0.1:10249]
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics)]
    metrics_bind_address: Option<BindAddress>,
    /// The port of --healthz-bind-address if that has none; 0 for no server
    #[arg(long, value_name = "PORT", hide = true)]
    healthz_port: Option<u16>,
    /// The port of --metrics-bind-address if that has none; 0 for no server
    #[arg(long, value_name = "PORT", hide = true)]
    metrics_port: Option<u16>,
    /// End when one of these two addresses is taken, instead of trying again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    bind_address_hard_fail: Option<bool>,
    /// Whether a ClusterIP refuses what is not one of its ports, and a free address of a
    /// ServiceCIDR gives no answer, as with kube-proxy's nftables mode; counts beside --config
    /// [default: true]
    #[arg(long, value_name = "BOOL")]
    guard_cluster_ips: Option<bool>,
    /// Whether externalIPs are served; goes before kube-proxy's gate AllowServiceExternalIPs,
    /// also beside --config [default: true]
    #[arg(long, value_name = "BOOL")]
    external_ips: Option<bool>,
    /// How log lines look; RUST_LOG sets what is logged [default: text]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    #[command(flatten)]
    proxy: ProxyFlags,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What the flags, or the file, come to.
pub(super) struct Resolved {
    /// The values.
    pub(super) effective: Effective,
    /// Which rules hold.
    pub(super) rules: Rules,
    /// `/configz`.
    pub(super) configz: Arc<str>,
    /// The file, if there is one.
    pub(super) file: Option<ConfigFile>,
    /// What becomes of each setting; what differs was accepted.
    remarks: Vec<Remark>,
    /// Flags that do not count beside the file.
    ignored: Vec<&'static str>,
    /// Flags that count beside the file although it cannot say the same.
    beside: Vec<&'static str>,
    /// Flags that go before what the file, or another flag, says, and the field of it.
    before: Vec<(&'static str, &'static str)>,
}

impl Flags {
    /// Reads the file, if there is one, and puts flags and defaults together.
    ///
    /// # Errors
    /// Settings that cannot be used, and, unless they are accepted, such as ask for another
    /// behaviour than there is.
    pub(super) fn resolve(self) -> Result<Resolved, kube_proxy::Error> {
        let given = self.proxy.0.iter().map(|(field, text)| (*field, text.as_str()));
        let (log, other): (Vec<_>, Vec<_>) =
            given.partition(|(field, _)| field.path.starts_with("logging."));
        let mut ignored = Vec::new();
        let settings = match &self.config {
            Some(path) => {
                ignored.extend(other.iter().filter_map(|(field, _)| field.flag));
                ignored.extend(self.own());
                Settings::read(path)?.with(Settings::of_flags(log)?)
            }
            None => Settings::of_flags(other.into_iter().chain(log))?,
        };
        if !self.accept_differences {
            settings.refuse_differences()?;
        }
        let mut effective = settings.effective();
        if self.config.is_none() {
            self.put_own(&mut effective);
        }
        effective.external_ips = self.external_ips.unwrap_or(effective.external_ips);
        let before = self.before();
        effective.hostname = self.node_name.or(effective.hostname);
        if let Some(format) = self.log_format {
            effective.is_json = format == LogFormat::Json;
        }
        let rules = Rules {
            guard_cluster_ips: self.guard_cluster_ips.unwrap_or(true),
            external_ips: effective.external_ips,
        };
        let is_beside = self.config.is_some() && self.guard_cluster_ips.is_some();
        let beside = if is_beside { vec!["guard-cluster-ips"] } else { Vec::new() };
        let configz = settings.configz(&effective).to_string().into();
        let (remarks, file) = (settings.remarks(), settings.file().cloned());
        Ok(Resolved { effective, rules, configz, file, remarks, ignored, beside, before })
    }

    /// The flags of our own that were given and go before a field, file or not.
    fn before(&self) -> Vec<(&'static str, &'static str)> {
        let given = [
            (self.external_ips.is_some(), ("external-ips", "featureGates")),
            (self.node_name.is_some(), ("node-name", "hostnameOverride")),
            (self.log_format.is_some(), ("log-format", "logging.format")),
        ];
        given.into_iter().filter(|(given, _)| *given).map(|(_, pair)| pair).collect()
    }

    /// The flags of our own that were given and do not count beside a file.
    fn own(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("nodeport-addresses", self.nodeport_addresses.is_some()),
            ("localhost-nodeports", self.localhost_nodeports.is_some()),
            ("healthz-bind-address", self.healthz_bind_address.is_some()),
            ("metrics-bind-address", self.metrics_bind_address.is_some()),
            ("healthz-port", self.healthz_port.is_some()),
            ("metrics-port", self.metrics_port.is_some()),
            ("bind-address-hard-fail", self.bind_address_hard_fail.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// Sets what flags of our own say.
    fn put_own(&self, effective: &mut Effective) {
        let Effective { node_ports, binds, .. } = effective;
        if let Some(choice) = &self.nodeport_addresses {
            node_ports.choice = choice.clone();
        }
        node_ports.localhost = self.localhost_nodeports.unwrap_or(node_ports.localhost);
        binds.healthz = self.healthz_bind_address.unwrap_or(binds.healthz);
        binds.metrics = self.metrics_bind_address.unwrap_or(binds.metrics);
        binds.hard_fail = self.bind_address_hard_fail.unwrap_or(binds.hard_fail);
        let ports =
            [(self.healthz_port, &mut binds.healthz), (self.metrics_port, &mut binds.metrics)];
        for (port, bind) in ports {
            match (port, &mut bind.0) {
                (Some(0), _) => *bind = BindAddress(None),
                (Some(port), Some(address)) => address.set_port(port),
                (Some(_), None) | (None, _) => {}
            }
        }
    }
}

impl Resolved {
    /// Notes that a flag goes before what is set for a field.
    pub(super) fn go_before(&mut self, flag: &'static str, path: &'static str) {
        self.before.push((flag, path));
    }

    /// The flag that goes before a field.
    fn preferred(&self, path: &str) -> Option<&'static str> {
        self.before.iter().find(|(_, field)| *field == path).map(|(flag, _)| *flag)
    }

    /// Says what becomes of each setting, once the log is there.
    pub(super) fn tell(&self) {
        for flag in &self.ignored {
            tracing::warn!(flag, "ignored: --config is given (CFG-01)");
        }
        for flag in &self.beside {
            tracing::info!(flag, "counts beside --config, which cannot say the same");
        }
        for Remark { place, field, value, fate } in &self.remarks {
            let (setting, fate) = (field.path, *fate);
            if let Some(flag) = self.preferred(setting) {
                tracing::warn!(setting, %place, %value, flag, "the flag goes before it");
                continue;
            }
            match fate {
                Fate::Differs => {
                    tracing::warn!(setting, %place, %value, why = field.why, "differs");
                }
                Fate::Void => {
                    tracing::info!(setting, %place, %value, why = field.why, "no meaning");
                }
                Fate::Honoured => tracing::info!(setting, %place, %value, "honoured"),
            }
        }
    }
}

fn healthz(text: &str) -> Result<BindAddress, BindAddressError> {
    bind_address(text, HEALTHZ_PORT)
}

fn metrics(text: &str) -> Result<BindAddress, BindAddressError> {
    bind_address(text, METRICS_PORT)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::source::addresses::NodePortAddresses;

    /// The settings alone, as a command.
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    fn resolve(words: &str) -> Result<Resolved, kube_proxy::Error> {
        let words = ["run"].into_iter().chain(words.split_whitespace());
        Command::try_parse_from(words).unwrap().flags.resolve()
    }

    #[test]
    fn cfg_04_without_a_flag_node_ports_are_primary_and_all_else_is_kube_proxys() {
        let effective = resolve("").unwrap().effective;
        assert_eq!(effective.node_ports, NodePortAddresses::default());
        assert_eq!(effective.binds.healthz.0.unwrap().to_string(), "0.0.0.0:10256");
        assert_eq!(effective.conntrack.min, 131_072);
        assert_eq!(effective.oom_score_adj, -999);
        assert_eq!(effective.sync_period.as_secs(), 30);
    }

    /// HLZ-03: kube-proxy's flag for iptables counts in nftables mode, too.
    #[test]
    fn hlz_03_flags_set_the_sync_period() {
        let period = |words| resolve(words).unwrap().effective.sync_period.as_secs();
        assert_eq!(period("--iptables-sync-period=10s"), 10);
        assert_eq!(period("--iptables-sync-period=10s --proxy-mode=nftables"), 10);
        let ipvs = "--proxy-mode=ipvs --accept-differences --ipvs-sync-period";
        assert_eq!(period(&format!("--iptables-sync-period=10s {ipvs}=1m")), 60);
    }

    #[test]
    fn cfg_03_flags_are_settings_and_0_is_no_server() {
        let words =
            "--conntrack-min=7 --healthz-port=0 --metrics-port=7 -v 4 --logging-format=json";
        let effective = resolve(words).unwrap().effective;
        assert_eq!((effective.conntrack.min, effective.binds.healthz.0), (7, None));
        assert_eq!(effective.binds.metrics.0.unwrap().port(), 7);
        assert!(effective.is_json && effective.verbosity == 4);
        let all = resolve("--proxy-mode=iptables").unwrap().effective.node_ports;
        assert_eq!((all.choice, all.localhost), (AddressChoice::All, true));
        let told = resolve("--conntrack-min=x --oom-score-adj=7000").err().unwrap().to_string();
        assert!(told.contains("--conntrack-min: conntrack.min: \"x\" is not"), "{told}");
        assert!(told.contains("--oom-score-adj"), "{told}");
        assert!(resolve("--masquerade-all").is_err());
        assert!(resolve("--masquerade-all --accept-differences").is_ok());
    }

    #[test]
    fn cfg_01_beside_a_file_most_flags_are_ignored_and_named() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("config");
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
            hostnameOverride: a\nlogging: {verbosity: 1}\n";
        std::fs::write(&file, text).unwrap();
        let words = "--nodeport-addresses primary --conntrack-min=7 -v 5 --node-name b";
        let resolved = resolve(&format!("--config {} {words}", file.display())).unwrap();
        assert_eq!(resolved.ignored, ["conntrack-min", "nodeport-addresses"]);
        let effective = resolved.effective;
        assert_eq!((effective.conntrack.min, effective.verbosity), (131_072, 5));
        assert_eq!(effective.hostname.as_deref(), Some("b"));
        assert_eq!(effective.node_ports.choice, AddressChoice::All);
        assert_eq!(resolved.file.unwrap().path, file);
    }

    /// CFG-01: a file cannot say what they say, so they count beside it; where it says
    /// something of the same, they go before it, in what is served and in what is told.
    #[test]
    fn cfg_01_flags_of_our_own_go_before_the_file_and_are_named() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("config");
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
            featureGates: {AllowServiceExternalIPs: false, Other: true}\nhostnameOverride: a\n";
        std::fs::write(&file, text).unwrap();
        let beside =
            |words: &str| resolve(&format!("--config {} {words}", file.display())).unwrap();
        let alone = beside("");
        assert_eq!(alone.rules, Rules { guard_cluster_ips: true, external_ips: false });
        assert_eq!((alone.beside.len(), alone.preferred("featureGates")), (0, None));
        let both = beside("--guard-cluster-ips=false --external-ips=true");
        assert_eq!(both.rules, Rules { guard_cluster_ips: false, external_ips: true });
        assert_eq!((both.ignored.len(), &both.beside[..]), (0, &["guard-cluster-ips"][..]));
        assert_eq!(both.preferred("featureGates"), Some("external-ips"));
        assert_eq!(both.preferred("hostnameOverride"), None);
        let gates = |resolved: &Resolved| {
            let page: serde_json::Value = serde_json::from_str(&resolved.configz).unwrap();
            page["kubeproxy.config.k8s.io"]["featureGates"].clone()
        };
        let page = serde_json::json!({"AllowServiceExternalIPs": false, "Other": true});
        assert_eq!(gates(&alone), page);
        let page = serde_json::json!({"AllowServiceExternalIPs": true, "Other": true});
        assert_eq!(gates(&both), page);
        // Without a file there is nothing to count beside of.
        let flags = resolve("--guard-cluster-ips=false --external-ips=false").unwrap();
        assert_eq!(flags.rules, Rules { guard_cluster_ips: false, external_ips: false });
        assert!(flags.beside.is_empty());
    }
}
