// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent run`: flags to a checked [`Config`], then the agent itself.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{ArgAction, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::{CgroupRoot, Roots};
use crate::{
    config::{Allow, BindAddress, Binds, Config, Limit},
    run,
    source::{
        self, Master, Origin,
        addresses::{AddressChoice, NodePortAddresses},
    },
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
    /// This node's name in Kubernetes; the host's name if not given
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,
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
    /// Let maps grow to no more entries than this, to bound their memory: "frontends",
    /// "services" (a record for each service port, family and type), "slots", "backends",
    /// "source-ranges"; what is beyond waits for room. Larger maps that are pinned stay
    #[arg(long, value_name = "NAME=N,..", value_delimiter = ',')]
    max_entries: Vec<Limit>,
    /// Where NodePorts answer: CIDRs, "primary" (the Node's own address of each family) or
    /// "all"
    #[arg(long, value_name = "CIDR,..|primary|all", default_value = "primary")]
    nodeport_addresses: AddressChoice,
    /// Whether NodePorts answer on 127.0.0.1 for processes of the node
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    localhost_nodeports: bool,
    /// Serve /healthz, /livez and /readyz here; empty for not at all
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:10256")]
    healthz_bind_address: BindAddress,
    /// Serve /metrics here; empty for not at all
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10249")]
    metrics_bind_address: BindAddress,
    /// End when one of these two addresses is taken, instead of trying again
    #[arg(long)]
    bind_address_hard_fail: bool,
    /// How log lines look; RUST_LOG sets what is logged
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Runs until SIGTERM or SIGINT; the kernel programs go on without it.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        kubeconfig,
        context,
        master,
        manifests,
        node_name,
        roots,
        cgroup,
        allow_nested_cgroup,
        allow_foreign_programs,
        max_entries,
        nodeport_addresses,
        localhost_nodeports,
        healthz_bind_address,
        metrics_bind_address,
        bind_address_hard_fail,
        log_format,
    } = args;
    start_log(log_format);
    run::run(Config {
        source: source::Config {
            origin: origin(kubeconfig, context, master, manifests),
            node_name: node_name.map_or_else(host_name, Ok)?,
            node_ports: NodePortAddresses {
                choice: nodeport_addresses,
                localhost: localhost_nodeports,
            },
        },
        bpf_root: roots.bpf_root,
        cgroup_root: cgroup.cgroup_root,
        allow: Allow {
            nested_cgroup: allow_nested_cgroup,
            foreign_programs: allow_foreign_programs,
        },
        limits: Limit::apply(&max_entries),
        binds: Binds {
            healthz: healthz_bind_address,
            metrics: metrics_bind_address,
            hard_fail: bind_address_hard_fail,
        },
        configz: "{}".into(),
    })?;
    Ok(ExitCode::SUCCESS)
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
fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// What is logged where RUST_LOG does not say it.
const LOG: &str = "info,kube_client=off,kube_runtime=off";
