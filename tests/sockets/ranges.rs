// SPDX-License-Identifier: Apache-2.0 OR MIT
//! loadBalancerSourceRanges, for clients on the node.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use k8s_openapi::api::core::v1 as core;
use lab::{
    driver::Driver,
    manifests::Exposed,
    need_lab,
    place::Place,
    served::{Served, plain, vip},
    wait,
    wire::{AskSpec, Family, HoldSpec, SocketSpec},
};
use serde_json::json;

/// LB-06, LB-08, LB-10, SOC-03, SOC-07: judged by the address of the pod, whatever call it
/// makes and however it spells the VIP; ClusterIP, NodePort and externalIP are open.
#[test]
fn lb_06_a_pod_outside_of_the_ranges_gets_no_answer_from_a_vip() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let _web = expose(&served, &ranges_of(&pods[0].place), true);
    let (inside, outside) = (pods[0].driver().unwrap(), pods[1].driver().unwrap());
    let node = served.node().unwrap().driver().unwrap();
    for to in balancers() {
        answers(&inside, to);
        is_silent(&outside, to);
        is_silent(&node, to);
    }
    let open = ["198.51.100.10:80", "[2001:db8:51::10]:80"].map(|to| to.parse().unwrap());
    let clusters = Family::BOTH.map(|family| vip(family, 10));
    let ports = Family::BOTH.map(|family| served.node().unwrap().at(family, 30080));
    for to in [open, clusters, ports].concat() {
        answers(&outside, to);
    }
    assert!(served.agent.counter("dropped_source_range").unwrap() >= 18);
}

/// LB-06, SOC-07: a socket that is bound is judged by its own address, and a pod with several
/// by all of them, since nobody knows yet which one the kernel will choose.
#[test]
fn lb_06_several_addresses_must_all_be_admitted_unless_one_is_bound() {
    need_lab!();
    let served = Served::start().unwrap();
    let place = &served.lab.pods()[0].place;
    let _web = expose(&served, &ranges_of(place), true);
    let driver = place.driver().unwrap();
    for (address, family) in [("10.244.1.99/32", Family::V4), ("fd00:10:244:1::99/128", Family::V6)]
    {
        let to = balancer(family);
        // One whose uniqueness is still looked into is nobody's source.
        let more = if family == Family::V6 { " nodad" } else { "" };
        answers(&driver, to);
        place.ip(&format!("addr add {address} dev eth0{more}")).unwrap();
        is_silent(&driver, to);
        let bound = |address: IpAddr| {
            let ask = AskSpec::tcp(to);
            let bind = Some(SocketAddr::new(address, 0));
            driver.ask(AskSpec { socket: SocketSpec { bind, ..ask.socket }, ..ask })
        };
        bound(place.address(family)).unwrap();
        let other = address.split_once('/').unwrap().0.parse().unwrap();
        assert_eq!(bound(other).unwrap_err().name, "ETIMEDOUT");
        place.ip(&format!("addr del {address} dev eth0")).unwrap();
        answers(&driver, to);
    }
}

/// LB-09: a process of the node is judged by the node's own address, and may also come from
/// the VIP where that is an address of the node.
#[test]
fn lb_09_the_node_comes_in_where_its_address_may() {
    need_lab!();
    let served = Served::start().unwrap();
    let node = served.node().unwrap();
    let mut web = expose(&served, &ranges_of(&served.lab.pods()[0].place), true);
    let driver = node.driver().unwrap();
    is_silent(&driver, balancer(Family::V4));
    set_ranges(&served, &mut web, &ranges_of(&node.place));
    for to in balancers() {
        answers(&driver, to);
    }
    is_silent(&served.lab.pods()[0].driver().unwrap(), balancer(Family::V4));
    node.place.ip("addr add 203.0.113.10/32 dev lo").unwrap();
    let ask = AskSpec::tcp(balancer(Family::V4));
    let bind = Some("203.0.113.10:0".parse().unwrap());
    driver.ask(AskSpec { socket: SocketSpec { bind, ..ask.socket }, ..ask }).unwrap_err();
    assert_eq!(served.agent.counter("dropped_source_range").unwrap(), 6, "not for its source");
}

/// LB-11: with ranges and without endpoints, a blocked client hears nothing.
#[test]
fn lb_11_a_blocked_client_is_not_refused() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let _web = expose(&served, &ranges_of(&pods[0].place), false);
    for to in balancers() {
        is_silent(&pods[1].driver().unwrap(), to);
        let refused = pods[0].driver().unwrap().ask(AskSpec::tcp(to)).unwrap_err();
        assert_eq!(refused.name, "ECONNREFUSED");
    }
}

