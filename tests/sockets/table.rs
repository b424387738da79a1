// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every way to dial every kind of frontend.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1 as core;
use lab::{
    Lab,
    driver::Driver,
    need_lab,
    place::Place,
    served::{Served, cluster_ips, plain},
    server::ServeSpec,
    wire::{Answer, AskSpec, Family, HoldSpec, Kind, SocketSpec},
};
use serde_json::{Value, json};

/// How the destination is written.
#[derive(Clone, Copy, Debug)]
enum Written {
    V4,
    V6,
    /// `::ffff:a.b.c.d` on an IPv6 socket (SOC-09).
    Mapped,
}

/// Which calls dial it.
#[derive(Clone, Copy, Debug)]
enum Call {
    Tcp,
    Udp,
    /// `sendto` on an unconnected socket.
    UdpUnconnected,
}

/// What is dialled.
#[derive(Clone, Copy, Debug)]
enum Frontend {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    /// On the client's own node.
    NodePort,
    /// 127.0.0.1 and `::1`.
    NodePortOnLoopback,
    /// On the other node (TRP-18).
    NodePortElsewhere,
}

/// Who should answer.
#[derive(Clone, Debug)]
enum Answers {
    /// Any pod of the Service.
    Backend,
    /// The server that listens there: the call is untouched.
    Listener(&'static str),
}

/// One row.
#[derive(Clone, Debug)]
struct Case {
    frontend: Frontend,
    written: Written,
    call: Call,
    to: SocketAddr,
    answers: Answers,
}

/// Who dials.
struct Client {
    place: Place,
    driver: Driver,
    /// The address that each pod sees this client from when it is dialled
    /// without a Service.
    seen_as: BTreeMap<(String, Family), IpAddr>,
    /// Pods that answered.
    reached: BTreeSet<String>,
}

/// CIP-01, CIP-02, NP-01, NP-05, NP-07, NP-08, XIP-01, LB-01, TRP-10, TRP-12,
/// TRP-18, HPN-01, SOC-04, SOC-06, SOC-08, SOC-09, SOC-10.
#[test]
fn every_call_reaches_every_kind_of_frontend() {
    need_lab!();
    let served = Served::with(Lab::builder().ports(&[8080, NODE_PORT]), |spec| spec).unwrap();
    let lab = &served.lab;
    // Whatever is untouched meets these.
    let _listeners: Vec<_> =
        lab.nodes().iter().map(|node| node.serve(&ServeSpec::on(&[NODE_PORT])).unwrap()).collect();
    served.expose_as(everything("web", "Cluster", 30080), &lab.pods()).unwrap();

    let places = [lab.pod("pod-1-1").unwrap().place, served.node().unwrap().place.clone()];
    let mut failures = Vec::new();
    let mut checks = 0;
    for place in places {
        let mut client = Client::at(lab, place).unwrap();
        for case in cases(lab, &client.place) {
            for _ in 0..ROUNDS {
                checks += 1;
                if let Err(error) = client.check(&case) {
                    failures.push(format!("{} {case}: {error:#}", client.place.name));
                }
            }
        }
        assert_eq!(
            client.reached.len(),
            4,
            "backends of both nodes, itself too: {:?}",
            client.reached
        );
    }
    failures.dedup();
    assert!(failures.is_empty(), "{} of {checks}:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(checks, 2 * 6 * 3 * 3 * ROUNDS, "clients, frontends, spellings, calls");
    println!("{checks} exchanges");
    served.await_idle().unwrap();
}

/// TRP-13, TRP-17, LB-13, NOEP-03, SOC-05, MOD-05: for clients on the node a Local
/// policy of an external frontend changes nothing, even without an endpoint here.
#[test]
fn trp_17_external_frontends_with_local_policy_use_the_cluster_set() {
    need_lab!();
    let served = Served::start().unwrap();
    let lab = &served.lab;
    let far = [lab.pod("pod-2-1").unwrap(), lab.pod("pod-2-2").unwrap()];
    served.expose_as(everything("web", "Local", 30080), &far).unwrap();
    for place in [lab.pod("pod-1-1").unwrap().place, served.node().unwrap().place.clone()] {
        let mut client = Client::at(lab, place).unwrap();
        for case in cases(lab, &client.place) {
            if matches!(case.answers, Answers::Backend) {
                client.check(&case).with_context(|| case.to_string()).unwrap();
            }
        }
    }
    served.await_idle().unwrap();
}

/// SOC-08: what is open is counted at its backend, by family and protocol.
#[test]
fn open_sockets_are_counted_and_closed_ones_are_not() {
    need_lab!();
    let served = Served::start().unwrap();
    served.expose("web", 10, &served.lab.pods()).unwrap();
    let driver = served.lab.pod("pod-1-1").unwrap().driver().unwrap();
    let mut holds = Vec::new();
    for ip in cluster_ips(10) {
        let to = SocketAddr::new(ip, 80);
        for ask in [AskSpec::tcp(to), AskSpec::udp(to), AskSpec::udp_unconnected(to)] {
            let spec = HoldSpec { ask, connections: 5, every_ms: 1000 };
            holds.push(driver.hold(spec).unwrap());
        }
    }
    let opened = || holds.iter().map(|hold| driver.hold_report(*hold).unwrap().open).sum::<u32>();
    assert_eq!(opened(), 30);
    assert_eq!(served.total_load().unwrap(), 30);
    let records = served.agent.sockets().unwrap();
    assert_eq!(records.len(), 30);
    assert_eq!(records.iter().filter(|record| record.call == "sendto").count(), 10);
    for hold in &holds {
        let report = driver.stop_hold(*hold).unwrap();
        assert!(report.breaks.is_empty(), "{:?}", report.breaks);
    }
    served.await_idle().unwrap();
}

/// LB-02, LB-03, LB-04: which entries of a balancer's status are frontends.
#[test]
fn lb_02_proxy_mode_and_host_names_are_not_captured() {
    need_lab!();
    let served = Served::start().unwrap();
    let mut service = everything("web", "Cluster", 30080);
    service.status = serde_json::from_value(json!({ "loadBalancer": { "ingress": [
        { "ip": "203.0.113.10", "ipMode": "Proxy" },
        { "hostname": "balancer.example" },
        { "ip": "203.0.113.11", "ipMode": "VIP", "ports": [{ "port": 9, "protocol": "TCP" }] },
        { "ip": "203.0.113.12" },
    ] } }))
    .unwrap();
    served.expose_as(service, &served.lab.pods()).unwrap();
    let rows = served.agent.services().unwrap();
    let vips: BTreeSet<_> = rows
        .iter()
        .filter(|row| row.kind == "LoadBalancer")
        .map(|row| row.frontend.clone())
        .collect();
    assert_eq!(vips, ["203.0.113.11:80", "203.0.113.12:80"].map(str::to_owned).into());
    let driver = served.lab.pod("pod-1-1").unwrap().driver().unwrap();
    for vip in &vips {
        driver.ask(AskSpec::tcp(vip.parse().unwrap())).unwrap();
    }
    // The packet goes out to the real balancer, which this lab has not.
    let passed = served.agent.counter("pass_no_frontend").unwrap();
    let mut outside = AskSpec::tcp("203.0.113.10:80".parse().unwrap());
    outside.socket.timeout_ms = 300;
    assert_eq!(driver.ask(outside).unwrap_err().name, "ETIMEDOUT");
    assert_eq!(served.agent.counter("pass_no_frontend").unwrap(), passed + 1);
}

/// NP-09, XIP-05: a frontend's own address goes before a NodePort on it.
#[test]
fn np_09_an_external_ip_on_a_node_address_wins_for_its_own_port() {
    need_lab!();
    let served = Served::start().unwrap();
    let lab = &served.lab;
    let node = served.node().unwrap();
    let (near, far) = (lab.pod("pod-1-2").unwrap(), lab.pod("pod-2-1").unwrap());
    let mut owner = plain("owner", 10);
    let spec = owner.spec.as_mut().unwrap();
    spec.external_ips = Some(vec![node.v4.to_string()]);
    let ports = spec.ports.as_mut().unwrap();
    for port in ports {
        port.port = 30080;
    }
    served.expose_as(owner, std::slice::from_ref(&near)).unwrap();
    served.expose_as(everything("ports", "Cluster", 30080), std::slice::from_ref(&far)).unwrap();
    let driver = lab.pod("pod-1-1").unwrap().driver().unwrap();
    let _ssh = node.serve(&ServeSpec::on(&[22])).unwrap();
    let answers = |to| driver.ask(AskSpec::tcp(to)).unwrap().echo.pod;
    assert_eq!(answers(node.at(Family::V4, 30080)), "pod-1-2");
    assert_eq!(answers(node.at(Family::V6, 30080)), "pod-2-1", "the other family has none");
    assert_eq!(answers(node.at(Family::V4, 22)), "node-1", "only the Service's ports");
}

impl Client {
    /// A driver in a place, which has dialled each pod without a Service.
    fn at(lab: &Lab, place: Place) -> Result<Self> {
        let driver = place.driver()?;
        let mut seen_as = BTreeMap::new();
        for pod in lab.pods() {
            for family in Family::BOTH {
                let answer = driver.ask(AskSpec::tcp(pod.at(family, 8080)))?;
                seen_as.insert((pod.name.clone(), family), answer.echo.client.ip());
            }
        }
        Ok(Self { place, driver, seen_as, reached: BTreeSet::new() })
    }

    /// Dials once and looks at everything that comes back.
    fn check(&mut self, case: &Case) -> Result<()> {
        let answer = self.driver.ask(case.ask())?;
        case.check_names(&answer)?;
        match case.answers {
            Answers::Listener(name) => {
                ensure!(answer.echo.pod == name, "{} answered, not {name}", answer.echo.pod);
            }
            Answers::Backend => {
                let pod = answer.echo.pod;
                let key = (pod.clone(), case.family());
                let seen_as = self.seen_as.get(&key).with_context(|| format!("{pod} answered"))?;
                let client = answer.echo.client.ip();
                ensure!(client == *seen_as, "{pod} saw {client}, not {seen_as}");
                self.reached.insert(pod);
            }
        }
        Ok(())
    }
}

impl Case {
    /// The exchange.
    fn ask(&self) -> AskSpec {
        let kind = if matches!(self.call, Call::Tcp) { Kind::Tcp } else { Kind::Udp };
        AskSpec {
            socket: SocketSpec::new(kind, Family::of(self.to)),
            to: self.to,
            unconnected: matches!(self.call, Call::UdpUnconnected),
        }
    }

    /// The program sees whom it dialled, never a pod.
    fn check_names(&self, answer: &Answer) -> Result<()> {
        let peer = answer.peer;
        match self.call {
            Call::UdpUnconnected => ensure!(peer.is_none(), "getpeername says {peer:?}"),
            _ => ensure!(peer == Some(self.to), "getpeername says {peer:?}"),
        }
        if !matches!(self.call, Call::Tcp) {
            ensure!(answer.from == Some(self.to), "recvfrom says {:?}", answer.from);
        }
        Ok(())
    }

    /// The family that the packets have.
    fn family(&self) -> Family {
        if matches!(self.written, Written::V6) { Family::V6 } else { Family::V4 }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frontend, written, call, to, answers } = self;
        write!(f, "{call:?} to {frontend:?} {written:?} {to}, for {answers:?}")
    }
}

/// Every combination, as a process in `place` on node 1 dials it.
fn cases(lab: &Lab, place: &Place) -> Vec<Case> {
    let mut cases = Vec::new();
    for frontend in [
        Frontend::ClusterIp,
        Frontend::ExternalIp,
        Frontend::LoadBalancer,
        Frontend::NodePort,
        Frontend::NodePortOnLoopback,
        Frontend::NodePortElsewhere,
    ] {
        for written in [Written::V4, Written::V6, Written::Mapped] {
            for call in [Call::Tcp, Call::Udp, Call::UdpUnconnected] {
                let to = address(lab, frontend, written);
                let answers = answers(frontend, written, place);
                cases.push(Case { frontend, written, call, to, answers });
            }
        }
    }
    cases
}

/// Where a frontend is.
fn address(lab: &Lab, frontend: Frontend, written: Written) -> SocketAddr {
    let nodes = lab.nodes();
    let (v4, v6, port): (Ipv4Addr, Ipv6Addr, u16) = match frontend {
        Frontend::ClusterIp => match cluster_ips(10) {
            [IpAddr::V4(v4), IpAddr::V6(v6)] => (v4, v6, 80),
            other => unreachable!("{other:?} is one of each family"),
        },
        Frontend::ExternalIp => (EXTERNAL_IP.0, EXTERNAL_IP.1, 80),
        Frontend::LoadBalancer => (VIP.0, VIP.1, 80),
        Frontend::NodePort => (nodes[0].v4, nodes[0].v6, NODE_PORT),
        Frontend::NodePortOnLoopback => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, NODE_PORT),
        Frontend::NodePortElsewhere => (nodes[1].v4, nodes[1].v6, NODE_PORT),
    };
    let ip: IpAddr = match written {
        Written::V4 => v4.into(),
        Written::V6 => v6.into(),
        Written::Mapped => v4.to_ipv6_mapped().into(),
    };
    SocketAddr::new(ip, port)
}

