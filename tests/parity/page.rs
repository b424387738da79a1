// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/parity.md`: one line a scenario, as every column showed it in one run.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use lb_agent::fnv::fnv1a;

use crate::{
    column::Column,
    scenario::{Scenario, Standing},
    summary,
    topic::{Case, Socket, Topic},
};

/// Rules that a page of docs has a line on.
pub(crate) fn lines_of(root: &Path, page: &str) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(root.join(page)).with_context(|| format!("reading {page}"))?;
    let ids = text.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("** "));
    Ok(ids.map(|(id, _)| id.to_owned()).collect())
}

/// Whether the page was written for the sources that are here.
pub(crate) fn is_current(root: &Path) -> Result<bool> {
    let page = fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    Ok(page.contains(&sources_line(&sources(root)?)))
}

/// Writes the page: what a run of all columns showed, since all was as expected.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(
    root: &Path,
    topics: &[Topic],
    scenarios: &[Scenario],
    times: &[(Column, Duration)],
) -> Result<()> {
    let times =
        times.iter().map(|(column, took)| format!("{} {:.0} s", column.name(), took.as_secs_f64()));
    let times: Vec<_> = times.collect();
    let mut page = format!("{HEADER}\n{}; {}.\n\n", summary(scenarios), times.join(", "));
    writeln!(page, "{}", sources_line(&sources(root)?))?;
    page.push_str(&tables(topics, scenarios)?);
    fs::write(root.join(PAGE), page).with_context(|| format!("writing {PAGE}"))?;
    println!("{PAGE} is written");
    Ok(())
}

/// All topics with their tables: all of the page that does not change from run to run.
fn tables(topics: &[Topic], scenarios: &[Scenario]) -> Result<String> {
    let mut page = String::new();
    for (number, topic) in topics.iter().enumerate() {
        write!(page, "\n## {}\n", topic.title)?;
        if !topic.about.is_empty() {
            write!(page, "\n{}\n", topic.about.trim())?;
        }
        for case in &topic.cases {
            let own: Vec<_> =
                scenarios.iter().filter(|s| s.topic == number && s.case == case.name).collect();
            write_case(&mut page, case, &own)?;
        }
    }
    Ok(page)
}

/// A case: what it is, and a table for what holds at first and after each change.
fn write_case(page: &mut String, case: &Case, scenarios: &[&Scenario]) -> Result<()> {
    write!(page, "\n### {}\n\n{}\n", case.name, case.about.trim())?;
    for step in 0..=case.then.len() {
        let rows: Vec<_> = scenarios.iter().filter(|scenario| scenario.step == step).collect();
        if let Some(change) = step.checked_sub(1).and_then(|index| case.then.get(index)) {
            write!(page, "\nThen {}:\n", change.about.trim())?;
        }
        if rows.is_empty() {
            continue;
        }
        write!(page, "\n{TABLE_HEAD}")?;
        for scenario in rows {
            write_row(page, scenario)?;
        }
    }
    Ok(())
}

/// A scenario.
fn write_row(page: &mut String, scenario: &Scenario) -> Result<()> {
    let rules: Vec<_> = scenario.rules().map(String::as_str).collect();
    let ours = match scenario.standing(Column::Sluice) {
        Standing::Holds => scenario.expected(Column::Sluice).to_string(),
        Standing::Waits => "*waits for the packet path*".to_owned(),
        Standing::Missing => "*missing*".to_owned(),
    };
    let [nftables, iptables] =
        [Column::Nftables, Column::Iptables].map(|column| scenario.expected(column));
    let why = if scenario.differs() {
        let links = scenario.row.because.iter().map(|id| format!("≠ [{id}](deviations.md)"));
        links.collect::<Vec<_>>().join(", ")
    } else {
        String::new()
    };
    let only = limits(scenario);
    let (about, from, dial) = (&scenario.row.about, &scenario.from, &scenario.dial);
    let kept = match &scenario.row.moves_to {
        Some(pod) => format!("its datagrams go on and are answered by {pod} in the end"),
        None if scenario.row.kept => "goes on through all changes".to_owned(),
        None => String::new(),
    };
    let notes: Vec<_> =
        [only.as_str(), about, &kept, &why].into_iter().filter(|text| !text.is_empty()).collect();
    writeln!(
        page,
        "| {} | {from} | {dial} | {ours} | {nftables} | {iptables} | {} |",
        rules.join(" "),
        notes.join("; ")
    )?;
    Ok(())
}

