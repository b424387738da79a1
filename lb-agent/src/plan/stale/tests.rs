// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::{net::IpAddr, sync::Arc};

use super::*;
use crate::{
    model::{
        ObjectName,
        endpoint::EndpointSlice,
        node::Node,
        service::{Service, TrafficPolicy},
        snapshot::{Snapshot, Touched},
    },
    plan::fixture::{Build, endpoint, service, slice},
};

/// One Service with two ports of one slice, and what a ledger made of its changes.
#[derive(Default)]
struct World {
    snapshot: Snapshot,
    desired: Desired,
    ledger: Ledger,
}

impl World {
    /// With `dns`, UDP 53, and `web`, TCP 80, both on 10.96.0.1; nobody serves.
    fn new() -> Self {
        let mut world = Self::default();
        world.snapshot.node = Node::named("here");
        world.put(service("web", &["10.96.0.1"], &["dns=53/UDP", "web=80"]), "web");
        world
    }

    fn put(&mut self, service: Service, name: &str) -> Search {
        self.snapshot.services.insert(ObjectName::new("default", name), Arc::new(service));
        self.update()
    }

    /// Gives the Service this slice, its UDP target port being 5353.
    fn serve(&mut self, endpoints: Vec<Build>) -> Search {
        self.serve_at(&["dns=5353/UDP", "web=8080"], endpoints)
    }

    fn serve_at(&mut self, ports: &[&str], endpoints: Vec<Build>) -> Search {
        let slice: EndpointSlice = slice("web-1", ports, endpoints);
        let slices = self.snapshot.slices.entry(ObjectName::new("default", "web")).or_default();
        slices.insert(Arc::new(slice));
        self.update()
    }

    fn update(&mut self) -> Search {
        let changed = self.desired.update(&self.snapshot, &Touched::All);
        let mut search = Search::default();
        for name in changed.ports.into_iter().filter(PortName::is_udp) {
            let served = Served::of(&self.desired, &name);
            self.ledger.update((name, served), &mut search);
        }
        search
    }

    /// Whether a socket that dialled the ClusterIP and is connected to `backend` must leave.
    fn is_stale(&self, backend: &str) -> bool {
        self.ledger.is_stale(&peer("10.96.0.1:53"), &peer(backend))
    }
}

fn peer(text: &str) -> Peer {
    let address: std::net::SocketAddr = text.parse().unwrap();
    (address.ip().into(), Be16::from_host(address.port()))
}

fn left(peers: &[&str]) -> Search {
    Search { left: peers.iter().map(|text| peer(text)).collect(), is_first: false }
}

/// CT-01, CT-02: the endpoint that left is looked for, and only sockets of that service port
/// are concerned.
#[test]
fn ct_02_who_dialled_a_frontend_must_leave_an_endpoint_that_left_it() {
    let mut world = World::new();
    assert!(world.serve(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]).is_first);
    assert_eq!(world.serve(vec![endpoint("10.0.0.2")]), left(&["10.0.0.1:5353"]));
    assert!(world.is_stale("10.0.0.1:5353") && !world.is_stale("10.0.0.2:5353"));
    let dns = peer("10.96.0.1:53");
    let other = [peer("10.96.0.2:53"), peer("10.96.0.1:80"), peer("10.0.0.1:5353")];
    assert!(other.iter().all(|dialled| !world.ledger.is_stale(dialled, &peer("10.0.0.1:5353"))));
    assert!(!world.ledger.is_stale(&dns, &peer("10.0.0.2:5353")));
}

/// CT-01: a change of the Service alone, or of nothing that serves, is no reason to look.
#[test]
fn ct_01_only_endpoints_give_reason_to_look() {
    let mut world = World::new();
    world.serve(vec![endpoint("10.0.0.1")]);
    let mut other = service("web", &["10.96.0.1"], &["dns=53/UDP", "web=80"]);
    other.external_ips = vec!["192.0.2.1".parse().unwrap()];
    other.internal_policy = TrafficPolicy::Local;
    assert!(world.put(other, "web").is_empty());
    assert!(world.serve(vec![endpoint("10.0.0.1"), endpoint("10.0.0.3")]).is_empty());
    assert!(
        world.serve(vec![endpoint("10.0.0.1"), endpoint("10.0.0.4").down()])
            == left(&["10.0.0.3:5353"])
    );
    assert!(world.serve(vec![endpoint("10.0.0.1").on("elsewhere")]).is_empty());
}

/// CT-04: the same address with another port is another endpoint.
#[test]
fn ct_04_a_changed_target_port_is_another_endpoint() {
    let mut world = World::new();
    world.serve(vec![endpoint("10.0.0.1")]);
    let search = world.serve_at(&["dns=5354/UDP", "web=8080"], vec![endpoint("10.0.0.1")]);
    assert_eq!(search, left(&["10.0.0.1:5353"]));
    assert!(world.is_stale("10.0.0.1:5353") && !world.is_stale("10.0.0.1:5354"));
}