/// Who should answer a process in `place`.
fn answers(frontend: Frontend, written: Written, place: &Place) -> Answers {
    let on_host = place.name == "node-1";
    match frontend {
        Frontend::NodePortElsewhere => Answers::Listener("node-2"),
        // A pod's loopback is the pod; `::1` never is a NodePort.
        Frontend::NodePortOnLoopback if !on_host => Answers::Listener("pod-1-1"),
        Frontend::NodePortOnLoopback if matches!(written, Written::V6) => {
            Answers::Listener("node-1")
        }
        _ => Answers::Backend,
    }
}

/// A Service with every kind of frontend.
fn everything(name: &str, external_policy: &str, node_port: i32) -> core::Service {
    let mut service = plain(name, if name == "ports" { 11 } else { 10 });
    let spec = service.spec.as_mut().expect("a Service of the lab has a spec");
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.external_traffic_policy = Some(external_policy.to_owned());
    spec.external_ips = Some(vec![EXTERNAL_IP.0.to_string(), EXTERNAL_IP.1.to_string()]);
    for port in spec.ports.iter_mut().flatten() {
        port.node_port = Some(node_port);
    }
    let ingress = [VIP.0.to_string(), VIP.1.to_string()].map(|ip| json!({ "ip": ip }));
    let status: Value = json!({ "loadBalancer": { "ingress": ingress } });
    service.status = serde_json::from_value(status).expect("a Service's status");
    service
}

/// Asks of each row.
const ROUNDS: usize = 6;
/// NodePort of the Service under test, and a port on which others listen.
const NODE_PORT: u16 = 30080;
/// An address on no node.
const EXTERNAL_IP: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 51, 100, 10), Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x10));
/// A balancer's address.
const VIP: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(203, 0, 113, 10), Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10));
