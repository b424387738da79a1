// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab: a cluster on one machine.
//!
//! ```text
//!            fabric (192.168.50.0/24, fd00:50::/64; a bridge in a namespace)
//!   ┌───────────┬──────────────────┬─────────────────────┬──────────────┐
//!   │ .2        │ .11              │ .12                 │ .200         │
//! control     node-1             node-2                client
//! etcd,       host processes,    host processes,       someone outside
//! apiserver,  lb-agent           lb-agent              the cluster
//! controllers  │ veth1  │ veth2   │ veth1   │ veth2
//!             pod-1-1  pod-1-2   pod-2-1   pod-2-2     10.244.<node>.<9+i>
//!                                                      fd00:10:244:<node>::<9+i>
//! ```
//!
//! - Each name above is a **place** ([`place::Place`]): a network namespace
//!   `sluice-<id>-<name>` and a cgroup. Things that run in places are real
//!   processes, and sockets in them are opened through a [`driver::Driver`].
//! - `<cgroup2 mount>/sluice-<id>/<node>/` is a node's cgroup root; below it
//!   `host` holds host processes, and each pod has one by its name. An agent
//!   gets that root as `--cgroup-root` and so sees exactly its node's sockets.
//! - The packets go pod, veth, node (which routes), bridge, node, pod. Nothing
//!   is masqueraded. Nodes have a default route, to a gateway that knows nothing
//!   more: what no rule translates ends there as "unreachable".
//! - Every lab has a run id `<id>`, so any number stand side by side. Dropping a
//!   [`Lab`] removes it; what a killed test left is removed by `lab down`.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use lab::{Lab, wire::{AskSpec, Family}};
//!
//! let lab = Lab::start()?;
//! let server = lab.pod("pod-2-1")?.at(Family::V4, 8080);
//! let answer = lab.pod("pod-1-1")?.driver()?.ask(AskSpec::tcp(server))?;
//! assert_eq!(answer.echo.pod, "pod-2-1");
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`Lab`], [`node`], [`pod`], [`place`] | the cluster and where processes run |
//! | [`driver`], [`wire`] | sockets in a pod, loads, held connections |
//! | [`server`] | who answers them |
//! | [`inside`] | the other end of those: the `lab-pod` program |
//! | [`agent`], [`shown`] | `lb-agent` on a node, and what it shows |
//! | [`served`] | a lab with an agent on manifests, ready to be dialled |
//! | [`manifests`], [`objects`] | the objects it reads from files |
//! | [`cluster`] | a real control plane in the lab |
//! | [`proxy`], [`kube_proxy`] | what balances on a node, and what to compare it with |
//! | [`sniff`] | what passes the interfaces of a place |
//! | [`tools`] | etcd, kube-apiserver and friends, built once from `tests/tools` |

pub mod address;
pub mod agent;
mod bpffs;
mod build;
pub mod cgroup;
pub mod cluster;
pub mod driver;
mod fabric;
pub mod http;
pub mod id;
pub mod inside;
pub mod kube_proxy;
mod lines;
pub mod manifests;
pub mod netns;
pub mod node;
pub mod objects;
pub mod place;
pub mod pod;
pub mod process;
pub mod proxy;
pub mod served;
pub mod server;
pub mod shown;
pub mod sniff;
pub mod state;
pub mod tools;
pub mod tun;
pub mod wait;
pub mod wire;

pub use build::{Lab, LabBuilder};

/// Ends the calling test with a line when this machine cannot make a lab.
#[macro_export]
macro_rules! need_lab {
    () => {
        if let Some(why) = $crate::missing() {
            println!("SKIP {why}");
            return;
        }
    };
}

/// Why a test that makes a lab cannot run here; none when it can. Such a test
/// prints `SKIP <why>` and passes.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root is needed for namespaces and cgroups".to_owned());
    }
    cgroup::mount_point().err().map(|error| format!("{error:#}"))
}
