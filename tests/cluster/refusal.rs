// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An API server that refuses: what is in the maps serves on, and the log says what to do.

use std::{fs, path::Path, process::Command, time::Duration};

use lab::{
    agent::{Agent, AgentSpec},
    cluster::{User, agent_role},
    driver::Driver,
    need_lab,
    place::bounded_output,
    wait,
    wire::{AskSpec, Family},
};
use serde_json::Value;

use crate::fixture::{Watched, await_alive, await_log, service, vip};

/// SYN-03, HLZ-05: 401, 403 on one watch, somebody else's certificate, nobody there.
#[test]
fn an_api_server_that_refuses_is_named_and_tried_again() {
    need_lab!();
    let mut watched = Watched::start().unwrap();
    watched.apply(&service("web", 50, "app: web", ""));
    watched.await_inside(&vip(Family::V4, 50), 4);
    let driver = watched.lab.pod("pod-1-1").unwrap().driver().unwrap();
    for (name, text, says) in unusable(&watched) {
        let file = watched.lab.dir().join(name);
        fs::write(&file, text).unwrap();
        restart(&mut watched, &file);
        waits(&mut watched.agents[0], &driver, says);
        let log = watched.agents[0].log();
        let lines = log.lines().filter(|line| line.contains(says[0]) && line.contains("services"));
        assert_eq!(lines.count(), 1, "{name}: once, not at every attempt:\n{log}");
    }

    // 403 on one watch of three; rights that come are used.
    let role = agent_role().unwrap();
    watched
        .cluster
        .grant(&role.replace("resources: [endpointslices]", "resources: [none]"))
        .unwrap();
    let file = watched.cluster.kubeconfig(User::Agent);
    restart(&mut watched, &file);
    let refused = "cannot watch endpointslices.discovery.k8s.io: the API server answers 403";
    waits(&mut watched.agents[0], &driver, &[refused, "its role needs list and watch of it"]);
    let log = watched.agents[0].log();
    assert!(!log.contains("cannot watch nodes: the API server answers 403"), "{log}");
    watched.cluster.grant(&role).unwrap();
    watched.agents[0].wait_ready(Duration::from_secs(30)).unwrap();
    await_log(&watched.agents[0], "source recovered");
    assert_eq!(watched.agents[0].healthz().unwrap().0, 200);
    driver.ask(AskSpec::tcp(vip(Family::V6, 50))).unwrap();
    without_service_cidrs(&mut watched, &role, &driver);
}

/// CIP-05: an agent that may not list ServiceCIDRs is ready without them, says once what is lost
/// and which right mends it, and takes them up when it gets that.
fn without_service_cidrs(watched: &mut Watched, role: &str, driver: &Driver) {
    let free = |agent: &Agent| {
        let free = vip(Family::V4, 199).to_string();
        agent.verb(&["explain", &format!("{free}/TCP")]).unwrap().stdout
    };
    assert!(free(&watched.agents[0]).contains("CIP-05"), "{}", free(&watched.agents[0]));
    let less = role.replace("resources: [servicecidrs]", "resources: [none]");
    watched.cluster.grant(&less).unwrap();
    let file = watched.cluster.kubeconfig(User::Agent);
    restart(watched, &file);
    let agent = &mut watched.agents[0];
    agent.wait_ready(Duration::from_secs(30)).unwrap();
    assert_eq!((agent.healthz().unwrap().0, agent.livez().unwrap().0), (200, 200));
    let told = "free addresses of ServiceCIDRs are left to routing and not dropped (CIP-05)";
    await_log(agent, told);
    let failures = "sluice_source_failures_total{reason=\"403\",\
        resource=\"servicecidrs.networking.k8s.io\",verb=\"watch\"}";
    let again = || agent.metric(failures).is_ok_and(|count| count >= 3.0);
    wait::until(Duration::from_secs(30), "three refusals", again).unwrap();
    let log = agent.log();
    assert_eq!(log.matches(told).count(), 1, "once, not at every attempt:\n{log}");
    assert!(log.contains("{apiGroups: [networking.k8s.io], resources: [servicecidrs]"), "{log}");
    assert!(!free(agent).contains("CIP-05"), "{}", free(agent));
    driver.ask(AskSpec::tcp(vip(Family::V4, 50))).unwrap();
    assert_eq!(agent.readyz().unwrap().0, 200);

    watched.cluster.grant(role).unwrap();
    let agent = &watched.agents[0];
    let dropped = || free(agent).contains("CIP-05");
    wait::until(Duration::from_secs(30), "ServiceCIDRs to be taken up", dropped).unwrap();
}

/// A kubeconfig each, and what the agent says of it.
fn unusable(watched: &Watched) -> [(&'static str, String, &'static [&'static str]); 3] {
    let sound = fs::read(watched.cluster.kubeconfig(User::Agent)).unwrap();
    let sound: Value = serde_json::from_slice(&sound).unwrap();
    let with = |place: &str, value: &str| {
        let mut file = sound.clone();
        *file.pointer_mut(place).unwrap() = value.into();
        file.to_string()
    };
    let authority = watched.lab.dir().join("other.crt");
    another_certificate(&authority);
    let nobody = with("/clusters/0/cluster/server", "https://192.168.50.2:1");
    let other = with("/clusters/0/cluster/certificate-authority", &authority.to_string_lossy());
    [
        (
            "token",
            with("/users/0/user/token", "nonsense"),
            &["answers 401", "cannot watch services", "are the credentials of this agent valid?"],
        ),
        ("nobody", nobody, &["Connection refused", "cannot watch services"]),
        (
            "certificate",
            other,
            &["invalid peer certificate", "cannot watch services", "is the certificate authority"],
        ),
    ]
}

/// Ends the agent of node-1 and starts it with another kubeconfig.
fn restart(watched: &mut Watched, kubeconfig: &Path) {
    watched.agents[0].kill().unwrap();
    let node = watched.lab.node("node-1").unwrap();
    watched.agents[0] = Agent::spawn(node, &AgentSpec::kubeconfig(kubeconfig)).unwrap();
}

/// The agent says so, is alive and not ready, and sockets are served meanwhile.
fn waits(agent: &mut Agent, driver: &Driver, says: &[&str]) {
    for part in says {
        await_log(agent, part);
    }
    await_alive(agent);
    assert_eq!(agent.healthz().unwrap().0, 503, "its Node is not known");
    assert_eq!(agent.readyz().unwrap().0, 503);
    assert!(agent.process().is_running());
    for family in Family::BOTH {
        driver.ask(AskSpec::tcp(vip(family, 50))).unwrap();
        driver.ask(AskSpec::udp(vip(family, 50))).unwrap();
    }
}

/// A certificate that the API server's was not signed with.
fn another_certificate(path: &Path) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"]);
    command.args(["-keyout", "/dev/null", "-out"]).arg(path);
    let (code, _, stderr) = bounded_output(command, Duration::from_secs(20)).unwrap();
    assert_eq!(code, Some(0), "{stderr}");
}
