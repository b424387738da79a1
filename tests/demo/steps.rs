// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps in the order of the show.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use lab::{
    place::Place,
    wire::{Answer, AskSpec, Family},
};

use crate::{
    maps,
    screen::Screen,
    stage::{CLIENT, Stage},
    traffic::{Manner, Tally},
};

mod drain;

/// One step.
pub(crate) struct Step {
    /// What it is about.
    pub(crate) title: &'static str,
    /// What it proves, when `show` succeeds.
    pub(crate) proves: &'static str,
    /// Shows it and checks it.
    pub(crate) show: fn(&mut Screen, &mut Stage) -> Result<()>,
}

/// All steps.
pub(crate) const ALL: &[Step] = &[
    Step {
        title: "What the kernel was told",
        proves: "the agent turned objects into map entries: IPv4 and IPv6, TCP and UDP, 4 endpoints",
        show: services,
    },
    Step {
        title: "200 HTTP requests from a pod through one ClusterIP",
        proves: "each connection goes to a pod of its own choice, on both nodes, and none fails",
        show: distribution,
    },
    Step {
        title: "What the program in the pod sees, and what the server sees",
        proves: "getpeername() still says the ClusterIP, and the server saw the pod itself: no NAT",
        show: peers,
    },
    Step {
        title: "The same over IPv6 and over UDP",
        proves: "IPv6 and UDP are balanced alike, and replies come from the address that was dialled",
        show: families,
    },
    Step {
        title: "An endpoint drains under load, then its pod ends",
        proves: "a pod that goes costs no request: it keeps what it has and gets nothing new",
        show: drain::show,
    },
    Step {
        title: "Why: lb-agent explain",
        proves: "the agent says what becomes of an address, and by which rule, from the maps alone",
        show: explain,
    },
    Step {
        title: "The maps themselves",
        proves: "the tables are plain BPF maps with named fields, readable without the agent",
        show: dumps,
    },
];

/// `show services`.
fn services(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    verb(screen, stage, &["show", "services"], 0)?;
    let rows = stage.rows("services")?;
    for family in Family::BOTH {
        let frontend = stage.web(family).to_string();
        let mut protocols: Vec<_> = rows
            .iter()
            .filter(|row| row["frontend"] == frontend.as_str() && row["inside"] == 4)
            .filter_map(|row| row["protocol"].as_str())
            .collect();
        protocols.sort_unstable();
        ensure!(protocols == ["TCP", "UDP"], "{frontend} has 4 backends for {protocols:?} only");
    }
    Ok(())
}

/// 200 HTTP requests, and one by curl as anybody would do it.
fn distribution(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    let to = stage.web(Family::V4);
    let client = stage.lab().pod(CLIENT)?;
    let url = format!("http://{to}/");
    screen.command(&format!("curl -s {url}   # in {CLIENT}"));
    screen.block(client.output("curl", ["-sS", "--max-time", "3", &url])?.trim());
    let tally = Tally::of(stage.driver(), Manner::Http, to, REQUESTS);
    let answered = tally.answered();
    screen.say(&format!("{answered} of {REQUESTS} requests from {CLIENT} to {to} answered:"));
    bars(screen, stage, &tally.pods);
    tally.check(&stage.lab().pods(), REQUESTS)
}

/// The two ends of one connection each.
fn peers(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    let client = stage.lab().pod(CLIENT)?;
    screen.say(&format!("{CLIENT} has {} and {}", client.v4, client.v6));
    for family in Family::BOTH {
        let to = stage.web(family);
        let answer = remote_answer(stage, &AskSpec::tcp(to), &client)?;
        let peer = answer.peer.context("a connected socket without a peer")?;
        screen.block(&format!("connect({to})   getpeername() = {peer}"));
        screen.block(&format!("    {} saw its client as {}", answer.echo.pod, answer.echo.client));
        ensure!(peer == to, "getpeername() said {peer}, not {to}");
        let local = client.address(family);
        let seen = answer.echo.client;
        ensure!(seen == answer.local && seen.ip() == local, "the server saw {seen}, not {local}");
    }
    Ok(())
}

