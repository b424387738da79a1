// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Connected UDP sockets while endpoints change: no hook runs when they send, so the agent
//! disconnects them.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lab::{
    agent::Agent,
    driver::Driver,
    need_lab,
    place::Place,
    served::{Served, vip},
    wait,
    wire::{AskSpec, Echo, Family, HoldSpec, Kind, Sock, SocketError},
};

/// A program that asks over one connected socket, and connects again when it is told that the
/// connection was aborted.
struct Client {
    driver: Driver,
    sock: Sock,
    to: SocketAddr,
    /// Errors that it was told.
    aborts: Vec<String>,
}

impl Client {
    /// Connected from source port 12345, as in the end-to-end test of Kubernetes.
    fn connect(place: &Place, to: SocketAddr) -> Self {
        let driver = place.driver().unwrap();
        let own = place.at(Family::of(to), 12345);
        let sock = driver.bound(Kind::Udp, own).unwrap();
        driver.connect(sock, to).unwrap();
        Self { driver, sock, to, aborts: Vec::new() }
    }

    /// The pod that answers, if the connection holds.
    fn ask(&self) -> Result<String, SocketError> {
        self.driver.send(self.sock, "who\n")?;
        let (reply, _) = self.driver.recv_from(self.sock)?;
        Ok(serde_json::from_str::<Echo>(&reply).unwrap().pod)
    }

    /// The pod that answers; connects again if the connection was aborted. The first send on
    /// such a socket has no address to go to; then one call, of whichever kind, is told why.
    fn insist(&mut self) -> String {
        for known in ["EDESTADDRREQ", "ECONNABORTED"] {
            match self.ask() {
                Ok(pod) => return pod,
                Err(error) if error.name == known => self.aborts.push(error.name),
                Err(error) => panic!("{error:?}"),
            }
            self.driver.connect(self.sock, self.to).unwrap();
        }
        self.ask().unwrap()
    }

    /// Whether it still has a peer.
    fn is_connected(&self) -> bool {
        self.driver.peer_name(self.sock).is_ok()
    }

    fn await_abort(&self) {
        wait::until(LIMIT, "the socket to be disconnected", || !self.is_connected()).unwrap();
    }
}

/// CT-01, CT-02, CT-08, CT-09, SOC-08: a pod and a process of the node that ask each second
/// over a connected socket reach the new backend within two seconds after theirs has gone.
/// CT-07: TCP stays. MET-10: it is counted. A socket with the same addresses in another namespace stays.
#[test]
fn ct_02_connected_sockets_leave_a_backend_that_is_gone() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[2..3]).unwrap();
    let node = served.node().unwrap();
    let places = [&pods[0].place, &node.place];
    let mut clients: Vec<_> = places
        .into_iter()
        .flat_map(|place| Family::BOTH.map(|family| Client::connect(place, vip(family, 10))))
        .collect();
    assert!(clients.iter_mut().all(|client| client.insist() == "pod-2-1"));
    let hold = HoldSpec { ask: AskSpec::tcp(vip(Family::V4, 10)), connections: 2, every_ms: 100 };
    let tcp = clients[0].driver.hold(hold).unwrap();
    // The next pod has the first one's address as well, and speaks to the backend itself.
    pods[1].ip(&format!("addr add {}/32 dev lo", pods[0].v4)).unwrap();
    let neighbour = pods[1].driver().unwrap();
    let twin = neighbour.bound(Kind::Udp, pods[0].at(Family::V4, 12345)).unwrap();
    neighbour.connect(twin, pods[2].at(Family::V4, 8080)).unwrap();

    web.add(&pods[3]).unwrap();
    web.take_out(&pods[2]);
    let changed = Instant::now();
    web.write().unwrap();
    for client in &mut clients {
        client.await_abort();
    }
    println!("all sockets were disconnected {} ms after the change", changed.elapsed().as_millis());
    for second in 1.. {
        thread::sleep(Duration::from_secs(1).saturating_sub(changed.elapsed()));
        if clients.iter_mut().all(|client| client.insist() == "pod-2-2") {
            break;
        }
        assert!(second < 2, "after two questions");
    }
    println!("all clients were at the new backend after {} ms", changed.elapsed().as_millis());
    assert!(changed.elapsed() < LIMIT);
    assert!(clients.iter().all(|client| client.aborts.len() == 2));
    assert_eq!(neighbour.peer_name(twin).unwrap(), pods[2].at(Family::V4, 8080));
    let report = clients[0].driver.stop_hold(tcp).unwrap();
    assert!(report.breaks.is_empty(), "{:?}", report.breaks);

    assert_eq!(served.agent.counter("destroyed").unwrap(), 4);
    for family in ["IPv4", "IPv6"] {
        let name = "kubeproxy_conntrack_reconciler_deleted_entries_total";
        let sample = format!("{name}{{ip_family=\"{family}\"}}");
        assert!((served.agent.metric(&sample).unwrap() - 2.0).abs() < 0.1);
    }
    let again = served.load().unwrap();
    assert_eq!(again.values().sum::<u64>(), 4, "the counts of the gone are given back: {again:?}");
}