/// What of both families and of TCP and UDP a scenario leaves out.
fn limits(scenario: &Scenario) -> String {
    let mut only = Vec::new();
    if let [net] = scenario.nets.as_slice() {
        only.push(net.name());
    }
    if scenario.sockets != [Socket::Tcp, Socket::Udp] {
        only.extend(scenario.sockets.iter().map(|socket| match socket {
            Socket::Tcp => "TCP",
            Socket::Udp => "UDP",
            Socket::SendTo => "UDP, sendto",
            Socket::TcpMapped => "TCP by `::ffff:`",
            Socket::UdpMapped => "UDP by `::ffff:`",
            Socket::Http => "HTTP",
        }));
    }
    only.join(" ")
}

/// The line that names the sources.
fn sources_line(sources: &str) -> String {
    format!("<!-- sources {sources} -->")
}

/// A name for what decides how Services behave, and for the scenarios: a hash of all files.
fn sources(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for place in SOURCES {
        collect(&root.join(place), &mut files)?;
    }
    files.sort();
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend(fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(format!("{:016x}", fnv1a(bytes)))
}

/// All files below a path.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

const PAGE: &str = "docs/parity.md";
/// What the page is written for: the contract, the kernel programs, what compiles, the scenarios,
/// and the version of kube-proxy.
const SOURCES: &[&str] = &[
    "lb-common/src",
    "lb-ebpf/src",
    "lb-agent/src/source/convert",
    "lb-agent/src/model",
    "lb-agent/src/plan",
    "tests/parity",
    "tests/tools/go.sum",
];
const TABLE_HEAD: &str = "\
| rules | client | dials | Sluice | kube-proxy nftables | kube-proxy iptables | |
|---|---|---|---|---|---|---|
";
const HEADER: &str = "\
# Parity with kube-proxy

Written by `cargo xtask parity` from [tests/parity/scenarios](../tests/parity/scenarios), after a run in which every line was so. \
Three columns, one lab each: two nodes as usual and three with other settings, a real control plane, and on every node Sluice, kube-proxy in nftables mode, or kube-proxy in iptables mode. \
Every line is dialled with TCP and with connected UDP, in IPv4 and in IPv6, unless it says otherwise, often enough to see every pod that may answer.

**Clients**: `pod-N`, a pod of node N; `host-N`, a process of node N; `outside`, a machine beside the nodes. node-1 is in zone-a and node-2 in zone-b. \
node-3 has no zone, and its kube-proxy no cluster CIDR; node-4's kube-proxy has `--masquerade-all`, and its Sluice `--guard-cluster-ips=false`; node-5 serves no external addresses (`--external-ips=false`, gate `AllowServiceExternalIPs`) and has `--nodeport-addresses` with its second address and a third, which it has at times, and no node ports on localhost. \
**Endpoints**: `aN` and `bN`, pods of node N; `host-N`, node N itself. `world` answers for all service addresses where packets go that nobody has translated; `listener` is a process of node-1 that listens on the node port itself. \
**Dialled**: the Service's ClusterIP, port 80, with its load balancer's addresses `vip-1` and `vip-2` and its external addresses `ext-1` and `ext-2` (the outsider's packets reach those by node-1 and node-2), and node addresses with its node port, or with its `health` check's.

**Outcomes**: `refused`; `silent`, no answer of any kind (a host process whose own node drops its datagram is told EPERM); `timed out`, the same error without the wait; `reset`; or the pods that answer, and whom they see: \
`own`, the client's own address (a host process's is any of its node), or `node`, an address of a node. `not permitted` is EPERM. `status` and `weight` are a health check's: its status code, and how many endpoints it says that its node has. `one of` pods: the same one every time; `some of` pods: not always the same one. A line that `goes on through all changes` made a connection that answers to the end of its case. ≠ marks a difference, and leads to its reason.

SCTP is not dialled: the kernel of the machine that writes this page has none (`CONFIG_IP_SCTP`), and at a socket Sluice does not balance it ([SOC-12](deviations.md)).
";

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{PAGE, tables};
    use crate::{read_scenarios, topic};

    #[test]
    fn the_page_says_what_the_scenarios_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let (topics, scenarios) = read_scenarios(root, None).unwrap();
        assert!(scenarios.len() >= 120, "only {} scenarios", scenarios.len());
        let page = fs::read_to_string(root.join(PAGE)).unwrap();
        let tables = tables(&topics, &scenarios).unwrap();
        assert!(page.ends_with(&tables), "{PAGE} says otherwise: run `cargo xtask parity`");
    }

    #[test]
    fn a_word_that_means_nothing_is_an_error() {
        let text = "title: T\ncases:\n  - {name: a, about: b, endpoint: [a1]}\n";
        let error = serde_saphyr::from_str::<topic::Topic>(text).unwrap_err();
        assert!(error.to_string().contains("endpoint"), "{error}");
    }
}
