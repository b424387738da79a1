// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Services that nobody serves.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1 as core;
use lab::{
    driver::Driver,
    need_lab,
    served::{Served, plain, vip},
    wire::{AskSpec, Family, HoldSpec, Kind},
};
use serde_json::json;

/// NOEP-01, NOEP-05, SOC-02: ECONNREFUSED from every call to every kind of
/// frontend, in every spelling; never EPERM.
#[test]
fn noep_05_a_service_without_endpoints_refuses_every_call() {
    need_lab!();
    let served = Served::start().unwrap();
    let mut service = plain("empty", 10);
    let external: Vec<IpAddr> =
        ["198.51.100.10", "2001:db8:51::10"].map(|ip| ip.parse().unwrap()).into();
    let vips = ["203.0.113.10", "2001:db8:113::10"];
    let spec = service.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.external_ips = Some(external.iter().map(ToString::to_string).collect());
    spec.ports.iter_mut().flatten().for_each(|port| port.node_port = Some(30080));
    let ingress = vips.map(|ip| json!({ "ip": ip }));
    service.status =
        serde_json::from_value(json!({ "loadBalancer": { "ingress": ingress } })).unwrap();
    served.expose_as(service, &[]).unwrap();
    let node = served.node().unwrap();
    let mut frontends: Vec<SocketAddr> =
        external.iter().map(|ip| SocketAddr::new(*ip, 80)).collect();
    frontends.extend(vips.map(|ip| SocketAddr::new(ip.parse().unwrap(), 80)));
    frontends.extend(Family::BOTH.map(|family| vip(family, 10)));
    frontends.extend(Family::BOTH.map(|family| node.at(family, 30080)));
    let mapped = frontends.clone().into_iter().filter_map(|frontend| match frontend.ip() {
        IpAddr::V4(v4) => Some(SocketAddr::new(v4.to_ipv6_mapped().into(), frontend.port())),
        IpAddr::V6(_) => None,
    });
    frontends.extend(mapped.collect::<Vec<_>>());
    assert_eq!(frontends.len(), 12);
    for place in [&served.lab.pod("pod-1-1").unwrap().place, &node.place] {
        let driver = place.driver().unwrap();
        for to in &frontends {
            refuses(&driver, *to);
        }
    }
    let driver = node.driver().unwrap();
    refuses(&driver, "127.0.0.1:30080".parse().unwrap());
    served.await_idle().unwrap();
}

/// NOEP-04, EP-03: an endpoint that is neither ready nor serving while it
/// terminates is no endpoint.
#[test]
fn noep_04_unready_endpoints_are_none() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[1..3]).unwrap();
    let driver = pods[0].driver().unwrap();
    web.backings.iter_mut().for_each(|backing| backing.ready = false);
    served.rewrite(&web).unwrap();
    refuses(&driver, vip(Family::V4, 10));
    // Terminating but serving: better than nothing (TRP-02).
    web.backings.iter_mut().for_each(|backing| backing.terminating = true);
    web.write().unwrap();
    served.await_inside(&vip(Family::V6, 10).to_string(), "UDP", &json!(2)).unwrap();
    driver.ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap();
    web.backings.iter_mut().for_each(|backing| backing.serving = false);
    web.write().unwrap();
    served.await_inside(&vip(Family::V6, 10).to_string(), "UDP", &json!("refuse")).unwrap();
    refuses(&driver, vip(Family::V4, 10));
}

