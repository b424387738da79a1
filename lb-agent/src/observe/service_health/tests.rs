// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Health-check node ports on loopback addresses of this machine.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Instant, SystemTime},
};

use super::*;
use crate::observe::health::Pulse;

/// A server, what it is told, and what it tells.
struct Bed {
    wanted: watch::Sender<HealthChecks>,
    pulse: watch::Sender<Pulse>,
    issues: watch::Receiver<Vec<Issue>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Bed {
    fn start(unrestricted: &[Family]) -> Self {
        let (wanted, receiver) = watch::channel(HealthChecks::default());
        let (pulse, pulses) = watch::channel(Pulse::default());
        let (sender, issues) = watch::channel(Vec::new());
        let health = Arc::new(Health::new(pulses, Duration::from_mins(1)));
        let families = unrestricted.iter().copied().collect();
        let stop = CancellationToken::new();
        let server = ServiceHealth::new(receiver, health, families, sender);
        let task = tokio::spawn(server.run(stop.clone()));
        Self { wanted, pulse, issues, stop, task }
    }

    fn want(&self, checks: &[(&str, u16, Option<usize>)], addresses: &[&str]) {
        let checks = checks.iter().map(|&(name, port, count)| {
            let port = NonZeroU16::new(port).unwrap();
            (ObjectName::new("shop", name), HealthCheck { port, ipv4: count, ipv6: count })
        });
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.wanted.send_replace(HealthChecks { checks: checks.collect(), addresses });
    }

    /// Asks until the answer is as wanted; nothing is a refused connection.
    async fn until(&self, port: u16, good: impl Fn(Option<&str>) -> bool) -> Option<String> {
        self.until_at(LOCALHOST, port, good).await
    }

    async fn until_at(
        &self,
        address: &'static str,
        port: u16,
        good: impl Fn(Option<&str>) -> bool,
    ) -> Option<String> {
        let started = Instant::now();
        loop {
            let ask = move || ask(address, port, "GET /anything");
            let reply = tokio::task::spawn_blocking(ask).await.unwrap();
            if good(reply.as_deref()) {
                return reply;
            }
            assert!(started.elapsed() < Duration::from_secs(8), "{port}: {reply:?}");
            time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// The whole reply; nothing if the connection is refused.
fn ask(address: &str, port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect((address, port)).ok()?;
    write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

/// A port that nobody has.
fn free_port() -> u16 {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn is(status: &str) -> impl Fn(Option<&str>) -> bool {
    move |reply| reply.is_some_and(|reply| reply.contains(status))
}

/// HCN-03, HCN-04, HCN-05.
#[tokio::test]
async fn hcn_03_to_05_status_headers_and_body_are_kube_proxys_for_any_path_and_method() {
    let (bed, port) = (Bed::start(&[]), free_port());
    bed.want(&[("web", port, Some(2))], &[LOCALHOST]);
    let reply = bed.until(port, is("200 OK")).await.unwrap().to_lowercase();
    for line in [
        "content-type: application/json\r\n",
        "x-content-type-options: nosniff\r\n",
        "x-load-balancing-endpoint-weight: 2\r\n",
    ] {
        assert!(reply.contains(line), "{line}: {reply}");
    }
    let body = "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\
        \t\"localendpoints\": 2,\n\t\"serviceproxyhealthy\": true\n}";
    assert_eq!(reply.split("\r\n\r\n").nth(1), Some(body));
    let ask = move || ask(LOCALHOST, port, "POST /");
    let reply = tokio::task::spawn_blocking(ask).await.unwrap();
    assert!(is("200 OK")(reply.as_deref()));

    bed.want(&[("web", port, Some(0))], &[LOCALHOST]);
    let reply = bed.until(port, is("503 Service Unavailable")).await.unwrap();
    assert!(reply.contains("\"localEndpoints\": 0"), "{reply}");
    bed.want(&[("web", port, Some(1))], &[LOCALHOST]);
    bed.until(port, is("200 OK")).await;
    // HLZ-03, not the node's eligibility.
    bed.pulse.send_modify(|pulse| {
        pulse.node_ineligible = true;
        pulse.last_applied = Some(SystemTime::UNIX_EPOCH);
    });
    bed.until(port, is("200 OK")).await;
    bed.pulse.send_modify(|pulse| {
        pulse.oldest_pending = Instant::now().checked_sub(Duration::from_mins(2));
    });
    let reply = bed.until(port, is("503")).await.unwrap();
    assert!(reply.contains("\"serviceProxyHealthy\": false"), "{reply}");
    bed.end().await;
}

#[tokio::test]
async fn hcn_02_restricted_addresses_have_a_listener_each_all_or_none() {
    let (bed, port) = (Bed::start(&[Family::V6]), free_port());
    bed.want(&[("web", port, Some(1))], &[LOCALHOST, "127.77.0.2"]);
    bed.until(port, is("200")).await;
    bed.until_at("127.77.0.2", port, is("200")).await;
    assert_eq!(ask("127.77.0.3", port, "GET /"), None, "not one of its addresses");
    bed.until_at("::1", port, is("200")).await;
    // 192.0.2.1 is nobody's: no listener of IPv4 stays, and IPv6 is not affected.
    bed.want(&[("web", port, Some(1))], &[LOCALHOST, "192.0.2.1"]);
    bed.until(port, |reply| reply.is_none()).await;
    bed.until_at("::1", port, is("200")).await;
    let told = bed.issues.borrow().first().unwrap().to_string();
    assert!(told.contains("192.0.2.1") && told.contains("shop/web"), "{told}");
    bed.end().await;
}

#[tokio::test]
async fn hcn_07_a_port_that_changes_or_goes_is_closed() {
    let (bed, old, new) = (Bed::start(&[]), free_port(), free_port());
    bed.want(&[("web", old, Some(1))], &[LOCALHOST]);
    bed.until(old, is("200")).await;
    bed.want(&[("web", new, Some(1))], &[LOCALHOST]);
    bed.until(new, is("200")).await;
    assert_eq!(ask(LOCALHOST, old, "GET /"), None);
    // The family is gone, then the port is another Service's at once.
    bed.want(&[("web", new, None)], &[LOCALHOST]);
    bed.until(new, |reply| reply.is_none()).await;
    bed.want(&[("web", new, Some(1))], &[LOCALHOST]);
    bed.until(new, is("\"web\"")).await;
    bed.want(&[("api", new, Some(1))], &[LOCALHOST]);
    bed.until(new, is("\"api\"")).await;
    bed.end().await;
    assert_eq!(ask(LOCALHOST, new, "GET /"), None);
}

#[tokio::test]
async fn hcn_08_a_taken_port_is_an_issue_and_is_tried_again_and_others_are_served() {
    let (mut bed, free) = (Bed::start(&[]), free_port());
    let taken = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    bed.want(&[("web", port, Some(1)), ("api", free, Some(1))], &[LOCALHOST]);
    bed.until(free, is("200")).await;
    let told = bed.issues.borrow_and_update().first().unwrap().to_string();
    assert!(told.contains(&format!("{LOCALHOST}:{port}: Address already in use")), "{told}");
    drop(taken);
    // Nothing changes: the timer alone does it.
    bed.until(port, is("\"web\"")).await;
    bed.issues.changed().await.unwrap();
    assert!(bed.issues.borrow().is_empty());
    bed.end().await;
}

/// A loopback address that nobody else uses.
const LOCALHOST: &str = "127.77.0.1";
