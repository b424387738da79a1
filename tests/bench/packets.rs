// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel says that a packet costs, and a table with a million flows: two tests of the
//! packet path, which need no lab, with as many Services and flows as the goals are about.

use std::{env, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{
    report::{Line, Section},
    rounds::{Scale, say},
};

/// A line of `packets`' test of costs.
#[derive(Debug, Deserialize)]
struct Cost {
    packet: String,
    ns: f64,
    /// A program that does nothing, run in the same way.
    empty_ns: f64,
}

/// The line of its test of many flows.
#[derive(Debug, Deserialize)]
struct Many {
    flows: f64,
    /// Of the table, without flows and with them.
    bytes: [f64; 2],
    /// A new flow's packet at p50 and p99, alone and among the many.
    new_ns: [[f64; 2]; 2],
    /// A look at all flows: seconds, and seconds of a processor.
    look_secs: [f64; 2],
    /// One that takes out half of them.
    half_secs: [f64; 2],
    /// Flows that it took out.
    removed: f64,
}

/// Both tables.
pub(crate) fn run(scale: Scale) -> Result<Vec<Section>> {
    let (services, flows) = (scale.services.to_string(), scale.flows.to_string());
    let settings = [("SLUICE_SERVICES", services.as_str()), ("SLUICE_FLOWS", flows.as_str())];
    say(&format!("packets, one by one: {services} Services, {flows} flows"));
    let said = told("cost::what_a_packet_costs", &settings)?;
    let costs = said.iter().map(|line| Ok(serde_json::from_str(line)?));
    let costs: Vec<Cost> = costs.collect::<Result<_>>()?;
    let [_, flows] = settings;
    let said = told("many::many_flows_are_looked_after_and_new_ones_served", &[flows])?;
    let many = said.first().context("the test of many flows says nothing")?;
    Ok(vec![packets(scale, &costs), table(&serde_json::from_str(many)?)])
}

/// Runs a test, optimised, and returns its lines of JSON.
fn told(test: &str, settings: &[(&str, &str)]) -> Result<Vec<String>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args(["test", "--release", "--quiet", "--workspace", "--exclude", "lb-ebpf"]);
    command.args(["--test", "packets", "--", "--exact", test, "--nocapture"]);
    command.envs(settings.iter().copied());
    let output = command.output().context("starting `cargo test`")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{test} failed: {}{}",
        stdout.trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(stdout.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect())
}

/// The table of packets.
fn packets(scale: Scale, costs: &[Cost]) -> Section {
    let empty = costs.first().map_or(0.0, |cost| cost.ns);
    let line = |cost: &Cost| {
        let values = [cost.ns, cost.ns / cost.empty_ns];
        let line = Line::new(&cost.packet, "", values.map(Some).to_vec());
        match goal(&cost.packet) {
            Some(most) => line.at_most(most, true),
            None => line,
        }
    };
    let title = format!("A packet, {} Services and {} flows", scale.services, scale.flows);
    let note = format!(
        "nanoseconds by BPF_PROG_TEST_RUN, medians of rounds in turn, also in programs that do \
         nothing, of which one takes {empty:.1} ns now; a first packet is the only one of its run, \
         and so is the program that it is compared with"
    );
    let columns = ["ns", "empty programs"].map(str::to_owned).to_vec();
    Section::side(&title, &note, columns, costs.iter().map(line).collect())
}

/// Nanoseconds that a packet of a known flow may take.
fn goal(packet: &str) -> Option<f64> {
    let (packet, most) = packet.strip_prefix("XDP: ").map_or((packet, 120.0), |it| (it, 80.0));
    let is_known = KNOWN.iter().any(|known| packet.starts_with(known));
    is_known.then_some(most)
}

/// The table of flows.
fn table(many: &Many) -> Section {
    let [empty, full] = many.bytes.map(|bytes| bytes / 1e6);
    let [alone, among] = many.new_ns;
    let [_, look] = many.look_secs;
    let [_, half] = many.half_secs;
    let of = |name: &str, unit, values: [Option<f64>; 2]| Line::new(name, unit, values.to_vec());
    let lines = vec![
        of("memory", "MB", [Some(full), Some(empty)]),
        of("a new flow's first packet, p50", "ns", [Some(among[0]), Some(alone[0])]),
        of("a new flow's first packet, p99", "ns", [Some(among[1]), Some(alone[1])]),
        of("processor time of a look at all", "ms", [Some(look * 1e3), None]),
        of("the same a second, as it is done every 60 s", "ms", [Some(look * 1e3 / 60.0), None]),
        of(
            "processor time for each flow that is over",
            "ns",
            [Some(half * 1e9 / many.removed), None],
        ),
    ];
    let title = format!("A table of {} flows", many.flows);
    let note = "the last line is of a look that takes out half of them; every 60 s is how often a \
                table is looked at that is half full, of flows that stay";
    let columns = ["with them", "empty"].map(str::to_owned).to_vec();
    Section::side(&title, note, columns, lines)
}

/// How the names of packets begin that a goal is about.
const KNOWN: [&str; 5] = [
    "a flow to a local backend",
    "a local backend's reply",
    "a flow to a remote backend",
    "a remote backend's",
    "its reply",
];
