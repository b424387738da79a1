// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent run`: flags to a checked [`Config`], then the agent itself.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::{CgroupRoot, Roots, settings, unload};
use crate::{
    config::{Allow, Config, Limit, Tuning, kube_proxy::Settings},
    datapath::load::XdpChoice,
    run,
    source::{self, Master, Origin, addresses::UplinkChoice},
};

/// Flags of `run`.
#[derive(clap::Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag without a value")]
pub(super) struct Args {
    /// Connect with this file; without it and without --manifests, as a pod of the cluster
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    kubeconfig: Option<PathBuf>,
    /// The context of --kubeconfig to use, instead of its current one
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
    /// The API server's own address, instead of the one in --kubeconfig or in this pod's
    /// environment. It must not need a Service that this agent serves
    #[arg(long, value_name = "URL", conflicts_with = "manifests")]
    master: Option<Master>,
    /// Read Services and EndpointSlices from the YAML files in this directory, and follow
    /// its changes
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    #[command(flatten)]
    roots: Roots,
    #[command(flatten)]
    cgroup: CgroupRoot,
    /// Go on although --cgroup-root is below the real root: sockets elsewhere are not served
    #[arg(long)]
    allow_nested_cgroup: bool,
    /// Go on although another program translates connect() on this node
    #[arg(long)]
    allow_foreign_programs: bool,
    /// Serve clients outside through these devices, as soon as they are there [default: those of
    /// the default routes and of the Node's addresses]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    devices: Vec<String>,
    /// Leave the sockets of pods of these RuntimeClasses alone, which no hook of this kernel sees
    /// ("kata", "gvisor"), and translate their packets; as for pods with the label
    /// sluice.dev/socket-lb=false
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    no_socket_runtime_classes: Vec<String>,
    /// Attach to devices by clsact filters also where the kernel has tcx (Linux 6.6), so that
    /// tc's priorities order our programs among others'
    #[arg(long)]
    no_tcx: bool,
    /// Send packets on in front of the stack, too, where they go out by the device that they
    /// came in by
    #[arg(long, value_enum, default_value_t)]
    xdp: Xdp,
    /// Let maps grow to no more entries than this, to bound their memory: "frontends",
    /// "services" (a record for each service port, family and type), "slots", "backends",
    /// "members" (one for each backend of a Service with affinity), "source-ranges"; what is
    /// beyond waits for room. Larger maps that are pinned stay
    #[arg(long, value_name = "NAME=N,..", value_delimiter = ',')]
    max_entries: Vec<Limit>,
    /// Have room for so many flows of clients outside, rounded up to a power of two; each takes
    /// 416 bytes when it is there, and 32 if not [default: one for each 16 KiB of memory, or
    /// kube-proxy's conntrack.maxPerCore and min if that is more; a million at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_flows: Option<u32>,
    /// Remove every trace of an earlier agent and end, as `unload` does
    #[arg(long)]
    cleanup: bool,
    /// Set what needs the rights of root and end: conntrack's sysctls
    #[arg(long)]
    init_only: bool,
    /// Write kube-proxy's defaults to this file and end
    #[arg(long, value_name = "FILE")]
    write_config_to: Option<PathBuf>,
    #[command(flatten)]
    settings: settings::Flags,
}

/// Where XDP is used.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Xdp {
    /// Nowhere
    #[default]
    Off,
    /// In drivers that can, veth left out: it loses packets unless its other end has GRO or XDP
    Auto,
    /// In the driver of each device; an error where it cannot
    Native,
}

impl From<Xdp> for XdpChoice {
    fn from(xdp: Xdp) -> Self {
        match xdp {
            Xdp::Off => Self::Off,
            Xdp::Auto => Self::Auto,
            Xdp::Native => Self::Native,
        }
    }
}

