// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Dialling: every scenario as the flows it has, all clients at once, until each meets what is
//! expected or time is up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lab::wire::{AskSpec, Attempt, SocketError, SurveySpec};

use crate::{
    address::Book,
    bed::{Bed, Client},
    column::Column,
    health,
    outcome::{Among, Outcome},
    scenario::{Scenario, Standing},
    topic::{Net, Socket},
};

/// What a scenario's flows met.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Whether each was what is expected.
    pub(crate) as_expected: bool,
    /// What they met, in few words.
    pub(crate) text: String,
}

/// One kind of flow of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// Number of its scenario.
    pub(crate) scenario: usize,
    net: Net,
    socket: Socket,
    targets: Vec<SocketAddr>,
}

impl Flow {
    /// Its exchanges, to be repeated.
    pub(crate) fn asks(&self) -> impl Iterator<Item = AskSpec> {
        self.targets.iter().map(|target| ask(self.socket, *target))
    }
}

/// Waits until the tables are in force: until one scenario of every client holds that is served.
///
/// If it takes longer than `limit`, the scenarios will tell.
///
/// # Errors
/// As [`settle`].
pub(crate) fn await_force(
    bed: &Bed,
    book: &Book,
    scenarios: &[Scenario],
    column: Column,
    limit: Duration,
) -> Result<()> {
    let mut first: BTreeMap<&str, &Scenario> = BTreeMap::new();
    let served = scenarios.iter().filter(|scenario| {
        scenario.standing(column) == Standing::Holds && scenario.expected(column).is_served()
    });
    for scenario in served {
        first.entry(&scenario.from).or_insert(scenario);
    }
    let first: Vec<_> = first.into_values().cloned().collect();
    settle(bed, book, &first, column, limit).map(drop)
}

/// Dials all scenarios until they hold, or `limit` is over; what each met last. Those that must
/// not hold yet are dialled as often, and end nothing.
///
/// # Errors
/// When a name means nothing, or a driver fails.
pub(crate) fn settle(
    bed: &Bed,
    book: &Book,
    scenarios: &[Scenario],
    column: Column,
    limit: Duration,
) -> Result<Vec<Seen>> {
    let started = Instant::now();
    let mut rounds = 0;
    let mut seen: Vec<Option<Seen>> = vec![None; scenarios.len()];
    loop {
        let open = |index: &usize| !seen.get(*index).is_some_and(|seen| holds(seen.as_ref()));
        let open: Vec<_> = (0..scenarios.len()).filter(open).collect();
        let flows = flows(bed, book, scenarios, &open)?;
        for (index, met) in dial(bed, scenarios, column, &flows)? {
            if let Some(place) = seen.get_mut(index) {
                *place = Some(met);
            }
        }
        let waits_for = |(scenario, seen): (&Scenario, &Option<Seen>)| {
            scenario.standing(column) == Standing::Holds && !holds(seen.as_ref())
        };
        let settled = !scenarios.iter().zip(&seen).any(waits_for);
        rounds += 1;
        if settled || (started.elapsed() > limit && rounds >= LEAST_ROUNDS) {
            return seen.into_iter().map(|seen| seen.context("a scenario without flows")).collect();
        }
    }
}

/// Whether a scenario has met what is expected.
fn holds(seen: Option<&Seen>) -> bool {
    seen.is_some_and(|seen| seen.as_expected)
}

/// The flows of the scenarios of these numbers.
///
/// # Errors
/// When a name means nothing.
pub(crate) fn flows(
    bed: &Bed,
    book: &Book,
    scenarios: &[Scenario],
    open: &[usize],
) -> Result<Vec<Flow>> {
    let mut flows = Vec::new();
    for (index, scenario) in open.iter().filter_map(|index| Some((*index, scenarios.get(*index)?)))
    {
        let client = bed.client(&scenario.from).with_context(|| scenario.to_string())?;
        for net in &scenario.nets {
            let targets = scenario.dial.split(" + ").map(|name| {
                book.target(&scenario.case, name, &client.node, net.family())
                    .with_context(|| scenario.to_string())
            });
            let targets: Vec<_> = targets.filter_map(Result::transpose).collect::<Result<_>>()?;
            let flow = |socket: &Socket| Flow {
                scenario: index,
                net: *net,
                socket: *socket,
                targets: targets.clone(),
            };
            if !targets.is_empty() {
                flows.extend(scenario.sockets.iter().map(flow));
            }
        }
    }
    Ok(flows)
}

