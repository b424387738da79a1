// SPDX-License-Identifier: Apache-2.0 OR MIT
//! sessionAffinity: ClientIP.

use std::{collections::BTreeSet, net::SocketAddr, thread, time::Duration};

use k8s_openapi::api::core::v1 as core;
use lab::{
    driver::Driver,
    need_lab,
    served::{Served, plain, vip},
    wire::{AskSpec, Family, SocketSpec},
};
use serde_json::json;

/// AFF-01, AFF-03, AFF-04, AFF-11, MOD-08, SOC-07: a client stays, whatever its
/// port, the frontend and the number of its connections.
#[test]
fn aff_03_all_frontends_of_a_service_port_lead_to_one_backend() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose_as(sticky("web", 3600), &pods).unwrap();
    let node = served.node().unwrap();
    for place in [&pods[0].place, &pods[1].place, &node.place] {
        let driver = place.driver().unwrap();
        for family in Family::BOTH {
            let frontends = [vip(family, 10), node.at(family, 30080), external(family)];
            for ask in [AskSpec::tcp, AskSpec::udp, AskSpec::udp_unconnected] {
                let answered: BTreeSet<_> =
                    (0..8).flat_map(|_| frontends.map(|to| pod_of(&driver, ask(to)))).collect();
                assert_eq!(answered.len(), 1, "{} {family:?}: {answered:?}", place.name);
            }
        }
    }
    // Six service ports of three clients each: chance would not have put all on one.
    let rows = served.agent.backends().unwrap();
    assert!(rows.iter().all(|row| row.sockets == 0));
}

/// A socket that is bound to the pod's address is the same client as one that
/// is not (SOC-07).
#[test]
fn soc_07_binding_first_does_not_make_another_client() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose_as(sticky("web", 3600), &pods).unwrap();
    let driver = pods[0].driver().unwrap();
    for family in Family::BOTH {
        let to = vip(family, 10);
        let bound = SocketSpec { bind: Some(pods[0].at(family, 0)), ..AskSpec::tcp(to).socket };
        let free: BTreeSet<_> = (0..8).map(|_| pod_of(&driver, AskSpec::tcp(to))).collect();
        let fixed: BTreeSet<_> = (0..8)
            .map(|_| pod_of(&driver, AskSpec { socket: bound.clone(), ..AskSpec::tcp(to) }))
            .collect();
        assert_eq!((free.len(), fixed.len()), (1, 1), "{free:?} {fixed:?}");
    }
}

/// AFF-05, AFF-06, AFF-09: a pin holds through changes of others, ends with its
/// backend, and is forgotten when that comes back.
#[test]
fn aff_05_a_pin_ends_with_its_backend() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose_as(sticky("web", 3600), &pods).unwrap();
    let driver = pods[0].driver().unwrap();
    let ask = AskSpec::tcp(vip(Family::V4, 10));
    let mut now = pod_of(&driver, ask.clone());
    for _ in 0..4 {
        let other = pods.iter().find(|pod| pod.name != now).unwrap();
        let pinned = pods.iter().find(|pod| pod.name == now).unwrap();
        web.take_out(other);
        served.rewrite(&web).unwrap();
        assert_eq!(pod_of(&driver, ask.clone()), now, "others' changes are no concern");
        web.add(other).unwrap();
        served.rewrite(&web).unwrap();
        assert_eq!(pod_of(&driver, ask.clone()), now);
        web.take_out(pinned);
        served.rewrite(&web).unwrap();
        let next = pod_of(&driver, ask.clone());
        assert_ne!(next, now);
        web.add(pinned).unwrap();
        served.rewrite(&web).unwrap();
        for _ in 0..8 {
            assert_eq!(pod_of(&driver, ask.clone()), next, "no way back");
        }
        now = next;
    }
    // Draining counts as leaving: nothing new.
    let pinned = pods.iter().find(|pod| pod.name == now).unwrap();
    web.drain(pinned).unwrap();
    served.rewrite(&web).unwrap();
    assert_ne!(pod_of(&driver, ask), now);
}

/// AFF-02, AFF-10: an idle client is balanced anew.
#[test]
fn aff_10_a_pin_lapses_when_the_client_is_idle() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose_as(sticky("web", 1), &pods).unwrap();
    let driver = pods[0].driver().unwrap();
    let ask = AskSpec::tcp(vip(Family::V4, 10));
    let first = pod_of(&driver, ask.clone());
    // Longer than the timeout all in all, but never idle for so long.
    for _ in 0..15 {
        thread::sleep(Duration::from_millis(100));
        assert_eq!(pod_of(&driver, ask.clone()), first);
    }
    // Each lapse is a new pick of four: eight of the same pod in a row would be
    // a chance of one in 65536.
    let mut lapses = 0;
    loop {
        thread::sleep(Duration::from_millis(1050));
        lapses += 1;
        if pod_of(&driver, ask.clone()) != first {
            break;
        }
        assert!(lapses < 8, "still {first} after {lapses} lapses");
    }
}

/// AFF-08: switched on and off on a live Service.
#[test]
fn aff_08_affinity_comes_and_goes_with_the_field() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose_as(sticky("web", 3600), &pods).unwrap();
    let driver = pods[0].driver().unwrap();
    let to = vip(Family::V6, 10);
    let distinct = |count: usize| {
        let pods: BTreeSet<_> = (0..count).map(|_| pod_of(&driver, AskSpec::tcp(to))).collect();
        pods.len()
    };
    assert_eq!(distinct(15), 1);
    for affinity in ["None", "ClientIP", "None"] {
        web.service.spec.as_mut().unwrap().session_affinity = Some(affinity.to_owned());
        web.write().unwrap();
        let what = format!("affinity {affinity}");
        lab::wait::until(Duration::from_secs(10), &what, || {
            (distinct(20) == 1) == (affinity == "ClientIP")
        })
        .unwrap();
    }
}

/// The pod that answers.
fn pod_of(driver: &Driver, ask: AskSpec) -> String {
    driver.ask(ask).unwrap().echo.pod
}

/// A NodePort Service with an external IP and ClientIP affinity.
fn sticky(name: &str, timeout_secs: i32) -> core::Service {
    let mut service = plain(name, 10);
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("NodePort".to_owned());
    spec.external_traffic_policy = Some("Cluster".to_owned());
    spec.external_ips = Some(Family::BOTH.map(|family| external(family).ip().to_string()).into());
    spec.ports.iter_mut().flatten().for_each(|port| port.node_port = Some(30080));
    spec.session_affinity = Some("ClientIP".to_owned());
    let config = json!({ "clientIP": { "timeoutSeconds": timeout_secs } });
    spec.session_affinity_config = Some(serde_json::from_value(config).unwrap());
    service
}

/// Port 80 of the external IP.
fn external(family: Family) -> SocketAddr {
    let ip = if family == Family::V4 { "198.51.100.10" } else { "2001:db8:51::10" };
    SocketAddr::new(ip.parse().unwrap(), 80)
}