/// Runs until SIGTERM or SIGINT; the kernel programs go on without it.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.write_config_to {
        let text = format!("{:#}\n", Settings::defaults());
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.cleanup {
        return unload::run(&unload::Args { roots: args.roots });
    }
    let is_init = args.init_only;
    let config = config(args)?;
    if is_init {
        run::set_up(&config.tuning);
    } else {
        run::run(config)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The checked configuration; from here on there is a log.
fn config(args: Args) -> anyhow::Result<Config> {
    let mut resolved = args.settings.resolve()?;
    if args.kubeconfig.is_some() {
        resolved.go_before("kubeconfig", "clientConnection.kubeconfig");
    }
    start_log(resolved.effective.is_json, resolved.effective.verbosity);
    resolved.tell();
    let settings::Resolved { effective, rules, configz, file, .. } = resolved;
    let kubeconfig = args.kubeconfig.or(effective.kubeconfig);
    Ok(Config {
        source: source::Config {
            origin: origin(kubeconfig, args.context, args.master, args.manifests),
            node_name: effective.hostname.map_or_else(host_name, Ok)?,
            node_ports: effective.node_ports,
            devices: devices(args.devices),
            runtime_classes: args.no_socket_runtime_classes.into_iter().collect(),
        },
        bpf_root: args.roots.bpf_root,
        cgroup_root: args.cgroup.cgroup_root,
        allow: Allow {
            nested_cgroup: args.allow_nested_cgroup,
            foreign_programs: args.allow_foreign_programs,
        },
        no_tcx: args.no_tcx,
        xdp: args.xdp.into(),
        rules,
        limits: Limit::apply(&args.max_entries),
        max_flows: args.max_flows,
        binds: effective.binds,
        stale_after: effective.sync_period.saturating_mul(2),
        configz,
        tuning: Tuning { conntrack: effective.conntrack, oom_score_adj: effective.oom_score_adj },
        file,
    })
}

/// Which devices lead to clients outside.
fn devices(named: Vec<String>) -> UplinkChoice {
    if named.is_empty() { UplinkChoice::Found } else { UplinkChoice::Named(named) }
}

fn origin(
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    master: Option<Master>,
    manifests: Option<PathBuf>,
) -> Origin {
    match (manifests, kubeconfig) {
        (Some(directory), _) => Origin::Manifests(directory),
        (None, Some(path)) => Origin::Kubeconfig { path, context, master },
        (None, None) => Origin::InCluster { master },
    }
}

/// The host's name, which is the node's unless somebody says otherwise (NOD-01).
fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("the host has no name; give --node-name")?;
    name.into_string()
        .map_err(|_| anyhow::anyhow!("the host's name is not UTF-8; give --node-name"))
}

/// Logs to standard error, from level info on unless RUST_LOG says otherwise. The client's
/// own crates tell of every attempt that fails; the source tells of it once.
fn start_log(is_json: bool, verbosity: u64) {
    let default = if verbosity >= DEBUG_VERBOSITY { DEBUG_LOG } else { LOG };
    let (filter, ignored) = filter(env::var_os("RUST_LOG").as_deref(), default);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    if is_json {
        log.json().init();
    } else {
        log.init();
    }
    if let Some(ignored) = ignored {
        tracing::warn!(
            RUST_LOG = ignored,
            "not a filter such as \"info,lb_agent=debug\"; logging as without it"
        );
    }
}

/// What RUST_LOG asks for; the default, and what it was, if that is no filter.
fn filter(asked: Option<&OsStr>, default: &str) -> (EnvFilter, Option<String>) {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        return (EnvFilter::new(default), None);
    };
    match asked.to_str().and_then(|asked| EnvFilter::try_new(asked).ok()) {
        Some(filter) => (filter, None),
        None => (EnvFilter::new(default), Some(asked.to_string_lossy().into_owned())),
    }
}

/// What is logged where RUST_LOG does not say it.
const LOG: &str = "info,kube_client=off,kube_runtime=off";

/// From this klog verbosity on ("debug level"), the agent's own events are logged, too.
const DEBUG_VERBOSITY: u64 = 4;
const DEBUG_LOG: &str = "info,lb_agent=debug,kube_client=off,kube_runtime=off";

#[cfg(test)]
mod deployment;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_told_and_the_default_holds() {
        for (asked, ignored) in [
            (None, None),
            (Some(""), None),
            (Some("debug,lb_agent=trace"), None),
            (Some("lb_agent=loud"), Some("lb_agent=loud")),
            (Some("info,=="), Some("info,==")),
        ] {
            let (filter, told) = filter(asked.map(OsStr::new), LOG);
            assert_eq!(told.as_deref(), ignored, "{asked:?}");
            let is_default = filter.to_string() == EnvFilter::new(LOG).to_string();
            assert_eq!(is_default, asked.is_none_or(|it| it.is_empty() || ignored.is_some()));
        }
    }
}