/// Dials all flows, every client at once; what each scenario met.
fn dial(
    bed: &Bed,
    scenarios: &[Scenario],
    column: Column,
    flows: &[Flow],
) -> Result<BTreeMap<usize, Seen>> {
    let mut by_client: BTreeMap<&str, Vec<&Flow>> = BTreeMap::new();
    for flow in flows {
        let Some(scenario) = scenarios.get(flow.scenario) else { continue };
        by_client.entry(&scenario.from).or_default().push(flow);
    }
    let surveyed = thread::scope(|scope| {
        let running: Vec<_> = by_client
            .iter()
            .map(|(name, flows)| scope.spawn(|| survey(bed, name, flows, scenarios, column)))
            .collect();
        let ended = running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let mut met: BTreeMap<usize, Vec<(&Flow, Outcome)>> = BTreeMap::new();
    for (flow, outcome) in surveyed.into_iter().flatten() {
        met.entry(flow.scenario).or_default().push((flow, outcome));
    }
    let judged = met.into_iter().filter_map(|(index, met)| {
        Some((index, judge(scenarios.get(index)?.expected(column), &met)))
    });
    Ok(judged.collect())
}

/// Dials the flows of one client.
fn survey<'a>(
    bed: &Bed,
    name: &str,
    flows: &[&'a Flow],
    scenarios: &[Scenario],
    column: Column,
) -> Result<Vec<(&'a Flow, Outcome)>> {
    let client = bed.client(name)?;
    let mut outcomes = Vec::new();
    let (checks, flows): (Vec<_>, Vec<_>) =
        flows.iter().copied().partition(|flow| flow.socket == Socket::Http);
    for flow in checks {
        for to in &flow.targets {
            outcomes.push((flow, health::ask(client, *to)?));
        }
    }
    for flows in flows.chunks(FLOWS_AT_ONCE) {
        let specs = flows.iter().filter_map(|flow| {
            let scenario = scenarios.get(flow.scenario)?;
            Some(SurveySpec {
                asks: flow.asks().collect(),
                times: scenario.expected(column).exchanges(),
                idle_ms: scenario.row.idle_ms,
            })
        });
        let attempts = client.driver.survey(specs.collect())?;
        let met = flows.iter().zip(attempts);
        outcomes.extend(met.map(|(flow, attempts)| (*flow, outcome(bed, client, &attempts))));
    }
    Ok(outcomes)
}

/// One exchange.
fn ask(socket: Socket, to: SocketAddr) -> AskSpec {
    let mapped = || match to.ip() {
        IpAddr::V4(ip) => SocketAddr::from((ip.to_ipv6_mapped(), to.port())),
        IpAddr::V6(_) => to,
    };
    let mut ask = match socket {
        Socket::Tcp | Socket::Http => AskSpec::tcp(to),
        Socket::Udp => AskSpec::udp(to),
        Socket::SendTo => AskSpec::udp_unconnected(to),
        Socket::TcpMapped => AskSpec::tcp(mapped()),
        Socket::UdpMapped => AskSpec::udp(mapped()),
    };
    ask.socket.timeout_ms = SILENCE_MS;
    ask
}

/// What the exchanges of one flow come to.
fn outcome(bed: &Bed, client: &Client, attempts: &[Attempt]) -> Outcome {
    let mut pods = BTreeSet::new();
    let mut sees = BTreeSet::new();
    let mut met = BTreeSet::new();
    for attempt in attempts {
        match &attempt.outcome {
            Ok(echo) => {
                pods.insert(echo.pod.clone());
                sees.insert(bed.sees(client, echo.client.ip().to_canonical()));
            }
            Err(error) => {
                met.insert(failure(error, attempt.elapsed_ms));
            }
        }
    }
    if !pods.is_empty() {
        let served = Outcome::Served { pods, sees, among: Among::All };
        met.insert(served);
    }
    match met.pop_first() {
        Some(only) if met.is_empty() => only,
        first => {
            let all: Vec<_> = first.iter().chain(&met).map(ToString::to_string).collect();
            Outcome::Odd(all.join(" and "))
        }
    }
}

/// What a failed exchange was.
fn failure(error: &SocketError, elapsed_ms: u64) -> Outcome {
    match error.name.as_str() {
        "ECONNREFUSED" => Outcome::Refused,
        "EPERM" => Outcome::NotPermitted,
        "ETIMEDOUT" if elapsed_ms < SILENCE_MS / 2 => Outcome::TimedOut,
        "ETIMEDOUT" => Outcome::Silent,
        "ENETUNREACH" | "EHOSTUNREACH" => Outcome::Unreachable,
        "ECONNRESET" | "EPIPE" | "EOF" => Outcome::Reset,
        _ => Outcome::Odd(error.to_string()),
    }
}

/// Compares what all flows of a scenario met with what is expected.
fn judge(expected: &Outcome, met: &[(&Flow, Outcome)]) -> Seen {
    if met.iter().all(|(_, outcome)| expected.admits(outcome)) {
        return Seen { as_expected: true, text: expected.to_string() };
    }
    let mut by_outcome: BTreeMap<&Outcome, Vec<String>> = BTreeMap::new();
    for (flow, outcome) in met {
        let name = format!("{} {:?}", flow.net.name(), flow.socket);
        by_outcome.entry(outcome).or_default().push(name);
    }
    let all_alike = by_outcome.len() == 1;
    let texts = by_outcome.into_iter().map(|(outcome, flows)| {
        if all_alike { outcome.to_string() } else { format!("{outcome} ({})", flows.join(", ")) }
    });
    Seen { as_expected: false, text: texts.collect::<Vec<_>>().join("; ") }
}

/// Rounds that are dialled at the least, however long they take.
const LEAST_ROUNDS: u32 = 3;
/// How long an exchange may take before it is silence.
const SILENCE_MS: u64 = 1500;
/// Flows in one command to a driver: if all are silent, they end well before its limit.
const FLOWS_AT_ONCE: usize = 96;