/// CT-05: what serves while it terminates, is not ready, or is on another node under a Local
/// policy, keeps its sockets; what does not serve loses them.
#[test]
fn ct_05_whoever_serves_keeps_its_sockets_whatever_policy_says() {
    let mut world = World::new();
    let mut local = service("web", &["10.96.0.1"], &["dns=53/UDP", "web=80"]);
    local.internal_policy = TrafficPolicy::Local;
    world.put(local, "web");
    let all = |second: Build, third: Build, fourth: Build| {
        vec![endpoint("10.0.0.1").on("here"), second, third, fourth]
    };
    let [two, three, four] = ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|it| move || endpoint(it));
    world.serve(all(two(), three(), four().on("there")));
    let search = world.serve(all(two().draining(), three().serving(), four().on("there")));
    assert!(search.is_empty(), "{search:?}");
    assert!(
        ["10.0.0.2:5353", "10.0.0.3:5353", "10.0.0.4:5353"].iter().all(|it| !world.is_stale(it))
    );
    let search = world.serve(all(two().stopping(), three().down(), four().on("there")));
    assert_eq!(search, left(&["10.0.0.2:5353", "10.0.0.3:5353"]));
}

/// CT-06: while nobody serves nothing is touched; the first that does ends that.
#[test]
fn ct_06_without_a_serving_endpoint_nothing_is_stale() {
    let mut world = World::new();
    world.serve(vec![endpoint("10.0.0.1")]);
    assert!(world.serve(vec![endpoint("10.0.0.1").down()]).is_empty());
    assert!(!world.is_stale("10.0.0.1:5353"));
    assert!(world.serve(vec![endpoint("10.0.0.2")]).is_first);
    assert!(world.is_stale("10.0.0.1:5353"));
}

/// CT-03: a socket whose peer is a frontend was never translated. Not so where the frontend's
/// address is an endpoint's too, where nobody serves, and at another node's address.
#[test]
fn ct_03_a_peer_that_is_a_frontend_was_never_translated() {
    let node: IpAddr = "192.0.2.10".parse().unwrap();
    let nodes = BTreeSet::from([Addr::from(node)]);
    let mut world = World::new();
    let mut exposed = service("web", &["10.96.0.1"], &["dns=53/UDP", "web=80"]);
    exposed.external_ips = vec!["192.0.2.99".parse().unwrap()];
    exposed.ports[0].node_port = NonZeroU16::new(30053);
    exposed.ports[1].node_port = NonZeroU16::new(30080);
    world.put(exposed, "web");
    let frontends = ["10.96.0.1:53", "192.0.2.99:53", "192.0.2.10:30053"].map(peer);
    let is_untranslated = |world: &World, peer: &Peer| world.ledger.is_untranslated(peer, &nodes);
    assert!(frontends.iter().all(|peer| !is_untranslated(&world, peer)), "nobody serves");
    world.serve_at(&["dns=53/UDP", "web=80"], vec![endpoint("10.0.0.1")]);
    assert!(frontends.iter().all(|peer| is_untranslated(&world, peer)));
    for other in ["10.96.0.1:80", "192.0.2.10:53", "192.0.2.11:30053", "192.0.2.10:30080"] {
        assert!(!is_untranslated(&world, &peer(other)), "{other}");
    }
    world.serve_at(&["dns=53/UDP"], vec![endpoint("192.0.2.99")]);
    assert!(!is_untranslated(&world, &peer("192.0.2.99:53")), "it is the endpoint itself");
}

/// COL-03: who has a frontend now decides, in whichever order the changes are told.
#[test]
fn col_03_the_new_owner_of_a_frontend_decides() {
    let frontend =
        Frontend::new("10.96.0.1".parse().unwrap(), NonZeroU16::new(53).unwrap(), Protocol::UDP);
    let frontends: Box<[_]> = [frontend.unwrap()].into();
    let name = |text: &str| PortName { text: text.into(), family: Family::V4 };
    let served = |backend| Served { frontends: frontends.clone(), serving: [peer(backend)].into() };
    for order in [[0, 1], [1, 0]] {
        let mut ledger = Ledger::default();
        let mut search = Search::default();
        ledger.update((name("a/UDP"), Some(served("10.0.0.1:53"))), &mut search);
        let updates = [(name("a/UDP"), None), (name("b/UDP"), Some(served("10.0.0.2:53")))];
        for index in order {
            ledger.update(updates[index].clone(), &mut search);
        }
        assert!(ledger.is_stale(&peer("10.96.0.1:53"), &peer("10.0.0.1:53")));
        assert!(!ledger.is_stale(&peer("10.96.0.1:53"), &peer("10.0.0.2:53")));
        ledger.update((name("b/UDP"), None), &mut search);
        assert!(!ledger.is_stale(&peer("10.96.0.1:53"), &peer("10.0.0.1:53")) && ledger.is_empty());
    }
}
