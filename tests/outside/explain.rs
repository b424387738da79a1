// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `explain` says of clients outside is what happens to them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use lab::{
    driver::Driver,
    need_lab,
    wire::{AskSpec, Family},
};
use serde_json::Value;

use crate::bed::{ALGORITHM, Bed, PROTOCOLS, Way};

/// What is to be expected, in the words of `explain`.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// The backends, and as whom each sees the client, if not as itself.
    Goes(BTreeMap<IpAddr, Option<IpAddr>>),
    Refused,
    Silent,
}

/// Of clients outside and a pod of another node, to every kind of frontend, under each policy,
/// with and without endpoints and ranges (TRP-12, TRP-13, TRP-18, LB-06, NOEP-01, NOEP-03,
/// CIP-03).
#[test]
fn what_explain_says_of_a_client_outside_is_what_it_meets() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    let client = bed.served.lab.client();
    let mut web = bed.expose(&[pods[0].clone(), pods[2].clone()], |_| {});
    let both = |check: &dyn Fn(Family, &str)| {
        for (family, protocol) in Family::BOTH.into_iter().flat_map(|it| PROTOCOLS.map(|p| (it, p)))
        {
            check(family, protocol);
        }
    };
    both(&|family, protocol| {
        for way in Way::ALL {
            let from = client.address(family);
            let told = compare(&bed, &bed.client, from, way.at(bed.node(1), family), protocol);
            let Told::Goes(backends) = told else { panic!("{told:?}") };
            assert_eq!(backends[&pods[0].address(family)], None);
            assert_eq!(backends[&pods[2].address(family)], Some(bed.node(1).address(family)));
        }
    });
    // A pod of the other node, which dials this one's NodePort, and is no client of its own.
    let (stranger, driver) = (&pods[3], pods[3].driver().unwrap());
    both(&|family, protocol| {
        let to = Way::NodePort.at(bed.node(1), family);
        compare(&bed, &driver, stranger.address(family), to, protocol);
    });

    let others = ["10.9.0.0/16".to_owned(), "2001:db8:9::/48".to_owned()];
    let spec = web.service.spec.as_mut().unwrap();
    spec.load_balancer_source_ranges = Some(others.to_vec());
    bed.rewrite(&web);
    let vip = |family| Way::Vip.at(bed.node(1), family);
    let told = compare(&bed, &bed.client, client.v4.into(), vip(Family::V4), "TCP");
    assert_eq!(told, Told::Silent);

    web.withdraw().unwrap();
    let local = |spec: &mut k8s_openapi::api::core::v1::ServiceSpec| {
        spec.external_traffic_policy = Some("Local".to_owned());
    };
    let web = bed.expose(&pods[2..3], local);
    let told = compare(&bed, &bed.client, client.v4.into(), vip(Family::V4), "UDP");
    assert_eq!(told, Told::Silent);
    let routed = Way::ClusterIp.at(bed.node(1), Family::V6);
    compare(&bed, &bed.client, client.v6.into(), routed, "TCP");
    web.withdraw().unwrap();

    let _empty = bed.expose(&[], local);
    both(&|family, protocol| {
        let told = compare(&bed, &bed.client, client.address(family), vip(family), protocol);
        assert_eq!(told, Told::Refused);
    });
}

/// SVC-11, CT-01: of a client's port a Maglev Service has one backend, which is told beforehand, and
/// afterwards as its flow.
#[test]
fn explain_knows_which_backend_maglev_has_for_a_port() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    let client = bed.served.lab.client();
    let mut web = bed.expose(&pods, |_| {});
    web.service.metadata.annotations = Some([(ALGORITHM.to_owned(), "maglev".to_owned())].into());
    bed.rewrite(&web);
    for (family, port) in Family::BOTH.into_iter().flat_map(|it| [41_001, 41_002].map(|p| (it, p)))
    {
        let (to, from) = (Way::Vip.at(bed.node(1), family), client.at(family, port));
        let before = explain(&bed, to, &from.to_string(), "UDP");
        let verdict = before["verdict"].as_str().unwrap();
        assert!(verdict.contains("which Maglev has for this client"), "{before}");
        let mut ask = AskSpec::udp(to);
        ask.socket.bind = Some(from);
        let pod = bed.client.ask(ask).unwrap().echo.pod;
        let pod = pods.iter().find(|it| it.name == pod).unwrap();
        let expected = format!("goes to {} of", pod.at(family, 8080));
        assert!(verdict.starts_with(&expected), "{expected}: {before}");
        let after = explain(&bed, to, &from.to_string(), "UDP");
        let expected =
            format!("goes on to {}, as a flow that is open (replied)", pod.at(family, 8080));
        assert!(after["verdict"].as_str().unwrap().starts_with(&expected), "{after}");
        let all = explain(&bed, to, &from.ip().to_string(), "UDP");
        assert!(!all["flows"].as_array().unwrap().is_empty(), "{all}");
    }
}

/// Asks `explain`, then has the client dial, and holds the one against the other.
fn compare(bed: &Bed, driver: &Driver, from: IpAddr, to: SocketAddr, protocol: &str) -> Told {
    let answer = explain(bed, to, &from.to_string(), protocol);
    let told = told(&answer);
    assert_eq!(
        (&answer["path"], answer["devices"].as_array().unwrap().len()),
        (&"device".into(), 1)
    );
    let mut ask = if protocol == "TCP" { AskSpec::tcp(to) } else { AskSpec::udp(to) };
    ask.socket.timeout_ms = if told == Told::Silent { 300 } else { ask.socket.timeout_ms };
    match (&told, driver.ask(ask)) {
        (Told::Goes(backends), Ok(met)) => {
            let pod = bed.pods().into_iter().find(|pod| pod.name == met.echo.pod).unwrap();
            let seen = backends[&pod.address(if to.is_ipv4() { Family::V4 } else { Family::V6 })];
            assert_eq!(met.echo.client.ip(), seen.unwrap_or(from), "{answer}");
        }
        (Told::Refused, Err(error)) => assert_eq!(error.name, "ECONNREFUSED", "{answer}"),
        (Told::Silent, Err(error)) => assert_eq!(error.name, "ETIMEDOUT", "{answer}"),
        (_, met) => panic!("{met:?}: {answer}"),
    }
    told
}

/// What the answer says.
fn told(answer: &Value) -> Told {
    let verdict = answer["verdict"].as_str().unwrap();
    if verdict.starts_with("is refused") {
        return Told::Refused;
    }
    if verdict.starts_with("gets no answer") {
        return Told::Silent;
    }
    assert!(verdict.starts_with("goes "), "{answer}");
    let steps = answer["steps"].as_array().unwrap().iter();
    let backends = steps.filter(|step| step["step"] == "backend").map(|step| {
        let (backend, rest) = step["found"].as_str().unwrap().split_once(' ').unwrap();
        let (_, seen) = rest.split_once(" sees ").unwrap();
        (backend.parse::<SocketAddr>().unwrap().ip(), seen.parse().ok())
    });
    Told::Goes(backends.collect())
}

/// `explain` on the first node.
fn explain(bed: &Bed, to: SocketAddr, from: &str, protocol: &str) -> Value {
    let target = format!("{to}/{protocol}");
    let printed = bed.agent(1).verb(&["explain", &target, "--from", from, "-o", "json"]).unwrap();
    serde_json::from_str(&printed.stdout).unwrap_or_else(|error| panic!("{error}: {printed:?}"))
}
