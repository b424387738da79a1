// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The answer: the verdict in one line, and the steps behind it with their rules.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use lb_common::{
    affinity::{AffinityKey, AffinityPin},
    counter::Counter,
    service::{Algorithm, FrontendKind, Service, ServiceFlags, SetWord},
    translate::translate,
    verdict::Verdict,
};
use serde::Serialize;

use super::{
    guard, nobody,
    question::{Caller, From, Target},
};
use crate::{
    model::Family,
    plan::{lookup::Playground, port::PortName, tables::Tables},
    run::state::PodLine,
};

/// What would happen, and why.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// What was asked about.
    target: String,
    /// The verdict in one line.
    verdict: String,
    /// The counter that the kernel program would count.
    reason: &'static str,
    /// The service port, if the target is a frontend.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// Whether it is about the local set of the Service.
    #[serde(skip)]
    local: bool,
    /// Everything that a new connection may reach.
    backends: Vec<String>,
    /// How it came to this, in order.
    steps: Vec<Step>,
}

/// One step of the decision.
#[derive(Debug, Serialize)]
struct Step {
    /// What was looked at.
    #[serde(rename = "step")]
    about: &'static str,
    /// What was found.
    found: String,
    /// The rule that decides here, as in docs/behaviour.md.
    #[serde(skip_serializing_if = "str::is_empty")]
    rule: &'static str,
}

/// Runs the kernel's decision over a copy of its maps and says how it went.
pub(super) fn explain(
    tables: &Tables,
    pins: &[(AffinityKey, AffinityPin)],
    target: Target,
    from: From,
    now_ns: u64,
) -> Answer {
    let maps = Playground::new(tables);
    maps.pins.borrow_mut().extend(pins.iter().copied());
    let caller = Caller { from, now_ns };
    let verdict = translate(&maps, &caller, &target.destination());
    let mut answer = Answer {
        target: target.to_string(),
        verdict: String::new(),
        reason: verdict.reason().name(),
        service: None,
        local: false,
        backends: Vec::new(),
        steps: Vec::new(),
    };
    match tables.service_at(&target.destination()) {
        Some(index) if nobody::is_somebodys(&verdict) => {
            answer.describe_service(tables, index, target, from, &verdict);
        }
        _ => answer.describe_nobody(tables, target, from, verdict.reason()),
    }
    answer
}

impl Answer {
    /// Whether the target is a frontend.
    pub(super) const fn is_frontend(&self) -> bool {
        self.service.is_some()
    }

    /// The service port and whether its local set is asked for, if the target is a frontend.
    pub(super) fn service_port(&self, target: Target) -> Option<(PortName, bool)> {
        let text = self.service.as_deref()?.into();
        Some((PortName { text, family: Family::of(target.address.ip()) }, self.local))
    }

    /// Adds what the agent says that runs: endpoints that are not used, or only for want of
    /// better ones.
    pub(super) fn add_left_out(&mut self, lines: io::Result<Vec<String>>) {
        let Ok(lines) = lines else {
            let found = "which are not used, only a running agent knows; none answers here";
            return self.step("endpoints", found.to_owned(), "");
        };
        let more = lines.len().saturating_sub(MOST);
        for line in lines.into_iter().take(MOST) {
            self.step("endpoint", line, "");
        }
        if more > 0 {
            self.step("endpoint", format!("and {more} more"), "");
        }
    }

    /// Adds what the agent ignored of this Service, and who else wants this frontend.
    pub(super) fn add_issues(&mut self, issues: Vec<String>) {
        let service = self.service.as_deref().map(|name| {
            let name = name.rsplit_once('/').map_or(name, |(name, _)| name);
            format!("Service {}: ", name.split_once(':').map_or(name, |(name, _)| name))
        });
        let wanted = format!("{} is already", self.target);
        let about = |line: &String| {
            line.contains(&wanted) || service.as_ref().is_some_and(|name| line.starts_with(name))
        };
        for line in issues.into_iter().filter(about).take(MOST) {
            self.step("issue", line, "");
        }
    }

    /// Adds where the caller's packets are translated, if its sockets are left alone.
    pub(super) fn add_pod(&mut self, from: From, pods: &[PodLine]) {
        let From::Address(address) = from else { return };
        let Some(pod) = pods.iter().find(|pod| pod.addresses.contains(&address)) else { return };
        let PodLine { pod, mark, devices, .. } = pod;
        let found = if devices.is_empty() {
            format!("{pod} (by its {mark}); no device is found where its packets could be")
        } else {
            format!("{pod} (by its {mark}); its packets are, at device {}", devices.join(" and "))
        };
        self.step("pod whose sockets are not translated", found, "SOC-13");
    }

    /// A frontend: its Service, policy, affinity and backends.
    fn describe_service(
        &mut self,
        tables: &Tables,
        index: u32,
        target: Target,
        from: From,
        verdict: &Verdict,
    ) {
        let record = tables.services.at(index);
        let name = name(tables, &record);
        let kind = record.flags().kind();
        self.step("frontend", format!("{} of {name}", kind.name()), frontend_rule(kind));
        self.describe_policy(&record);
        self.describe_ranges(tables, &record, from);
        self.describe_affinity(&record);
        self.describe_algorithm(&record);
        self.backends = backends(tables, record.inside);
        for backend in self.backends.clone() {
            self.step("backend", backend, "");
        }
        self.verdict = match verdict {
            Verdict::Translate(backend, Counter::TranslatedAffinity) => {
                let to = SocketAddr::new(backend.address.to_ip(), backend.port.to_host());
                format!("goes to {to}, where this client is pinned by ClientIP affinity (AFF-01)")
            }
            Verdict::Translate(backend, _) if self.backends.len() == 1 => format!(
                "goes to {} of {name}, its only backend; the client goes on seeing {} as its peer",
                SocketAddr::new(backend.address.to_ip(), backend.port.to_host()),
                target.address,
            ),
            Verdict::Translate(..) => format!(
                "goes to one of {} backends of {name}; the client goes on seeing {} as its peer",
                self.backends.len(),
                target.address,
            ),
            Verdict::Drop(Counter::DroppedSourceRange) => guard::blocked(&name, from),
            Verdict::Drop(_) => format!(
                "gets no answer: {name} has endpoints, but none on this node, and its policy is Local (NOEP-02)"
            ),
            _ => refusal(&name, verdict.reason()),
        };
        if from == From::Pod && record.flags().contains(ServiceFlags::SOURCE_RANGES) {
            self.verdict = format!("for a pod in the ranges below: {}", self.verdict);
        }
        self.local = kind == FrontendKind::ClusterIp && is_local(&record);
        self.service = Some(name);
    }

