// SPDX-License-Identifier: Apache-2.0 OR MIT
//! kube-proxy's flags under its names, made from the table of its settings (CFG-02, CFG-03).
//! Those that `run` has for itself, with types and defaults of its own, are not here.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, error::Error};

use crate::config::kube_proxy::{Field, fields};

/// Those that were given, with their texts.
#[derive(Clone, Debug, Default)]
pub(super) struct ProxyFlags(pub(super) Vec<(&'static Field, String)>);

impl FromArgMatches for ProxyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = flags().filter_map(|(flag, field)| {
            matches.get_one::<String>(flag).map(|text| (field, text.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ProxyFlags {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(|(flag, field)| arg(flag, field)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Every field with a flag that only this table knows.
fn flags() -> impl Iterator<Item = (&'static str, &'static Field)> {
    fields().iter().filter(|field| !field.own).filter_map(|field| Some((field.flag?, field)))
}

fn arg(flag: &'static str, field: &'static Field) -> Arg {
    let arg = Arg::new(flag)
        .long(flag)
        .value_name("VALUE")
        .help(format!("{}: {}", field.path, field.why))
        .help_heading("Settings of kube-proxy, under its names")
        .allow_hyphen_values(true)
        .hide_short_help(true);
    let arg = if flag == "v" { arg.short('v') } else { arg };
    // As in Go: `--flag` is `--flag=true`, and a value needs the `=`.
    if field.default.is_boolean() {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    /// What kube-proxy 1.36 adds to its flag set (`cmd/kube-proxy/app/options.go` and its log
    /// options), each with a value: an operator's command line is understood.
    #[test]
    fn cfg_02_and_03_kube_proxys_flags_exist_under_their_names() {
        let flags = "--config=f --write-config-to=f --cleanup --feature-gates=A=true \
            --kubeconfig=f --master=https://192.0.2.1:6443 --kube-api-content-type=x \
            --kube-api-burst=7 --kube-api-qps=7.5 --hostname-override=x --bind-address=192.0.2.1 \
            --healthz-bind-address=0.0.0.0:10256 --healthz-bind-address=0.0.0.0 \
            --metrics-bind-address=127.0.0.1:10249 --metrics-bind-address= \
            --bind-address-hard-fail --bind-address-hard-fail=false --profiling --profiling=false \
            --show-hidden-metrics-for-version=1.35 --init-only --proxy-mode=nftables \
            --iptables-masquerade-bit=14 --masquerade-all --iptables-localhost-nodeports=false \
            --iptables-sync-period=30s --iptables-min-sync-period=1s --ipvs-sync-period=30s \
            --ipvs-min-sync-period=0s --ipvs-scheduler=rr --ipvs-exclude-cidrs=10.0.0.0/8 \
            --ipvs-strict-arp --ipvs-tcp-timeout=0s --ipvs-tcpfin-timeout=0s \
            --ipvs-udp-timeout=0s --detect-local-mode=ClusterCIDR --pod-bridge-interface=cbr0 \
            --pod-interface-name-prefix=veth --cluster-cidr=10.0.0.0/8,fd00::/8 \
            --nodeport-addresses=primary --nodeport-addresses=10.0.0.0/8,fd00::/8 \
            --oom-score-adj=-998 --conntrack-max-per-core=0 --conntrack-min=0 \
            --conntrack-tcp-timeout-established=24h --conntrack-tcp-timeout-close-wait=1h \
            --conntrack-tcp-be-liberal --conntrack-udp-timeout=0s \
            --conntrack-udp-timeout-stream=0s --config-sync-period=15m --healthz-port=0 \
            --metrics-port=10249 --logging-format=json --log-flush-frequency=5s --v=2 -v=2 \
            --vmodule=a=2 --log-text-split-stream --log-text-info-buffer-size=0 \
            --log-json-split-stream --log-json-info-buffer-size=0";
        for flag in flags.split_whitespace() {
            let mut words = vec!["lb-agent", "run", flag];
            if flag.starts_with("--master") {
                words.push("--kubeconfig=f");
            }
            let parsed = Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "{flag}: {}", parsed.unwrap_err());
        }
        // With the value apart, as in most manifests.
        for (flag, value) in [("--oom-score-adj", "-998"), ("-v", "4"), ("--proxy-mode", "ipvs")] {
            let parsed = Cli::try_parse_from(["lb-agent", "run", flag, value]);
            assert!(parsed.is_ok(), "{flag}: {}", parsed.unwrap_err());
        }
    }
}
