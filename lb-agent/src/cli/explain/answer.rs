// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The answer: the verdict in one line, and the steps behind it with their rules.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use lb_common::{
    counter::Counter,
    protocol::Protocol,
    service::{Algorithm, FrontendKind, Service, ServiceFlags, SetWord},
    translate::{Maps as _, Scope, translate},
    verdict::{self, Verdict},
};
use serde::Serialize;

use super::{
    guard, nobody,
    question::{Caller, From, Target},
    scene::Scene,
    way::Way,
};
use crate::{
    model::Family,
    plan::{lookup::Playground, port::PortName, tables::Tables},
    run::state::{IssueLine, PodLine},
};

/// What would happen, and why.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// What was asked about.
    target: String,
    /// Who dials.
    from: String,
    /// Where it is translated: `socket`, `device`, `pod device` or `none`.
    path: &'static str,
    /// The devices.
    devices: Vec<String>,
    /// The verdict in one line.
    verdict: String,
    /// The counter that the kernel program would count; empty if none runs.
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    /// The service port, if the target is a frontend.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// Whether it is about the local set of the Service.
    #[serde(skip)]
    local: bool,
    /// Everything that a new connection may reach.
    backends: Vec<String>,
    /// The client's flows to this target that are open.
    flows: Vec<String>,
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
pub(super) fn explain(scene: &Scene<'_>, target: Target, from: From) -> Answer {
    let Scene { tables, way, now_ns, .. } = scene;
    let maps = Playground::new(tables);
    maps.pins.borrow_mut().extend(scene.pins.iter().copied());
    let (scope, by_packet, now_ns) = (way.scope(), way.is_by_packet(), *now_ns);
    let caller = Caller { from, scope, by_packet, now_ns };
    let verdict = translate(&maps, &caller, &target.destination());
    let devices = match way {
        Way::Pod { devices } | Way::Outside { devices } => devices.clone(),
        Way::Socket | Way::Nowhere { .. } => Vec::new(),
    };
    let mut answer = Answer {
        target: target.to_string(),
        from: from.to_string(),
        path: way.name(),
        devices,
        verdict: String::new(),
        reason: verdict.reason().name(),
        service: None,
        local: false,
        backends: Vec::new(),
        flows: Vec::new(),
        steps: Vec::new(),
    };
    if !matches!(way, Way::Pod { .. }) {
        let (found, rule) = way.describe(from);
        answer.step("path", found, rule);
    }
    match tables.service_at(&target.destination()) {
        Some(index) if nobody::is_somebodys(&verdict) => {
            answer.describe_service(scene, index, target, &caller, &verdict);
        }
        _ => answer.describe_nobody(tables, target, from, verdict.reason()),
    }
    answer.add_flows(scene);
    answer.add_blindness(way, target);
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
    pub(super) fn add_issues(&mut self, issues: Vec<IssueLine>) {
        let service = self.service.as_deref().map(|name| {
            let name = name.rsplit_once('/').map_or(name, |(name, _)| name);
            format!("Service {}: ", name.split_once(':').map_or(name, |(name, _)| name))
        });
        let wanted = format!("{} is already", self.target);
        let about = |issue: &IssueLine| {
            let line = &issue.ignored;
            line.contains(&wanted) || service.as_ref().is_some_and(|name| line.starts_with(name))
        };
        for issue in issues.into_iter().filter(about).take(MOST) {
            self.step("issue", issue.ignored, "");
        }
    }

    /// Adds where the caller's packets are translated, if its sockets are left alone.
    pub(super) fn add_pod(&mut self, from: From, pods: &[PodLine]) {
        let Some(address) = from.address() else { return };
        let Some(pod) = pods.iter().find(|pod| pod.addresses.contains(&address)) else { return };
        let PodLine { pod, mark, devices, .. } = pod;
        let found = if devices.is_empty() {
            format!("{pod} (by its {mark}); no device is found where its packets could be")
        } else {
            format!("{pod} (by its {mark}); its packets are, at device {}", devices.join(" and "))
        };
        self.step("pod whose sockets are not translated", found, "SOC-13");
    }

    /// Adds what is open already. The flow of the very address and port goes before the decision.
    fn add_flows(&mut self, scene: &Scene<'_>) {
        for flow in scene.flows.iter().take(MOST) {
            let line = flow.to_string();
            self.step("flow", line.clone(), "");
            self.flows.push(line);
        }
        if scene.flows.len() > MOST {
            self.step("flow", format!("and {} more", scene.flows.len() - MOST), "");
        }
        if let Some(flow) = scene.flows.iter().find(|flow| flow.is_exact && flow.is_open) {
            let line = format!(
                "goes on to {}, as a flow that is open ({}); without it: ",
                flow.backend, flow.phase
            );
            self.verdict.insert_str(0, &line);
        }
    }

    /// Says so where no program of ours meets the client.
    fn add_blindness(&mut self, way: &Way, target: Target) {
        let why = match way {
            Way::Nowhere { reason } => reason.clone(),
            Way::Socket if target.protocol == Protocol::SCTP && self.is_frontend() => {
                "passes untouched: the kernel runs no hook at an SCTP socket (SOC-12)".to_owned()
            }
            _ => return,
        };
        self.reason = "";
        self.verdict = why;
    }

    /// A frontend: its Service, policy, affinity and backends.
    fn describe_service(
        &mut self,
        scene: &Scene<'_>,
        index: u32,
        target: Target,
        caller: &Caller,
        verdict: &Verdict,
    ) {
        let (tables, from) = (scene.tables, caller.from);
        let record = tables.services.at(index);
        let name = name(tables, &record);
        let kind = record.flags().kind();
        self.step("frontend", format!("{} of {name}", kind.name()), frontend_rule(kind));
        self.describe_policy(&record, caller.scope);
        self.describe_ranges(tables, &record, from);
        self.describe_affinity(&record);
        self.describe_algorithm(&record);
        let set = if caller.scope == Scope::Inside { record.inside } else { record.outside };
        self.describe_backends(scene, set, from);
        self.verdict = match verdict {
            Verdict::Translate(backend, reason) => {
                let is_picked = tables
                    .service(index, caller.scope)
                    .is_some_and(|service| caller.is_picked(&service));
                let whom = self.whom(&name, backend, *reason, is_picked);
                let seen = if caller.by_packet {
                    let one = *reason == Counter::TranslatedAffinity || is_picked;
                    scene.seen(set, one.then_some(backend.backend), from, kind)
                } else {
                    format!("the client goes on seeing {} as its peer", target.address)
                };
                format!("goes to {whom}; {seen}")
            }
            Verdict::Drop(Counter::DroppedSourceRange) => guard::blocked(&name, from),
            Verdict::Drop(_) => silence(&name, kind),
            _ => refusal(&name, verdict.reason()),
        };
        let has_ranges = record.flags().contains(ServiceFlags::SOURCE_RANGES);
        match from {
            From::Pod if has_ranges => {
                self.verdict = format!("for a pod in the ranges below: {}", self.verdict);
            }
            From::Outside if has_ranges => {
                self.verdict = format!("for a client in the ranges below: {}", self.verdict);
            }
            _ => {}
        }
        let is_of_local = kind == FrontendKind::ClusterIp || caller.scope == Scope::Outside;
        self.local = is_of_local && is_local(&record);
        self.service = Some(name);
    }

    /// Which backend it is, as far as that is known beforehand.
    fn whom(&self, name: &str, to: &verdict::Target, reason: Counter, is_picked: bool) -> String {
        let backend = SocketAddr::new(to.address.to_ip(), to.port.to_host());
        match (self.backends.len(), reason) {
            (_, Counter::TranslatedAffinity) => format!(
                "{backend} of {name}, where this client is pinned by ClientIP affinity (AFF-01)"
            ),
            (1, _) => format!("{backend} of {name}, its only backend"),
            (count, _) if is_picked => format!(
                "{backend} of {name}, which Maglev has for this client on every node (SVC-11), out of {count} backends"
            ),
            (count, _) => format!("one of {count} backends of {name}"),
        }
    }

    fn describe_policy(&mut self, record: &Service, scope: Scope) {
        let local = is_local(record);
        let (found, rule) = match (record.flags().kind(), local) {
            (FrontendKind::ClusterIp, false) => {
                ("internalTrafficPolicy Cluster: endpoints of all nodes", "TRP-10")
            }
            (FrontendKind::ClusterIp, true) => {
                ("internalTrafficPolicy Local: endpoints of this node only", "TRP-11")
            }
            (_, false) => ("externalTrafficPolicy Cluster: endpoints of all nodes", "TRP-12"),
            (_, true) if scope == Scope::Outside => {
                ("externalTrafficPolicy Local: endpoints of this node only", "TRP-13")
            }
            (_, true) => (
                "externalTrafficPolicy Local, but clients on a node get endpoints of all nodes",
                "TRP-13",
            ),
        };
        self.step("policy", found.to_owned(), rule);
    }

    /// Who may get it; of packets, as whom the client is seen there.
    fn describe_backends(&mut self, scene: &Scene<'_>, set: SetWord, from: From) {
        for slot in scene.tables.members_of(set) {
            let backend = scene.tables.backends.at(slot.backend);
            let address = SocketAddr::new(backend.address.to_ip(), slot.port.to_host());
            let line = format!("{address} {}", backend.life.state().name());
            let place = scene.place(slot.backend, from);
            self.backends.push(line.clone());
            self.step(
                "backend",
                place.map_or(line.clone(), |place| format!("{line}, {place}")),
                "",
            );
        }
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
        if record.is_direct() {
            let found = "direct: packets of clients outside go on unchanged to the backend's node \
                         where that is a neighbour, and replies come from there";
            self.step("forwarding", found.to_owned(), "SVC-12");
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
        f.write_str(&self.target)?;
        if !self.devices.is_empty() {
            write!(f, " from {}, at device {}", self.from, self.devices.join(" or "))?;
        }
        write!(f, ": {}", self.verdict)?;
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

fn silence(name: &str, kind: FrontendKind) -> String {
    let rule = if kind == FrontendKind::ClusterIp { "NOEP-02" } else { "NOEP-03" };
    format!(
        "gets no answer: {name} has endpoints, but none on this node, and its policy is Local ({rule})"
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
