// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is tried in a guest: the ways of a Service's client that depend on the kernel, once each.
//! The tests of the other levels try them in full, on the kernel of the machine that runs them.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Result, ensure};
use aya::{maps::loaded_maps, programs::loaded_programs};
use lab::{
    Lab,
    agent::{Agent, Printed},
    driver::{Driver, Outcome},
    place::bounded_output,
    served::{Served, plain, vip},
    shown::{ProgramRow, json_lines},
    wait,
    wire::{Answer, AskSpec, Echo, Family, Kind, Sock},
};
use serde_json::json;

use crate::say;

/// All steps, each with its line.
///
/// # Errors
/// When a step cannot be taken; the console then lacks the lines of those after it.
pub(crate) fn run() -> Result<()> {
    if !check()? {
        return refusal();
    }
    let mut served = Served::with(Lab::builder().nodes(1).pods(3), |spec| spec)?;
    let programs = served.agent.programs()?;
    let attached = programs.iter().filter(|program| program.kind.is_some()).count();
    say(&format!("run: ready, {attached} of {} programs attached", programs.len()));
    let at_device =
        |program: &ProgramRow| program.kind.clone().filter(|_| program.device.is_some());
    let kinds: Vec<_> = programs.iter().filter_map(at_device).collect();
    say(&format!("programs at eth0: {}", kinds.join(", ")));
    calls(&served)?;
    refused(&served)?;
    ranges(&served)?;
    outside(&served)?;
    stale(&served)?;
    restart(&mut served)?;
    unload(&mut served)
}

/// `check` on the root of the cgroup tree; whether the agent can run.
fn check() -> Result<bool> {
    let printed = agent(&["check", "-o", "json"])?;
    // Its exit code is what is asked; what it printed is the same either way.
    for row in json_lines(&Printed { code: Some(0), ..printed.clone() })? {
        let text = |key: &str| row.get(key).and_then(|text| text.as_str()).unwrap_or_default();
        say(&format!("check: {}: {}", text("requirement"), text("state")));
    }
    Ok(printed.code == Some(0))
}

/// What `run` says where `check` says that something is missing.
fn refusal() -> Result<()> {
    let printed = agent(&["run", "--manifests", "/run", "--node-name", "node-1"])?;
    let last = printed.stderr.lines().last().unwrap_or_default();
    say(&format!("run: exit code {:?}: {last}", printed.code.unwrap_or_default()));
    Ok(())
}

/// Every call, both families.
fn calls(served: &Served) -> Result<()> {
    served.expose("web", 10, &[served.lab.pod("pod-1-3")?])?;
    let rows = served.agent.services()?;
    let with_one = rows.iter().filter(|row| row.inside == json!(1)).count();
    say(&format!("show services: {} rows, {with_one} with one backend", rows.len()));
    let driver = served.lab.pod("pod-1-1")?.driver()?;
    for (call, ask) in [
        ("tcp", AskSpec::tcp as fn(_) -> _),
        ("udp", AskSpec::udp),
        ("sendto", AskSpec::udp_unconnected),
    ] {
        for family in Family::BOTH {
            let to = vip(family, 10);
            say(&format!("{call} to {to}: {}", answer(driver.ask(ask(to)))));
        }
    }
    let mapped = "[::ffff:10.96.0.10]:80".parse()?;
    say(&format!("tcp to {mapped}: {}", answer(driver.ask(AskSpec::tcp(mapped)))));
    Ok(())
}

/// Who answered, and what the client sees of it; or the error's name.
fn answer(outcome: Outcome<Answer>) -> String {
    match outcome {
        Ok(Answer { echo, peer: Some(peer), .. }) => format!("{}, peer {peer}", echo.pod),
        Ok(Answer { echo, from: Some(from), .. }) => format!("{}, from {from}", echo.pod),
        Ok(Answer { echo, .. }) => echo.pod,
        Err(error) => error.name,
    }
}

/// NOEP-05: what a Service without endpoints does, by `bpf_set_retval`.
fn refused(served: &Served) -> Result<()> {
    served.expose("empty", 11, &[])?;
    let driver = served.lab.pod("pod-1-1")?.driver()?;
    let to = vip(Family::V4, 11);
    let [connect, sendto] = [AskSpec::tcp(to), AskSpec::udp_unconnected(to)];
    let [connect, sendto] = [connect, sendto].map(|ask| answer(driver.ask(ask)));
    say(&format!("without endpoints: connect {connect}, sendto {sendto}"));
    Ok(())
}

/// LB-06: a pod is judged by its addresses, which the programs find in kernel memory at offsets
/// that differ from kernel to kernel.
fn ranges(served: &Served) -> Result<()> {
    let (inside, outside) = (served.lab.pod("pod-1-1")?, served.lab.pod("pod-1-2")?);
    let mut service = plain("balanced", 12);
    let spec = service.spec.get_or_insert_default();
    spec.type_ = Some("LoadBalancer".to_owned());
    let admitted = vec![format!("{}/32", inside.v4), format!("{}/128", inside.v6)];
    spec.load_balancer_source_ranges = Some(admitted);
    let ingress = BALANCERS.map(|ip| json!({ "ip": ip }));
    service.status = serde_json::from_value(json!({ "loadBalancer": { "ingress": ingress } }))?;
    served.expose_as(service, &[served.lab.pod("pod-1-3")?])?;
    for (name, pod) in [("inside", inside), ("outside", outside)] {
        let driver = pod.driver()?;
        let ask = |ip: &str| -> Result<String> {
            let outcome = driver.ask(AskSpec::tcp(SocketAddr::new(ip.parse()?, 80)));
            Ok(outcome.map_or_else(|error| error.name, |answer| answer.echo.pod))
        };
        let [v4, v6] = BALANCERS;
        say(&format!("source ranges, {name}: {} by IPv4, {} by IPv6", ask(v4)?, ask(v6)?));
    }
    Ok(())
}