    fn describe_policy(&mut self, record: &Service) {
        let local = is_local(record);
        let (found, rule) = match (record.flags().kind(), local) {
            (FrontendKind::ClusterIp, false) => {
                ("internalTrafficPolicy Cluster: endpoints of all nodes", "TRP-10")
            }
            (FrontendKind::ClusterIp, true) => {
                ("internalTrafficPolicy Local: endpoints of this node only", "TRP-11")
            }
            (_, false) => ("externalTrafficPolicy Cluster: endpoints of all nodes", "TRP-12"),
            (_, true) => (
                "externalTrafficPolicy Local, but clients on a node get endpoints of all nodes",
                "TRP-13",
            ),
        };
        self.step("policy", found.to_owned(), rule);
    }

    fn describe_ranges(&mut self, tables: &Tables, record: &Service, from: From) {
        if record.flags().contains(ServiceFlags::SOURCE_RANGES) {
            let (found, rule) = guard::ranges(tables, record.id, from);
            self.step("ranges", found, rule);
        }
    }

    fn describe_affinity(&mut self, record: &Service) {
        if record.flags().contains(ServiceFlags::AFFINITY) {
            let found = format!("ClientIP, {} s after the last connection", record.affinity_secs);
            self.step("affinity", found, "AFF-02");
        }
    }

    fn describe_algorithm(&mut self, record: &Service) {
        let outside = record.outside;
        if outside.algorithm() == Algorithm::Maglev {
            let found = format!(
                "maglev, {} slots: by address and port of clients outside, the same on every node; \
                 at random for sockets of this node",
                outside.count()
            );
            self.step("algorithm", found, "SVC-11");
        }
    }

    /// An address that is nobody's, and what comes closest to it.
    fn describe_nobody(&mut self, tables: &Tables, target: Target, from: From, reason: Counter) {
        let ports = ports_of(tables, target.address.ip());
        self.verdict = nobody::verdict(tables, target, from, reason, !ports.is_empty());
        if !ports.is_empty() {
            self.step("frontends", format!("this address serves {}", ports.join(", ")), "CIP-04");
        }
        for (about, found, rule) in nobody::steps(tables, target, reason, !ports.is_empty()) {
            self.step(about, found, rule);
        }
    }

    fn step(&mut self, step: &'static str, found: String, rule: &'static str) {
        self.steps.push(Step { about: step, found, rule });
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.target, self.verdict)?;
        for Step { about, found, rule } in &self.steps {
            write!(f, "\n  {about:<10} {found}")?;
            if !rule.is_empty() {
                write!(f, " ({rule})")?;
            }
        }
        Ok(())
    }
}

/// Ports that an address serves, as `80/TCP`.
fn ports_of(tables: &Tables, address: IpAddr) -> Vec<String> {
    let four = tables
        .frontends4
        .keys()
        .filter(|key| IpAddr::from(key.address.bytes) == address && !key.is_any_port())
        .map(|key| (key.port.to_host(), key.protocol));
    let six = tables
        .frontends6
        .keys()
        .filter(|key| key.address.to_ip() == address && !key.is_any_port())
        .map(|key| (key.port.to_host(), key.protocol));
    let mut ports: Vec<_> = four.chain(six).collect();
    ports.sort_unstable();
    ports.iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect()
}

/// The members of a set, with what keeps a reader from having to look them up.
fn backends(tables: &Tables, set: SetWord) -> Vec<String> {
    let mut lines: Vec<_> = tables
        .members_of(set)
        .iter()
        .map(|slot| {
            let backend = tables.backends.at(slot.backend);
            let address = SocketAddr::new(backend.address.to_ip(), slot.port.to_host());
            format!("{address} {}", backend.life.state().name())
        })
        .collect();
    lines.sort();
    lines
}

fn is_local(record: &Service) -> bool {
    record.flags().contains(ServiceFlags::LOCAL)
}

fn name(tables: &Tables, record: &Service) -> String {
    tables
        .names
        .get(&record.id)
        .map_or_else(|| format!("service {}", record.id), ToString::to_string)
}

fn refusal(name: &str, reason: Counter) -> String {
    if reason == Counter::RefusedInconsistent {
        return format!(
            "is refused: the maps of {name} are inconsistent; restart the agent to have them written again"
        );
    }
    format!(
        "is refused: {name} has no endpoint that is ready, or serving while it terminates (NOEP-01)"
    )
}

const fn frontend_rule(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "CIP-01",
        FrontendKind::NodePort => "NP-01",
        FrontendKind::ExternalIp => "XIP-01",
        FrontendKind::LoadBalancer => "LB-01",
    }
}

/// So many endpoints or issues are told one by one.
const MOST: usize = 20;
