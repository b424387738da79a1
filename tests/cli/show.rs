// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show`: tables for people, stable JSON for programs, with and without an agent.

use std::{collections::BTreeSet, io, process::Stdio};

use lab::{
    need_lab,
    served::{Served, plain, vip},
    shown::json_lines,
    wire::{Family, Kind},
};

/// What each kind of row has: programs rely on it.
const KEYS: [(&str, &[&str]); 6] = [
    (
        "services",
        &[
            "service",
            "kind",
            "frontend",
            "protocol",
            "inside",
            "outside",
            "policy",
            "algorithm",
            "forwarding",
            "affinity_secs",
            "source_ranges",
            "index",
            "id",
        ],
    ),
    (
        "backends",
        &["backend", "protocol", "state", "local", "sockets", "services", "index", "generation"],
    ),
    ("sockets", &["cookie", "call", "frontend", "backend", "state"]),
    ("affinity", &["service", "client", "backend", "idle_secs", "live"]),
    ("programs", &["program", "id", "kind", "link", "device", "position", "of", "ours"]),
    ("counters", &["reason", "count", "meaning"]),
];

#[test]
fn every_view_is_a_table_and_stable_json_also_without_an_agent() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut service = plain("web", 10);
    service.spec.as_mut().unwrap().session_affinity = Some("ClientIP".to_owned());
    served.expose_as(service, &pods[2..]).unwrap();
    let driver = pods[0].driver().unwrap();
    let sock = driver.open(Kind::Tcp, Family::V4).unwrap();
    driver.connect(sock, vip(Family::V4, 10)).unwrap();
    for agent_runs in [true, false] {
        if !agent_runs {
            served.agent.kill().unwrap();
        }
        for (what, keys) in KEYS {
            let json = served.agent.verb(&["show", what, "-o", "json"]).unwrap();
            let lines = json_lines(&json).unwrap();
            assert!(!lines.is_empty(), "{what} has rows");
            for line in &lines {
                let has: BTreeSet<_> =
                    line.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!(has, keys.iter().copied().collect(), "{what}");
            }
            let table = served.agent.verb(&["show", what]).unwrap();
            assert_eq!(table.code, Some(0), "{}", table.stderr);
            let mut rows = table.stdout.lines();
            let titles = rows.next().unwrap();
            assert_eq!(titles, titles.to_uppercase());
            assert_eq!(rows.count(), lines.len(), "{}", table.stdout);
            assert!(table.stdout.lines().all(|row| row == row.trim_end()));
            // Reading twice gives the same order.
            let again = served.agent.verb(&["show", what]).unwrap();
            assert_eq!(timeless(&again.stdout), timeless(&table.stdout));
        }
    }
    let sockets = served.agent.sockets().unwrap();
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].cookie, driver.cookie(sock).unwrap());
    assert_eq!(sockets[0].frontend, vip(Family::V4, 10).to_string());
}

/// `lb-agent show services | head -1`: a reader that has seen enough is no failure of ours.
/// Here it has seen enough before the first word, so that every write fails.
#[test]
fn a_reader_that_is_gone_changes_nothing_but_that_nobody_reads() {
    need_lab!();
    let served = Served::start().unwrap();
    served.expose("web", 10, &served.lab.pods()).unwrap();
    let node = served.node().unwrap();
    let root = node.bpf_root.to_str().unwrap();
    let shown = KEYS.iter().flat_map(|(what, _)| {
        ["table", "json"].map(|format| (vec!["show", what, "-o", format, "--bpf-root", root], 0))
    });
    let explained = ["table", "json"].into_iter().flat_map(|format| {
        [("10.96.0.10:80", 0), ("192.0.2.1:80", 3)]
            .map(|(to, code)| (vec!["explain", to, "-o", format, "--bpf-root", root], code))
    });
    let rest = [
        (vec!["completions", "bash"], 0),
        (vec!["unload", "--bpf-root", "/sys/fs/bpf/nothing-is-here"], 0),
        (vec!["--help"], 0),
    ];
    for (words, code) in shown.chain(explained).chain(rest) {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = node.command(super::program()).unwrap();
        let output = command.args(&words).stdin(Stdio::null()).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(code), ""), "{words:?}");
    }
}

/// A table's words, less times in seconds: those go on between two readings.
fn timeless(table: &str) -> Vec<Vec<&str>> {
    let is_time =
        |word: &&str| word.strip_suffix('s').is_some_and(|number| number.parse::<u64>().is_ok());
    table
        .lines()
        .map(|row| row.split_whitespace().filter(|word| !is_time(word)).collect())
        .collect()
}

#[test]
fn a_root_without_pins_is_told() {
    need_lab!();
    let lab = lab::Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    let root = node.bpf_root.to_str().unwrap();
    for words in [&["show", "services"][..], &["explain", "10.96.0.10:80"]] {
        let words: Vec<_> = words.iter().copied().chain(["--bpf-root", root]).collect();
        let printed = super::agent(node, &words);
        assert_eq!(printed.code, Some(1), "{printed:?}");
        assert!(printed.stderr.contains(root), "{}", printed.stderr);
        assert!(printed.stdout.is_empty());
    }
    // Nothing to remove is no error.
    assert_eq!(super::agent(node, &["unload", "--bpf-root", root]).code, Some(0));
}
