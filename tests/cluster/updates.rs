// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes of live Services.

use lab::wire::{AskSpec, Family};

use crate::fixture::{Watched, service, vip};

/// SVC-02, SVC-04, SVC-05, UPD-03, UPD-04, UPD-05, NP-01: types, ports and labels change on a
/// live Service; its ClusterIP goes on as long as it has one.
pub(crate) fn types_and_ports(watched: &Watched) {
    let driver = watched.clients().unwrap()[0].driver().unwrap();
    let node = watched.lab.node("node-1").unwrap();
    let frontend = vip(Family::V4, 51);
    let patch = |part: &str| {
        watched.kubectl(["patch", "service", "changing", "--type=merge", "-p", part]);
    };
    watched.apply(&service("changing", 51, "app: web", ""));
    watched.await_inside(&frontend, 4);

    patch(&ports(80, r#","nodePort":30080"#));
    watched.await_inside(&"*:30080", 4);
    driver.ask(AskSpec::tcp(node.at(Family::V6, 30080))).unwrap();
    driver.ask(AskSpec::tcp(frontend)).unwrap();

    patch(&ports(81, ""));
    watched.await_inside(&format!("{}:81", frontend.ip()), 4);
    watched.await_gone(&frontend);
    patch(&ports(80, ""));
    watched.await_inside(&frontend, 4);

    patch(r#"{"spec":{"type":"ClusterIP"}}"#);
    watched.await_gone(&"*:30080");
    driver.ask(AskSpec::tcp(frontend)).unwrap();

    // Somebody else's Service, and ours again.
    let label = |word: &str| watched.kubectl(["label", "service", "changing", word]);
    label("service.kubernetes.io/service-proxy-name=other");
    watched.await_gone(&frontend);
    label("service.kubernetes.io/service-proxy-name-");
    watched.await_inside(&frontend, 4);

    patch(
        r#"{"spec":{"type":"ExternalName","externalName":"example.org","clusterIP":null,
            "clusterIPs":null,"ipFamilies":null,"ipFamilyPolicy":null}}"#,
    );
    watched.await_gone(&frontend);
    assert!(driver.ask(AskSpec::tcp(frontend)).is_err());
    watched.kubectl(["delete", "service", "changing"]);
}

/// UPD-08: two Services over the same pods are two Services.
pub(crate) fn one_selector(watched: &Watched) {
    for (name, number) in [("twin-1", 61), ("twin-2", 62)] {
        watched.apply(&service(name, number, "app: web", ""));
        watched.await_inside(&vip(Family::V4, number), 4);
    }
    watched.kubectl(["delete", "service", "twin-2"]);
    watched.await_gone(&vip(Family::V4, 62));
    let driver = watched.clients().unwrap()[0].driver().unwrap();
    for _ in 0..20 {
        driver.ask(AskSpec::tcp(vip(Family::V4, 61))).unwrap();
    }
    let rows = watched.agents[0].services().unwrap();
    let kept = rows.iter().filter(|row| row.service.starts_with("default/twin-1:"));
    assert_eq!(kept.count(), 4, "two families, two protocols");
    watched.kubectl(["delete", "service", "twin-1"]);
}

/// A patch to type NodePort with one TCP port.
fn ports(number: u16, node_port: &str) -> String {
    format!(
        r#"{{"spec":{{"type":"NodePort","ports":[
        {{"name":"tcp","port":{number},"targetPort":8080,"protocol":"TCP"{node_port}}}]}}}}"#
    )
}
