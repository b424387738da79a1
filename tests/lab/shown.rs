// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `lb-agent show -o json` prints, a row an object.

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::agent::{Agent, Printed};

/// A row of `show services`: a frontend.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServiceRow {
    /// Namespace, name and port name.
    pub service: String,
    /// `ClusterIP`, `NodePort`, `ExternalIP` or `LoadBalancer`.
    pub kind: String,
    /// Address and port; `*` for the node's own addresses.
    pub frontend: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Number of backends for clients in the cluster, or `refuse` or `silent`.
    pub inside: Value,
    /// The same for clients outside.
    pub outside: Value,
    /// How one of several backends is picked: `random` or `maglev`.
    pub algorithm: String,
    /// How packets of clients outside get to other nodes' backends: `snat` or `direct`.
    pub forwarding: String,
    /// Source ranges; none for all clients.
    pub source_ranges: Vec<String>,
    /// The service port's id.
    pub id: u32,
}

/// A row of `show backends`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BackendRow {
    /// Address and port.
    pub backend: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// `active`, `terminating` or `dead`.
    pub state: String,
    /// On this node.
    pub local: bool,
    /// Sockets that use it now: BACKEND_LOAD.
    pub sockets: u64,
    /// Names of the service ports that use it.
    pub services: Vec<String>,
}

/// A row of `show sockets`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SocketRow {
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// `connect` or `sendto`.
    pub call: String,
    /// What was dialled.
    pub frontend: String,
    /// What it became.
    pub backend: String,
}

/// A row of `show counters`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CounterRow {
    /// Its name, as in metrics.
    pub reason: String,
    /// Sum over the CPUs.
    pub count: u64,
}

/// A row of `show programs`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ProgramRow {
    /// Name of the hook.
    pub program: String,
    /// The kernel's number for it.
    pub id: u32,
    /// `cgroup`, `tcx` or `clsact`; none if it is not attached.
    pub kind: Option<String>,
    /// The link that holds it; none also for a filter.
    pub link: Option<u32>,
    /// The network device that it is attached to; none for a hook of sockets.
    pub device: Option<String>,
    /// Its turn among the programs of the device and direction, from 1.
    pub position: Option<usize>,
    /// How many of them there are.
    pub of: Option<usize>,
    /// Whether it is the agent's own.
    pub ours: bool,
}

/// A row of `show pods`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodRow {
    /// Namespace and name.
    pub pod: String,
    /// Why its sockets are left alone.
    pub mark: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Where its packets are translated.
    pub devices: Vec<String>,
    /// The cookie of its network namespace.
    pub namespace: Option<u64>,
    /// Whether sockets there are left alone.
    pub bypassed: bool,
}

impl Agent {
    /// `show services`. Lines about what was ignored are left out.
    pub fn services(&self) -> Result<Vec<ServiceRow>> {
        self.shown("services")
    }

    /// `show backends`.
    pub fn backends(&self) -> Result<Vec<BackendRow>> {
        self.shown("backends")
    }

    /// `show sockets`.
    pub fn sockets(&self) -> Result<Vec<SocketRow>> {
        self.shown("sockets")
    }

    /// `show programs`.
    pub fn programs(&self) -> Result<Vec<ProgramRow>> {
        self.shown("programs")
    }

    /// `show pods`.
    pub fn pods(&self) -> Result<Vec<PodRow>> {
        self.shown("pods")
    }

    /// One counter of the kernel programs.
    pub fn counter(&self, reason: &str) -> Result<u64> {
        let rows: Vec<CounterRow> = self.shown("counters")?;
        let row = rows.iter().find(|row| row.reason == reason);
        row.map(|row| row.count).with_context(|| format!("no counter {reason}"))
    }

    /// What was ignored: the lines of `show services` after the frontends.
    pub fn ignored(&self) -> Result<Vec<String>> {
        let lines = json_lines(&self.show("services")?)?;
        let texts = lines.iter().filter_map(|line| line.get("ignored")?.as_str());
        Ok(texts.map(str::to_owned).collect())
    }

    /// The rows of `show <what> -o json`.
    fn shown<T: DeserializeOwned>(&self, what: &str) -> Result<Vec<T>> {
        let lines = json_lines(&self.show(what)?)?;
        let rows = lines.into_iter().filter(|line| line.get("ignored").is_none());
        rows.map(|row| {
            serde_json::from_value(row.clone()).with_context(|| format!("a row of {what}: {row}"))
        })
        .collect()
    }

    /// What `show <what> -o json` printed.
    fn show(&self, what: &str) -> Result<Printed> {
        self.verb(&["show", what, "-o", "json"])
    }
}

/// Each line of standard output as JSON.
///
/// # Errors
/// When the command failed, or a line is not JSON.
pub fn json_lines(printed: &Printed) -> Result<Vec<Value>> {
    ensure!(printed.code == Some(0), "it ended with {:?}: {}", printed.code, printed.stderr);
    let lines = printed.stdout.lines();
    lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
