// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/healthz`, `/livez` and `/readyz`: what load balancers, the kubelet and people ask
//! (HLZ-01 to HLZ-08).

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::sync::watch;

/// How the agent is doing, published by its loop.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// Every watched resource has been listed.
    pub listed: bool,
    /// The first list is in the maps.
    pub applied: bool,
    /// The self-test's outcome: nothing before it ran, then whether it passed, or why not.
    pub self_test: Option<Result<(), String>>,
    /// When the oldest change that is not yet in the maps was queued.
    pub oldest_pending: Option<Instant>,
    /// What could not be written, one line each; the rest is in the maps.
    pub held_up: Vec<String>,
    /// When a change last reached the maps.
    pub last_applied: Option<SystemTime>,
    /// The Node is unknown, being deleted, or about to be by the autoscaler (HLZ-05).
    pub node_ineligible: bool,
}

/// Answers the three questions.
#[derive(Debug)]
pub struct Health {
    pulse: watch::Receiver<Pulse>,
}

/// The body of `/healthz` and `/livez` (HLZ-02).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: Families,
}

/// One state for both families: one loop serves both.
#[derive(Debug, Serialize)]
struct Families {
    #[serde(rename = "IPv4")]
    ipv4: FamilyReport,
    #[serde(rename = "IPv6")]
    ipv6: FamilyReport,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyReport {
    last_updated: String,
    healthy: bool,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<String>,
}

impl Health {
    /// Over what the loop publishes.
    pub fn new(pulse: watch::Receiver<Pulse>) -> Self {
        Self { pulse }
    }

    /// Alive, and this node should get traffic (HLZ-05).
    pub fn healthz(&self) -> (bool, String) {
        let pulse = self.pulse.borrow().clone();
        let eligible = !pulse.node_ineligible;
        let (healthy, report) = report(&pulse, Some(eligible), Instant::now(), SystemTime::now());
        (healthy && eligible, report)
    }

    /// Alive: nothing has waited too long for the maps (HLZ-03).
    pub fn livez(&self) -> (bool, String) {
        let pulse = self.pulse.borrow().clone();
        report(&pulse, None, Instant::now(), SystemTime::now())
    }

    /// Sockets on this node get what the cluster says.
    pub fn readyz(&self) -> (bool, String) {
        let waiting = waiting(&self.pulse.borrow());
        let ready = waiting.is_none();
        (ready, to_json(&Readiness { ready, waiting }))
    }
}

/// What the agent still waits for before sockets can rely on it.
fn waiting(pulse: &Pulse) -> Option<String> {
    if !pulse.listed {
        return Some("Services, EndpointSlices and the Node are not all listed yet".to_owned());
    }
    if !pulse.applied {
        return Some("the first list is not in the maps yet".to_owned());
    }
    match &pulse.self_test {
        None => Some("the self-test has not run yet".to_owned()),
        Some(Err(reason)) => Some(format!("the self-test failed: {reason}")),
        Some(Ok(())) => {
            let first = pulse.held_up.first()?;
            let more = match pulse.held_up.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more in `lb-agent show issues`"),
            };
            Some(format!("all is served but {first}{more}"))
        }
    }
}

fn report(
    pulse: &Pulse,
    node_eligible: Option<bool>,
    now: Instant,
    time: SystemTime,
) -> (bool, String) {
    let healthy = pulse
        .oldest_pending
        .is_none_or(|queued| now.saturating_duration_since(queued) < STALE_AFTER);
    let eligible = node_eligible.unwrap_or(true);
    let applied = humantime::format_rfc3339(pulse.last_applied.unwrap_or(SystemTime::UNIX_EPOCH));
    let family = FamilyReport { last_updated: applied.to_string(), healthy };
    // In a good reply it is "now", in a bad one the last real update (HLZ-06).
    let last_updated = if healthy && eligible { humantime::format_rfc3339(time) } else { applied };
    let report = Report {
        last_updated: last_updated.to_string(),
        current_time: humantime::format_rfc3339(time).to_string(),
        node_eligible,
        healthy,
        status: Families { ipv4: family.clone(), ipv6: family },
    };
    (healthy, to_json(&report))
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

/// Twice kube-proxy's sync period (HLZ-03).
const STALE_AFTER: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn health(pulse: Pulse) -> Health {
        Health::new(watch::channel(pulse).1)
    }

    fn ready() -> Pulse {
        Pulse { listed: true, applied: true, self_test: Some(Ok(())), ..Pulse::default() }
    }

    #[test]
    fn readiness_names_what_it_waits_for() {
        let failed = Some(Err("canary went on the wire".to_owned()));
        for (pulse, part) in [
            (Pulse::default(), "not all listed"),
            (Pulse { listed: true, ..Pulse::default() }, "first list"),
            (Pulse { self_test: None, ..ready() }, "self-test has not run"),
            (Pulse { self_test: failed, ..ready() }, "canary went on the wire"),
            (Pulse { held_up: vec!["web".to_owned()], ..ready() }, "all is served but web"),
        ] {
            let (ready, body) = health(pulse).readyz();
            assert!(!ready && body.contains(part), "{body}");
        }
        assert_eq!(health(ready()).readyz(), (true, "{\"ready\":true}".to_owned()));
    }

    #[test]
    fn hlz_03_the_oldest_pending_change_decides_and_idle_is_healthy() {
        let now = Instant::now();
        let at = |age| {
            let queued = now.checked_sub(Duration::from_secs(age));
            let pulse = Pulse { oldest_pending: queued, ..ready() };
            report(&pulse, None, now, SystemTime::now()).0
        };
        assert!(health(ready()).livez().0);
        assert!(at(59));
        assert!(!at(60));
    }

    #[test]
    fn hlz_05_an_ineligible_node_fails_healthz_alone_and_says_so() {
        let health = health(Pulse { node_ineligible: true, ..ready() });
        let (good, body) = health.healthz();
        assert!(!good);
        assert!(
            body.contains("\"nodeEligible\":false") && body.contains("\"healthy\":true"),
            "{body}"
        );
        let (alive, body) = health.livez();
        assert!(alive && !body.contains("nodeEligible"), "{body}");
    }

    #[test]
    fn hlz_02_and_06_the_body_has_both_families_and_rfc_3339_times() {
        let last_applied = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let health = health(Pulse { node_ineligible: true, last_applied, ..ready() });
        let body: serde_json::Value = serde_json::from_str(&health.healthz().1).unwrap();
        assert_eq!(body["lastUpdated"], "2023-11-14T22:13:20Z");
        assert_eq!(body["status"]["IPv6"]["lastUpdated"], "2023-11-14T22:13:20Z");
        assert_ne!(body["currentTime"], body["lastUpdated"]);
    }
}