/// CT-09: the same for a client that does not connect, which no socket call has to tell.
#[test]
fn ct_09_unconnected_sockets_choose_anew_and_are_not_disturbed() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[2..3]).unwrap();
    let places = [&pods[0].place, &served.node().unwrap().place];
    let clients: Vec<_> = places
        .into_iter()
        .flat_map(|place| Family::BOTH.map(|family| (place, vip(family, 10))))
        .map(|(place, to)| {
            let driver = place.driver().unwrap();
            let sock = driver.bound(Kind::Udp, place.at(Family::of(to), 12345)).unwrap();
            (driver, sock, to)
        })
        .collect();
    let ask = |(driver, sock, to): &(Driver, Sock, SocketAddr)| {
        driver.send_to(*sock, *to, "who\n").unwrap();
        serde_json::from_str::<Echo>(&driver.recv_from(*sock).unwrap().0).unwrap().pod
    };
    assert!(clients.iter().all(|client| ask(client) == "pod-2-1"));
    web.add(&pods[3]).unwrap();
    web.take_out(&pods[2]);
    let changed = Instant::now();
    web.write().unwrap();
    wait::until(LIMIT, "the new backend", || clients.iter().all(|it| ask(it) == "pod-2-2"))
        .unwrap();
    println!("all clients were at the new backend after {} ms", changed.elapsed().as_millis());
    assert_eq!(served.agent.counter("destroyed").unwrap(), 0);
}

/// CT-05: an endpoint that serves while it terminates keeps its connected sockets, also when
/// another one leaves. CT-04: one with another target port does not.
#[test]
fn ct_05_a_draining_backend_keeps_its_connected_sockets() {
    need_lab!();
    let served = Served::with(lab::Lab::builder().ports(&[8080, 8081]), |spec| spec).unwrap();
    let pods = served.lab.pods();
    let to = vip(Family::V4, 10);
    let mut web = served.expose("web", 10, &pods[2..3]).unwrap();
    let mut stays = Client::connect(&pods[0], to);
    assert_eq!(stays.insist(), "pod-2-1");
    web.drain(&pods[2]).unwrap();
    web.add(&pods[3]).unwrap();
    served.rewrite(&web).unwrap();
    let mut leaves = Client::connect(&pods[1], to);
    assert_eq!(leaves.insist(), "pod-2-2");
    web.take_out(&pods[3]);
    web.add(&pods[1]).unwrap();
    web.write().unwrap();
    leaves.await_abort();
    assert_eq!(leaves.insist(), "pod-1-2");
    assert!(stays.is_connected() && stays.insist() == "pod-2-1");
    assert!(stays.aborts.is_empty());

    for port in web.service.spec.as_mut().unwrap().ports.iter_mut().flatten() {
        port.target_port = Some(IntOrString::Int(8081));
    }
    web.write().unwrap();
    for client in [&mut stays, &mut leaves] {
        client.await_abort();
        assert_eq!(client.insist(), "pod-1-2");
    }
    let load = served.load().unwrap();
    assert_eq!(load.get(&format!("{}/UDP", pods[1].at(Family::V4, 8081))), Some(&2), "{load:?}");
}

/// CT-02, CT-05: state is judged by the service port that was dialled. An endpoint that left
/// one and serves another keeps the sockets of the other only, connected or not.
#[test]
fn ct_02_a_backend_that_serves_another_service_keeps_that_ones_sockets() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[2..3]).unwrap();
    served.expose("other", 11, &pods[2..3]).unwrap();
    let to = vip(Family::V4, 10);
    let mut leaves = Client::connect(&pods[0], to);
    let mut stays = Client::connect(&pods[1], vip(Family::V4, 11));
    let sock = leaves.driver.open(Kind::Udp, Family::V4).unwrap();
    let ask = || {
        leaves.driver.send_to(sock, to, "who\n").unwrap();
        let (reply, _) = leaves.driver.recv_from(sock).unwrap();
        serde_json::from_str::<Echo>(&reply).unwrap().pod
    };
    assert_eq!(ask(), "pod-2-1");
    web.add(&pods[3]).unwrap();
    web.take_out(&pods[2]);
    web.write().unwrap();
    wait::until(LIMIT, "the unconnected socket to choose anew", || ask() == "pod-2-2").unwrap();
    leaves.await_abort();
    assert_eq!(leaves.insist(), "pod-2-2");
    assert!(stays.insist() == "pod-2-1" && stays.aborts.is_empty());
}