/// NOEP-07, NOEP-11, CT-07, UPD-09: what is open goes on, what is new is refused,
/// and is served again at once when an endpoint is there.
#[test]
fn noep_11_the_last_endpoint_goes_and_comes() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[2..3]).unwrap();
    let driver = pods[0].driver().unwrap();
    let ask = AskSpec::tcp(vip(Family::V6, 10));
    let hold = HoldSpec { ask: ask.clone(), connections: 4, every_ms: 10 };
    let hold = driver.hold(hold).unwrap();
    for _ in 0..5 {
        web.take_out(&pods[2]);
        served.rewrite(&web).unwrap();
        refuses(&driver, vip(Family::V6, 10));
        web.add(&pods[2]).unwrap();
        served.rewrite(&web).unwrap();
        driver.ask(ask.clone()).unwrap();
    }
    let report = driver.stop_hold(hold).unwrap();
    assert!(report.breaks.is_empty() && report.pods["pod-2-1"] == 4, "{report:?}");
    served.await_idle().unwrap();
}

/// NOEP-02, NOEP-06, SOC-03, TRP-11, MOD-06: nothing here, something elsewhere.
#[test]
fn noep_02_a_local_policy_without_a_local_endpoint_is_silent() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let far = [pods[2].clone(), pods[3].clone()];
    let mut web = served.manifests.expose(&served.lab, local(), &far).unwrap();
    served.await_inside(&vip(Family::V6, 10).to_string(), "UDP", &json!("silent")).unwrap();
    let driver = pods[0].driver().unwrap();
    for family in Family::BOTH {
        let started = Instant::now();
        let to = vip(family, 10);
        for ask in [AskSpec::tcp(to), AskSpec::udp(to), AskSpec::udp_unconnected(to)] {
            assert_eq!(driver.ask(ask).unwrap_err().name, "ETIMEDOUT");
        }
        assert!(started.elapsed() < Duration::from_secs(5), "an error in time satisfies clients");
    }
    // One here: it, and only it, gets everything.
    web.add(&pods[1]).unwrap();
    web.write().unwrap();
    served.await_inside(&vip(Family::V6, 10).to_string(), "UDP", &json!(1)).unwrap();
    for _ in 0..20 {
        assert_eq!(driver.ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap().echo.pod, "pod-1-2");
    }
}

/// FAM-01, FAM-05: endpoints of one family serve one family.
#[test]
fn fam_05_the_family_without_endpoints_refuses() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let service = plain("web", 10);
    let mut slices = Vec::new();
    let node = served.node().unwrap();
    let backing = lab::objects::Backing::ready(&pods[1], node);
    for slice in lab::objects::slices(&service, &[backing]) {
        if slice.address_type == "IPv6" {
            slices.push(serde_json::to_value(slice).unwrap());
        }
    }
    slices.push(serde_json::to_value(&service).unwrap());
    served.manifests.write("half", &slices).unwrap();
    served.await_inside(&vip(Family::V6, 10).to_string(), "TCP", &json!(1)).unwrap();
    let driver = pods[0].driver().unwrap();
    driver.ask(AskSpec::tcp(vip(Family::V6, 10))).unwrap();
    refuses(&driver, vip(Family::V4, 10));
}

/// Every call says ECONNREFUSED, at once.
fn refuses(driver: &Driver, to: SocketAddr) {
    for ask in [AskSpec::tcp(to), AskSpec::udp(to), AskSpec::udp_unconnected(to)] {
        let call = if ask.unconnected { "sendto" } else { "connect" };
        let error = driver.ask(ask.clone()).unwrap_err();
        let told = (error.call.as_str(), error.name.as_str());
        assert_eq!(told, (call, "ECONNREFUSED"), "{ask:?}");
    }
    // A socket that was refused is as good as new.
    let sock = driver.open(Kind::Tcp, Family::of(to)).unwrap();
    assert_eq!(driver.connect(sock, to).unwrap_err().name, "ECONNREFUSED");
    assert_eq!(driver.connect(sock, to).unwrap_err().name, "ECONNREFUSED");
    driver.close(sock).unwrap();
}

/// A Service with internalTrafficPolicy Local.
fn local() -> core::Service {
    let mut service = plain("web", 10);
    service.spec.as_mut().unwrap().internal_traffic_policy = Some("Local".to_owned());
    service
}