/// LB-12, UPD-06: what is open goes on; LB-07, LB-08: a list that is lifted admits everybody.
#[test]
fn lb_12_a_change_of_ranges_judges_new_connections_only() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = expose(&served, &[], true);
    let driver = pods[1].driver().unwrap();
    let ask = AskSpec::tcp(balancer(Family::V6));
    let hold = HoldSpec { ask: ask.clone(), connections: 4, every_ms: 10 };
    let hold = driver.hold(hold).unwrap();
    set_ranges(&served, &mut web, &ranges_of(&pods[0].place));
    is_silent(&driver, balancer(Family::V6));
    set_ranges(&served, &mut web, &["fd00:10:244::/48".to_owned()]);
    answers(&driver, balancer(Family::V6));
    answers(&driver, balancer(Family::V4));
    set_ranges(&served, &mut web, &[]);
    answers(&driver, balancer(Family::V4));
    let report = driver.stop_hold(hold).unwrap();
    assert!(report.breaks.is_empty(), "{report:?}");
}

/// `default/web` with a VIP and an externalIP of each family and a node port, over the pods
/// of the second node.
fn expose(served: &Served, ranges: &[String], has_endpoints: bool) -> Exposed {
    let mut service: core::Service = plain("web", 10);
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.external_ips = Some(vec!["198.51.100.10".to_owned(), "2001:db8:51::10".to_owned()]);
    spec.load_balancer_source_ranges = Some(ranges.to_vec());
    spec.ports.iter_mut().flatten().for_each(|port| port.node_port = Some(30080));
    let ingress = Family::BOTH.map(|family| json!({ "ip": balancer(family).ip() }));
    service.status =
        serde_json::from_value(json!({ "loadBalancer": { "ingress": ingress } })).unwrap();
    let pods = served.lab.pods();
    served.expose_as(service, if has_endpoints { &pods[2..] } else { &[] }).unwrap()
}

/// Gives the Service other ranges and waits until the kernel has them.
fn set_ranges(served: &Served, web: &mut Exposed, ranges: &[String]) {
    web.service.spec.as_mut().unwrap().load_balancer_source_ranges = Some(ranges.to_vec());
    web.write().unwrap();
    wait::for_value(LIMIT, "the ranges", || {
        let rows = served.agent.services()?;
        let mut shown: Vec<_> = rows.into_iter().flat_map(|row| row.source_ranges).collect();
        shown.sort();
        shown.dedup();
        let mut wanted = ranges.to_vec();
        wanted.sort();
        anyhow::ensure!(shown == wanted, "{shown:?}");
        Ok(())
    })
    .unwrap();
}

/// A place's own addresses, as ranges.
fn ranges_of(place: &Place) -> [String; 2] {
    [format!("{}/32", place.v4), format!("{}/128", place.v6)]
}

fn balancer(family: Family) -> SocketAddr {
    match family {
        Family::V4 => "203.0.113.10:80".parse().unwrap(),
        Family::V6 => "[2001:db8:113::10]:80".parse().unwrap(),
    }
}

/// The VIPs, and the IPv4 one as an IPv6 socket dials it.
fn balancers() -> [SocketAddr; 3] {
    let [four, six] = Family::BOTH.map(balancer);
    let IpAddr::V4(v4) = four.ip() else { panic!("{four}") };
    [four, six, SocketAddr::new(v4.to_ipv6_mapped().into(), 80)]
}

fn answers(driver: &Driver, to: SocketAddr) {
    for ask in [AskSpec::tcp(to), AskSpec::udp(to), AskSpec::udp_unconnected(to)] {
        driver.ask(ask.clone()).unwrap_or_else(|error| panic!("{ask:?}: {error:?}"));
    }
}

/// Every call ends as silence does, at once.
fn is_silent(driver: &Driver, to: SocketAddr) {
    for ask in [AskSpec::tcp(to), AskSpec::udp(to), AskSpec::udp_unconnected(to)] {
        let call = if ask.unconnected { "sendto" } else { "connect" };
        let error = driver.ask(ask.clone()).unwrap_err();
        let told = (error.call.as_str(), error.name.as_str());
        assert_eq!(told, (call, "ETIMEDOUT"), "{ask:?}");
    }
}

const LIMIT: Duration = Duration::from_secs(10);
