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
    /// What became of the devices that clients outside come through: nothing before they were
    /// tried, then whether all are served, or why not.
    pub devices: Option<Result<(), String>>,
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
    /// How long a change may wait for the maps (HLZ-03).
    stale_after: Duration,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Families>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    unserved: Option<String>,
}

impl Health {
    /// Over what the loop publishes. `stale_after` is how long a change may wait for the maps:
    /// twice kube-proxy's sync period (HLZ-03).
    pub fn new(pulse: watch::Receiver<Pulse>, stale_after: Duration) -> Self {
        Self { pulse, stale_after }
    }

    /// Alive, and this node should get traffic (HLZ-05).
    pub fn healthz(&self) -> (bool, String) {
        let pulse = self.pulse.borrow().clone();
        // Before the list is in, the Node is unknown.
        let eligible = pulse.listed && !pulse.node_ineligible;
        let (healthy, report) = self.report(&pulse, Some(eligible));
        (healthy && eligible, report)
    }

    /// Alive: nothing has waited too long for the maps (HLZ-03).
    pub fn livez(&self) -> (bool, String) {
        let pulse = self.pulse.borrow().clone();
        self.report(&pulse, None)
    }

    /// What a health-check node port says of the proxy: that it is alive (HCN-03).
    pub fn is_alive(&self) -> bool {
        self.livez().0
    }

    /// Sockets on this node get what the cluster says, and so do clients outside: or else it
    /// is known why a device is not served, which is told and keeps nobody waiting.
    pub fn readyz(&self) -> (bool, String) {
        let pulse = self.pulse.borrow();
        let waiting = waiting(&pulse);
        let ready = waiting.is_none();
        let unserved = pulse.devices.clone().and_then(Result::err);
        (ready, to_json(&Readiness { ready, waiting, unserved }))
    }

    fn report(&self, pulse: &Pulse, node_eligible: Option<bool>) -> (bool, String) {
        let waited = |queued| Instant::now().saturating_duration_since(queued);
        let late = pulse.oldest_pending.is_some_and(|queued| waited(queued) >= self.stale_after);
        report(pulse, late, node_eligible, SystemTime::now())
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
        Some(Ok(())) if pulse.devices.is_none() => {
            Some("no program is at the devices that clients outside come through yet".to_owned())
        }
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
    late: bool,
    node_eligible: Option<bool>,
    time: SystemTime,
) -> (bool, String) {
    // Before the loop has reported, nothing is known to be wrong (HLZ-04).
    let healthy = pulse.last_applied.is_none() || !late;
    let eligible = node_eligible.unwrap_or(true);
    let applied = pulse.last_applied.map(|applied| humantime::format_rfc3339(applied).to_string());
    let current_time = humantime::format_rfc3339(time).to_string();
    // In a good reply it is "now", in a bad one the last real update (HLZ-06).
    let last_updated = if healthy && eligible {
        current_time.clone()
    } else {
        applied.clone().unwrap_or_else(|| NEVER.to_owned())
    };
    let status = applied.map(|last_updated| {
        let family = FamilyReport { last_updated, healthy };
        Families { ipv4: family.clone(), ipv6: family }
    });
    let report = Report { last_updated, current_time, node_eligible, healthy, status };
    (healthy, to_json(&report))
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

/// What Go writes for a time that was never set.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    fn health(pulse: Pulse) -> Health {
        Health::new(watch::channel(pulse).1, Duration::from_mins(1))
    }

    fn ready() -> Pulse {
        Pulse {
            listed: true,
            applied: true,
            self_test: Some(Ok(())),
            devices: Some(Ok(())),
            last_applied: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            ..Pulse::default()
        }
    }

    #[test]
    fn readiness_names_what_it_waits_for() {
        let failed = Some(Err("canary went on the wire".to_owned()));
        for (pulse, part) in [
            (Pulse::default(), "not all listed"),
            (Pulse { listed: true, ..Pulse::default() }, "first list"),
            (Pulse { self_test: None, ..ready() }, "self-test has not run"),
            (Pulse { self_test: failed, ..ready() }, "canary went on the wire"),
            (Pulse { devices: None, ..ready() }, "no program is at the devices"),
            (Pulse { held_up: vec!["web".to_owned()], ..ready() }, "all is served but web"),
        ] {
            let (ready, body) = health(pulse).readyz();
            assert!(!ready && body.contains(part), "{body}");
        }
        assert_eq!(health(ready()).readyz(), (true, "{\"ready\":true}".to_owned()));
    }

    #[test]
    fn a_device_that_cannot_be_served_is_told_and_keeps_nobody_waiting() {
        let pulse = Pulse { devices: Some(Err("eth0: no memory".to_owned())), ..ready() };
        let body = "{\"ready\":true,\"unserved\":\"eth0: no memory\"}".to_owned();
        assert_eq!(health(pulse).readyz(), (true, body));
    }

    /// HLZ-03: 60 s by default, else twice the sync period.
    #[test]
    fn hlz_03_the_oldest_pending_change_decides_and_idle_is_healthy() {
        assert!(health(ready()).livez().0);
        for (limit, age, good) in
            [(60, 50, true), (60, 60, false), (20, 19, true), (20, 21, false), (600, 500, true)]
        {
            let queued = Instant::now().checked_sub(Duration::from_secs(age));
            let pulse = Pulse { oldest_pending: queued, ..ready() };
            let health = Health::new(watch::channel(pulse).1, Duration::from_secs(limit));
            assert_eq!((health.livez().0, health.is_alive()), (good, good), "{age} of {limit}");
        }
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
    fn hlz_05_a_node_that_was_not_listed_yet_is_unknown() {
        let health = health(Pulse::default());
        assert!(!health.healthz().0);
        assert!(health.livez().0);
    }

    #[test]
    fn hlz_02_and_06_the_body_has_both_families_and_rfc_3339_times() {
        let health = health(Pulse { node_ineligible: true, ..ready() });
        let body: serde_json::Value = serde_json::from_str(&health.healthz().1).unwrap();
        assert_eq!(body["lastUpdated"], "2023-11-14T22:13:20Z");
        assert_eq!(body["status"]["IPv6"]["lastUpdated"], "2023-11-14T22:13:20Z");
        assert_ne!(body["currentTime"], body["lastUpdated"]);
    }

    #[test]
    fn hlz_04_before_the_first_report_no_family_is_listed_and_all_is_well() {
        let queued = Instant::now().checked_sub(Duration::from_mins(10));
        let pulse = Pulse { oldest_pending: queued, ..Pulse::default() };
        let (alive, body) = health(pulse.clone()).livez();
        assert!(alive && !body.contains("status"), "{body}");
        let (_, body) = health(Pulse { node_ineligible: true, ..pulse }).healthz();
        assert!(body.contains("\"lastUpdated\":\"0001-01-01T00:00:00Z\""), "{body}");
    }

    #[test]
    fn hlz_06_a_good_reply_was_updated_now_and_a_bad_one_when_it_was() {
        let newest = |pulse: Pulse| {
            let body = health(pulse).livez().1;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            (body["lastUpdated"].clone(), body["currentTime"].clone())
        };
        let (updated, now) = newest(ready());
        assert_eq!(updated, now);
        let queued = Instant::now().checked_sub(Duration::from_mins(1));
        let (updated, _) = newest(Pulse { oldest_pending: queued, ..ready() });
        assert_eq!(updated, "2023-11-14T22:13:20Z");
    }
}