/// CT-06: the last endpoint takes no socket with it; they move when there is another one.
#[test]
fn ct_06_sockets_stay_while_nobody_else_serves() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[2..3]).unwrap();
    let mut client = Client::connect(&pods[0], vip(Family::V6, 10));
    let other = served.expose("other", 11, &pods[2..]).unwrap();
    let witness = Client::connect(&pods[1], vip(Family::V6, 11));
    let witnessed = witness.ask().unwrap();
    web.take_out(&pods[2]);
    served.rewrite(&web).unwrap();
    // Another Service's endpoint leaves: that search is over when its socket is disconnected.
    let mut other = other;
    let leaving = pods.iter().find(|pod| pod.name == witnessed).unwrap();
    other.take_out(leaving);
    other.write().unwrap();
    witness.await_abort();
    assert!(client.is_connected() && client.insist() == "pod-2-1");
    web.add(&pods[3]).unwrap();
    web.write().unwrap();
    client.await_abort();
    assert_eq!(client.insist(), "pod-2-2");
}

/// CT-03: a socket that was connected to the Service's address before there was a Service is
/// sent nowhere by nobody, until it connects again. One outside the agent's cgroup is left alone.
#[test]
fn ct_03_sockets_that_are_older_than_the_service_are_told_to_connect_again() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let node = served.node().unwrap();
    let to = vip(Family::V4, 10);
    let mut clients = [&pods[0].place, &node.place].map(|place| Client::connect(place, to));
    let elsewhere = Client::connect(&pods[2], to);
    let mut web = served.expose("web", 10, &[]).unwrap();
    assert!(clients.iter().all(Client::is_connected), "nobody serves yet");
    web.add(&pods[3]).unwrap();
    web.write().unwrap();
    for client in &mut clients {
        client.await_abort();
        assert_eq!(client.insist(), "pod-2-2");
    }
    assert!(elsewhere.is_connected());
    assert_eq!(served.agent.counter("destroyed").unwrap(), 2);
}

/// SOC-13, CT-03: a socket that is older than the programs.
#[test]
fn soc_13_sockets_that_are_older_than_the_programs_are_told_to_connect_again() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[3..]).unwrap();
    served.agent.stop().unwrap();
    let unloaded = served.agent.verb(&["unload"]).unwrap();
    assert_eq!(unloaded.code, Some(0), "{}", unloaded.stderr);
    let mut client = Client::connect(&pods[0], vip(Family::V6, 10));
    served.agent = Agent::start(served.node().unwrap(), &served.spec()).unwrap();
    client.await_abort();
    assert_eq!(client.insist(), "pod-2-2");
}

/// CT-03, CT-07: a socket that is older than the Service stays connected while another proxy's
/// translation leads it to an endpoint: until that endpoint leaves, or the kernel forgets the flow.
#[test]
fn ct_03_sockets_that_conntrack_leads_to_an_endpoint_are_left_alone() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let node = served.node().unwrap();
    let to = vip(Family::V4, 10);
    let lead =
        format!("add rule ip lead pre udp dport 80 dnat to {}", pods[2].at(Family::V4, 8080));
    let nft = |line: &str| node.output("nft", [line]).unwrap();
    nft("add table ip lead");
    nft("add chain ip lead pre { type nat hook prerouting priority dstnat; }");
    nft(&lead);
    let mut moved = Client::connect(&pods[0], to);
    assert_eq!(moved.insist(), "pod-2-1", "by conntrack");
    let mut web = served.expose("web", 10, &pods[2..4]).unwrap();
    let mut prompt = Client::connect(&pods[1], to);
    prompt.insist();
    thread::sleep(LIMIT);
    assert!(moved.is_connected() && moved.insist() == "pod-2-1");
    web.take_out(&pods[2]);
    web.write().unwrap();
    moved.await_abort();
    assert_eq!(moved.insist(), "pod-2-2", "by the programs");
    assert!(!moved.aborts.is_empty());
}

/// How long a client may stay where nobody is.
const LIMIT: Duration = Duration::from_secs(2);
