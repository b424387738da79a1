// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the node shows of a Service beside sockets that reach it: nothing.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use lab::{
    need_lab,
    objects::{self, Port},
    place::binary,
    served::{Served, cluster_ips, plain, vip},
    wire::{AskSpec, Family},
};
use serde_json::json;

/// MOD-14: a Service's addresses are on no device, and nobody answers for them on the wire.
#[test]
fn mod_14_a_vip_is_on_no_device_and_answers_no_arp() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut service = plain("web", 10);
    let balancer = ["203.0.113.10", "2001:db8:113::10"];
    let ingress = balancer.map(|ip| json!({ "ip": ip }));
    service.spec.as_mut().unwrap().type_ = Some("LoadBalancer".to_owned());
    service.status =
        serde_json::from_value(json!({ "loadBalancer": { "ingress": ingress } })).unwrap();
    served.expose_as(service, &pods).unwrap();
    let node = served.node().unwrap();
    let mut vips = balancer.map(str::to_owned).to_vec();
    vips.extend(cluster_ips(10).map(|ip| ip.to_string()));
    for place in [&node.place, &pods[0].place] {
        let addresses = place.output("ip", ["-oneline", "address"]).unwrap();
        assert!(addresses.contains(&place.v4.to_string()), "{addresses}");
        assert!(vips.iter().all(|vip| !addresses.contains(vip)), "{addresses}");
    }
    // A neighbour on the node's link asks for them there.
    let client = served.lab.client();
    client.ip("route add 203.0.113.10/32 dev eth0").unwrap();
    client.ip("route add 192.168.50.99/32 dev eth0").unwrap();
    for nobody in ["203.0.113.10:80", "192.168.50.99:80"] {
        let mut ask = AskSpec::tcp(nobody.parse().unwrap());
        ask.socket.timeout_ms = 10_000;
        let error = client.driver().unwrap().ask(ask).unwrap_err();
        assert_eq!(error.name, "EHOSTUNREACH", "{nobody}");
    }
}

/// PRT-02: an SCTP Service makes the agent open no SCTP socket, which would load the module.
#[test]
fn prt_02_an_sctp_service_opens_no_sctp_socket() {
    need_lab!();
    let traces = tempfile::tempdir().unwrap();
    let program = traced_agent(traces.path());
    let builder = lab::Lab::builder();
    let mut served = Served::with(builder, |mut spec| {
        spec.program = Some(program);
        spec
    })
    .unwrap();
    let pods = served.lab.pods();
    let sctp = Port { name: "sctp", protocol: "SCTP", port: 80, target: 8080 };
    let tcp = Port { name: "tcp", protocol: "TCP", port: 80, target: 8080 };
    let web = objects::service("web", &cluster_ips(10), &[sctp, tcp]);
    served.expose_as(web, &pods).unwrap();
    pods[0].driver().unwrap().ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap();
    served.agent.stop().unwrap();
    let calls = fs::read_dir(traces.path().join("calls")).unwrap();
    let calls: String =
        calls.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(
        calls.contains("socket(AF_NETLINK") && calls.contains("socket(AF_INET, SOCK_STREAM"),
        "{calls}"
    );
    assert!(!calls.contains("SCTP"), "{calls}");
}

/// A program that runs the agent and writes down each socket(2) call of it.
fn traced_agent(directory: &Path) -> std::path::PathBuf {
    let agent = binary("lb-agent", "LB_AGENT").unwrap();
    let calls = directory.join("calls");
    fs::create_dir(&calls).unwrap();
    let program = directory.join("traced");
    let script = format!(
        "#!/bin/sh\nexec strace -D -f -qq -e trace=socket -o {}/$$ {} \"$@\"\n",
        calls.display(),
        agent.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    program
}