/// NP-01: a NodePort, dialled by the client outside: packets are rewritten, in and out.
fn outside(served: &Served) -> Result<()> {
    let mut service = plain("public", 14);
    let spec = service.spec.get_or_insert_default();
    spec.type_ = Some("NodePort".to_owned());
    spec.ports.iter_mut().flatten().for_each(|port| port.node_port = Some(NODE_PORT.into()));
    served.expose_as(service, &[served.lab.pod("pod-1-3")?])?;
    let client = served.lab.client().driver()?;
    for family in Family::BOTH {
        let to = served.node()?.at(family, NODE_PORT);
        let ask = |ask| client.ask(ask).map_or_else(|error| error.name, |answer| answer.echo.pod);
        let [tcp, udp] = [AskSpec::tcp(to), AskSpec::udp(to)].map(ask);
        let family = if family == Family::V4 { "IPv4" } else { "IPv6" };
        say(&format!("from outside, by {family}: {tcp} over TCP, {udp} over UDP"));
    }
    Ok(())
}

/// CT-01: a connected UDP socket whose backend has gone is disconnected, by SOCK_DESTROY in the
/// pod's namespace.
fn stale(served: &Served) -> Result<()> {
    let [next, first] = [served.lab.pod("pod-1-2")?, served.lab.pod("pod-1-3")?];
    let mut moved = served.expose("moved", 13, std::slice::from_ref(&first))?;
    let to = vip(Family::V4, 13);
    let driver = served.lab.pod("pod-1-1")?.driver()?;
    let sock = driver.open(Kind::Udp, Family::V4)?;
    driver.connect(sock, to)?;
    exchange(&driver, sock)?;
    moved.add(&next)?;
    moved.take_out(&first);
    moved.write()?;
    let what = "the socket to be disconnected";
    wait::until(LIMIT, what, || driver.peer_name(sock).is_err())?;
    // The next call that looks at the socket's error is told why.
    let told = driver.recv_from(sock).map_or_else(|error| error.name, |(text, _)| text);
    driver.connect(sock, to)?;
    let pod = exchange(&driver, sock)?;
    say(&format!("backend gone: {told}, then {pod}"));
    Ok(())
}

/// One question on a connected socket; the name of the pod that answers.
fn exchange(driver: &Driver, sock: Sock) -> Outcome<String> {
    driver.send(sock, "who\n")?;
    let (text, _) = driver.recv_from(sock)?;
    let echo: Option<Echo> = serde_json::from_str(&text).ok();
    Ok(echo.map_or(text, |echo| echo.pod))
}

/// SYN-01: a killed agent's successor takes over what is pinned.
fn restart(served: &mut Served) -> Result<()> {
    let driver = served.lab.pod("pod-1-1")?.driver()?;
    let sock = driver.open(Kind::Tcp, Family::V6)?;
    driver.connect(sock, vip(Family::V6, 10))?;
    exchange(&driver, sock)?;
    let programs = served.agent.programs()?;
    served.agent.kill()?;
    served.agent = Agent::start(served.node()?, &served.spec())?;
    let writes = served.agent.metric("sluice_map_writes_total")?;
    let same = served.agent.programs()? == programs;
    let same = if same { "the same programs" } else { "other programs" };
    let goes_on = exchange(&driver, sock).is_ok();
    let goes_on = if goes_on { "goes on" } else { "is broken" };
    say(&format!(
        "killed and started again: {writes} writes, {same}, an open connection {goes_on}"
    ));
    Ok(())
}

/// SYN-08: `unload` removes everything. Nobody else has programs or maps in a guest.
fn unload(served: &mut Served) -> Result<()> {
    served.agent.stop()?;
    let printed = served.agent.verb(&["unload"])?;
    ensure!(printed.code == Some(0), "unload: {}", printed.stderr);
    ensure!(!served.node()?.bpf_root.exists(), "unload leaves pins");
    wait::for_value(LIMIT, "the kernel to free programs and maps", || {
        let (programs, maps) = (loaded_programs().count(), loaded_maps().count());
        ensure!(programs == 0 && maps == 0, "{programs} programs and {maps} maps are left");
        Ok(())
    })?;
    say("unload: no pin, no program and no map is left");
    Ok(())
}

/// Runs a verb of the agent outside of the lab.
fn agent(words: &[&str]) -> Result<Printed> {
    let mut command = Command::new("/lb-agent");
    command.args(words);
    let (code, stdout, stderr) = bounded_output(command, LIMIT)?;
    Ok(Printed { code, stdout, stderr })
}

/// VIPs of the Service that has source ranges.
const BALANCERS: [&str; 2] = ["203.0.113.12", "2001:db8:113::12"];
/// Of the Service that the client outside dials.
const NODE_PORT: u16 = 30_080;
/// How long a step may take, in a lab that has patience.
const LIMIT: Duration = Duration::from_secs(30);