/// 200 requests of every other kind.
fn families(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    let pods = stage.lab().pods();
    let names: Vec<_> = pods.iter().map(|pod| format!("{:>8}", pod.name)).collect();
    screen.say(&format!("{REQUESTS} requests each:"));
    screen.block(&format!(
        "{:15} {:20} {:>4}{}  reply from",
        "KIND",
        "DIALLED",
        "OK",
        names.concat()
    ));
    let kinds = [
        (Family::V6, Manner::Http),
        (Family::V4, Manner::UdpUnconnected),
        (Family::V4, Manner::UdpConnected),
        (Family::V6, Manner::UdpUnconnected),
        (Family::V6, Manner::UdpConnected),
    ];
    let mut outcome = Ok(());
    for (family, manner) in kinds {
        let tally = Tally::of(stage.driver(), manner, stage.web(family), REQUESTS);
        let counts = pods.iter().map(|pod| tally.pods.get(&pod.name).copied().unwrap_or_default());
        let counts: Vec<_> = counts.map(|count| format!("{count:>8}")).collect();
        let peers: Vec<_> = tally.peers.iter().map(ToString::to_string).collect();
        screen.block(&format!(
            "{:15} {:20} {:>4}{}  {}",
            tally.manner.name(),
            tally.dialled.to_string(),
            tally.answered(),
            counts.concat(),
            peers.join(" ")
        ));
        outcome = outcome.and_then(|()| tally.check(&pods, REQUESTS));
    }
    outcome
}

/// `explain` of a frontend, of one without endpoints, and of nobody's address.
fn explain(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    let web = format!("{}/TCP", stage.web(Family::V4));
    let answer = verb(screen, stage, &["explain", &web, "--from", "pod"], 0)?;
    for pod in stage.lab().pods() {
        let backend = pod.at(Family::V4, TARGET).to_string();
        let named = answer.contains(&backend);
        ensure!(named == pod.server_pid().is_some(), "{backend}: named {named}");
    }
    let empty = format!("{}/TCP", stage.empty());
    let answer = verb(screen, stage, &["explain", &empty, "--from", "pod"], 0)?;
    ensure!(answer.contains("refused"), "a Service without endpoints is not said to be refused");
    let error = stage.driver().ask(AskSpec::tcp(stage.empty())).err();
    let name = error.map(|error| error.to_string()).unwrap_or_default();
    screen.say(&format!("and so it is: {name}"));
    ensure!(name == "connect: ECONNREFUSED", "dialling it gave {name:?}");
    let nobody = "10.96.200.200:80/TCP";
    verb(screen, stage, &["explain", nobody, "--from", "pod"], 3).map(drop)
}

/// Two dumps.
fn dumps(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    let node = stage.lab().node("node-1")?.clone();
    let frontends = maps::show(screen, &node, "FRONTENDS4", 2)?;
    ensure!(frontends.contains("\"address\""), "bpftool printed no field names");
    let slots = maps::show(screen, &node, "SLOTS", 3)?;
    ensure!(slots.contains("\"backend\""), "bpftool printed no field names");
    Ok(())
}

/// An answer by a pod other than the client's own: one or two tries do.
fn remote_answer(stage: &Stage, ask: &AskSpec, client: &Place) -> Result<Answer> {
    for _ in 0..REQUESTS {
        let answer = stage.driver().ask(ask.clone())?;
        if answer.echo.pod != client.name {
            return Ok(answer);
        }
    }
    anyhow::bail!("only {} itself answered {REQUESTS} times", client.name)
}

/// Runs a verb of `node-1`'s agent and shows what it prints.
fn verb(screen: &Screen, stage: &Stage, words: &[&str], code: i32) -> Result<String> {
    screen.command(&format!("lb-agent {}", words.join(" ")));
    let printed = stage.agent()?.verb(words)?;
    match words {
        ["show", ..] => screen.table(&printed.stdout),
        _ => screen.prose(&printed.stdout),
    }
    ensure!(
        printed.code == Some(code),
        "exit code {:?} instead of {code}; {}",
        printed.code,
        printed.stderr.trim()
    );
    Ok(printed.stdout)
}

/// Answers by pod, as bars.
fn bars(screen: &Screen, stage: &Stage, answers: &BTreeMap<String, u32>) {
    for pod in stage.lab().pods() {
        let count = answers.get(&pod.name).copied().unwrap_or_default();
        let bar = "#".repeat(usize::try_from(count / 2).unwrap_or_default());
        screen.block(&format!("{:8} on {}  {count:>4}  {bar}", pod.name, pod.node));
    }
}

/// Requests of each kind.
const REQUESTS: u32 = 200;
/// The pods' port.
const TARGET: u16 = 8080;
