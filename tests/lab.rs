// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab itself: wiring, two side by side, cleanup after a crash.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lab::{
    Lab,
    agent::{Agent, AgentSpec},
    cgroup,
    manifests::Manifests,
    netns,
    objects::{self, Port},
    served::Served,
    server::ServeSpec,
    state::{self, State},
    wire::{AskSpec, Family, HoldSpec, Kind, LoadSpec, SocketSpec},
};

/// Ends the test with a line when this machine cannot make a lab.
macro_rules! need_lab {
    () => {
        if let Some(why) = lab::missing() {
            println!("SKIP {why}");
            return;
        }
    };
}

#[test]
fn pods_reach_pods_on_every_node_in_both_families() {
    need_lab!();
    let started = Instant::now();
    let lab = Lab::start().unwrap();
    println!("two nodes and four serving pods up in {:?}", started.elapsed());
    assert_eq!(lab.pods().len(), 4);
    for from in lab.pods() {
        let driver = from.driver().unwrap();
        for to in lab.pods() {
            for family in Family::BOTH {
                for ask in [AskSpec::tcp, AskSpec::udp, AskSpec::udp_unconnected] {
                    let answer = driver.ask(ask(to.at(family, 8080))).unwrap();
                    assert_eq!(answer.echo.pod, to.name);
                    assert_eq!(answer.echo.client.ip(), from.address(family), "no NAT on the way");
                }
            }
        }
    }
}

#[test]
fn every_place_reaches_what_it_should() {
    need_lab!();
    let lab = Lab::start().unwrap();
    let (pod, far) = (lab.pod("pod-1-1").unwrap(), lab.pod("pod-2-1").unwrap());
    for family in Family::BOTH {
        for node in lab.nodes() {
            node.ping(pod.address(family)).unwrap();
            pod.ping(node.address(family)).unwrap();
            lab.client().ping(node.address(family)).unwrap();
            node.ping(lab.control().address(family)).unwrap();
        }
        pod.ping(far.address(family)).unwrap();
        pod.ping(lab.control().address(family)).unwrap();
        pod.ping(family.loopback()).unwrap();
        // Pod addresses mean nothing outside the cluster.
        assert!(lab.client().ping(pod.address(family)).is_err());
    }
}

#[test]
fn http_is_spoken_too() {
    need_lab!();
    let lab = Lab::start().unwrap();
    let far = lab.pod("pod-2-2").unwrap();
    for family in Family::BOTH {
        let url = format!("http://{}/", far.at(family, 8080));
        let body = lab
            .pod("pod-1-2")
            .unwrap()
            .output("curl", ["-sS", "-g", "--max-time", "3", &url])
            .unwrap();
        assert!(body.contains(r#""pod":"pod-2-2""#), "{body}");
    }
}

#[test]
fn processes_run_in_the_cgroup_of_their_place() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(1).start().unwrap();
    let pod = lab.pod("pod-1-1").unwrap();
    let inside = pod.output("cat", ["/proc/self/cgroup"]).unwrap();
    let own = format!("0::/sluice-{}/node-1/pod-1-1", lab.id());
    assert!(inside.lines().any(|line| line.ends_with(&own) || line == own), "{inside}");
    let root = &lab.node("node-1").unwrap().cgroup_root;
    assert!(cgroup::processes(root).contains(&pod.server_pid().unwrap()));
}

#[test]
fn nodes_serve_as_hosts_and_raw_ports_give_bytes_back() {
    need_lab!();
    let lab = Lab::builder().ports(&[]).start().unwrap();
    let node = lab.node("node-2").unwrap();
    let spec = ServeSpec {
        name: "on-host".to_owned(),
        ports: vec![80],
        raw_ports: vec![7],
        ..ServeSpec::default()
    };
    let server = node.serve(&spec).unwrap();
    assert!(cgroup::processes(&node.cgroup).contains(&server.pid()));
    let driver = lab.pod("pod-1-1").unwrap().driver().unwrap();
    for family in Family::BOTH {
        for ask in [AskSpec::tcp, AskSpec::udp] {
            assert_eq!(driver.ask(ask(node.at(family, 80))).unwrap().echo.pod, "on-host");
        }
        for kind in [Kind::Tcp, Kind::Udp] {
            let sock = driver.open(kind, family).unwrap();
            driver.connect(sock, node.at(family, 7)).unwrap();
            driver.send(sock, "x").unwrap();
            assert_eq!(driver.recv_from(sock).unwrap().0, "x");
        }
    }
    let taken = node.serve(&spec).unwrap_err();
    assert!(format!("{taken:#}").contains("Address already in use"), "{taken:#}");
}

#[test]
fn drivers_give_every_call_and_its_error() {
    need_lab!();
    let lab = Lab::builder().nodes(1).start().unwrap();
    let (pod, server) = (lab.pod("pod-1-1").unwrap(), lab.pod("pod-1-2").unwrap());
    let driver = pod.driver().unwrap();
    for family in Family::BOTH {
        let refused = driver.ask(AskSpec::tcp(server.at(family, 1))).unwrap_err();
        assert_eq!(
            (refused.call.as_str(), refused.name.as_str(), refused.errno),
            ("connect", "ECONNREFUSED", 111)
        );

        // A datagram from an unconnected socket, source and all.
        let sock = driver.bound(Kind::Udp, pod.at(family, 4000)).unwrap();
        driver.send_to(sock, server.at(family, 8080), "hi\n").unwrap();
        let (data, from) = driver.recv_from(sock).unwrap();
        assert!(data.contains(r#""text":"hi""#), "{data}");
        assert_eq!(from, Some(server.at(family, 8080)));
        assert_eq!(driver.sock_name(sock).unwrap(), pod.at(family, 4000));
        assert!(driver.cookie(sock).unwrap() > 0);
        driver.close(sock).unwrap();
        assert_eq!(driver.close(sock).unwrap_err().call, "driver");

        // A peer, and none any more.
        let sock = driver.open(Kind::Udp, family).unwrap();
        driver.connect(sock, server.at(family, 8080)).unwrap();
        assert_eq!(driver.peer_name(sock).unwrap(), server.at(family, 8080));
        driver.dissolve(sock).unwrap();
        assert_eq!(driver.peer_name(sock).unwrap_err().name, "ENOTCONN");

        // A stream between two sockets of this driver, accept with an address.
        let listener = driver.bound(Kind::Tcp, pod.at(family, 4001)).unwrap();
        driver.listen(listener).unwrap();
        let client = driver.open(Kind::Tcp, family).unwrap();
        driver.connect(client, pod.at(family, 4001)).unwrap();
        let (accepted, from) = driver.accept(listener).unwrap();
        assert_eq!(from, driver.sock_name(client).unwrap());
        assert_eq!(driver.peer_name(client).unwrap(), pod.at(family, 4001));
        driver.send(client, "ping").unwrap();
        assert_eq!(driver.recv_from(accepted).unwrap(), ("ping".to_owned(), None));
        driver.shutdown_write(client).unwrap();
        assert_eq!(driver.recv_from(accepted).unwrap().0, "");
        let silent = driver.recv_from(client).unwrap_err();
        assert_eq!(silent.name, "ETIMEDOUT");
    }
}

#[test]
fn mapped_addresses_mptcp_and_fast_open_work() {
    need_lab!();
    let lab = Lab::builder().start().unwrap();
    let driver = lab.pod("pod-1-1").unwrap().driver().unwrap();
    let to = lab.pod("pod-2-1").unwrap().v4.to_ipv6_mapped();
    let mapped = AskSpec::tcp((to, 8080).into());
    let answer = driver.ask(mapped.clone()).unwrap();
    assert_eq!(answer.peer, Some((to, 8080).into()));
    let target = lab.pod("pod-2-1").unwrap().at(Family::V4, 8080);
    let mptcp =
        AskSpec { socket: SocketSpec::new(Kind::Mptcp, Family::V4), ..AskSpec::tcp(target) };
    assert_eq!(driver.ask(mptcp).unwrap().echo.pod, "pod-2-1");
    let socket = SocketSpec { fast_open: true, ..SocketSpec::new(Kind::Tcp, Family::V4) };
    let fast = AskSpec { socket, ..AskSpec::tcp(target) };
    assert_eq!(driver.ask(fast).unwrap().echo.pod, "pod-2-1");
}

#[test]
fn loads_and_holds_count_and_see_breaks() {
    need_lab!();
    let lab = Lab::builder().start().unwrap();
    let driver = lab.pod("pod-1-1").unwrap().driver().unwrap();
    let server = lab.pod("pod-2-1").unwrap();
    let to = server.at(Family::V6, 8080);
    let hold =
        driver.hold(HoldSpec { ask: AskSpec::tcp(to), connections: 3, every_ms: 20 }).unwrap();
    let spec = LoadSpec { log: true, ..LoadSpec::paced(AskSpec::tcp(to), 200, 500) };
    let load = driver.load(spec).unwrap();
    let report = driver.finish_load(load, Duration::from_secs(5)).unwrap();
    assert_eq!((report.ok, report.failed), (100, 0), "{:?}", report.errors);
    assert_eq!(report.pods["pod-2-1"], 100);
    assert_eq!(report.log.len(), 100);
    assert!(report.latency_us[0] > 0 && report.latency_us[0] <= report.latency_us[3]);
    let burst = driver.load(LoadSpec::burst(AskSpec::udp(to), 1000)).unwrap();
    assert_eq!(driver.finish_load(burst, Duration::from_secs(10)).unwrap().ok, 1000);
    let before = driver.hold_report(hold).unwrap();
    assert_eq!((before.open, before.breaks.len()), (3, 0));
    assert!(before.exchanges > 20, "{before:?}");
    server.stop_serving().unwrap();
    lab::wait::until(Duration::from_secs(5), "holds to break", || {
        driver.hold_report(hold).unwrap().breaks.len() == 3
    })
    .unwrap();
    let load = driver.load(LoadSpec::paced(AskSpec::tcp(to), 100, 100)).unwrap();
    let report = driver.finish_load(load, Duration::from_secs(5)).unwrap();
    assert_eq!((report.ok, report.failed), (0, 10));
    assert_eq!(report.errors["connect: ECONNREFUSED"], 10);
}

#[test]
fn pods_come_and_go() {
    need_lab!();
    let lab = Lab::builder().pods(1).start().unwrap();
    let pod = lab.add_pod(lab.node("node-2").unwrap(), "late").unwrap();
    pod.serve(&[80]).unwrap();
    let driver = lab.pod("pod-1-1").unwrap().driver().unwrap();
    assert_eq!(driver.ask(AskSpec::tcp(pod.at(Family::V6, 80))).unwrap().echo.pod, "late");
    lab.remove_pod(&pod).unwrap();
    assert!(!pod.netns.path().exists() && !pod.cgroup.exists());
    let again = lab.add_pod(lab.node("node-2").unwrap(), "later").unwrap();
    assert_eq!(again.v4, pod.v4, "addresses are free again");
}

#[test]
fn manifests_hold_the_service_its_slices_and_the_nodes() {
    need_lab!();
    let lab = Lab::builder().ports(&[]).start().unwrap();
    let manifests = Manifests::of(&lab).unwrap();
    let ips = ["10.96.0.10".parse().unwrap(), "fd00:10:96::10".parse().unwrap()];
    let service = objects::service("web", &ips, &Port::both(80, 8080));
    let mut web = manifests.expose(&lab, service, &lab.pods()).unwrap();
    let read = || fs::read_to_string(manifests.dir().join("service-web.yaml")).unwrap();
    let nodes = fs::read_to_string(manifests.dir().join("nodes.yaml")).unwrap();
    assert_eq!(nodes.matches("kind: Node").count(), 2, "{nodes}");
    let text = read();
    assert_eq!(text.matches("kind: EndpointSlice").count(), 2, "{text}");
    assert_eq!(text.matches("ready: true").count(), 8, "{text}");
    assert!(text.contains("10.244.2.11") && text.contains("fd00:10:244:2::b"), "{text}");
    let pod = lab.pod("pod-2-2").unwrap();
    web.drain(&pod).unwrap();
    web.write().unwrap();
    assert_eq!(read().matches("terminating: true").count(), 2);
    web.take_out(&pod);
    web.write().unwrap();
    assert!(!read().contains("10.244.2.11"));
    web.withdraw().unwrap();
    assert!(!manifests.dir().join("service-web.yaml").exists());
}

#[test]
fn an_agent_that_ends_at_once_is_told_with_its_last_words() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    let manifests = Manifests::of(&lab).unwrap();
    // `sh run ...` looks for a script called `run`, says so and ends.
    let spec =
        AgentSpec { program: Some("/bin/sh".into()), ..AgentSpec::manifests(manifests.dir()) };
    let started = Instant::now();
    let error = format!("{:#}", Agent::start(node, &spec).unwrap_err());
    assert!(error.contains("the agent of node-1 ended") && error.contains("run"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "the end is seen at once");
}

#[test]
fn two_labs_stand_side_by_side_and_leave_nothing() {
    need_lab!();
    let labs = [Lab::start().unwrap(), Lab::start().unwrap()];
    for lab in &labs {
        let driver = lab.pod("pod-1-1").unwrap().driver().unwrap();
        let far = lab.pod("pod-2-1").unwrap();
        driver.ask(AskSpec::tcp(far.at(Family::V4, 8080))).unwrap();
        // Same addresses, other namespaces: stopping one server concerns one lab.
        far.stop_serving().unwrap();
    }
    let names =
        labs.each_ref().map(|lab| (lab.id(), lab.dir().to_owned(), lab.cgroup().to_owned()));
    drop(labs);
    for (id, dir, cgroup) in names {
        assert!(!dir.exists() && !cgroup.exists());
        assert!(netns::with_prefix(&id.prefix()).is_empty());
    }
}

#[test]
fn what_an_agent_left_goes_with_its_lab() {
    need_lab!();
    let served = Served::start().unwrap();
    let left = lb_agent::run::state::directory(&served.node().unwrap().bpf_root);
    assert!(left.join("issues").exists());
    drop(served);
    assert!(!left.exists());
}

#[test]
fn a_lab_made_by_hand_stands_until_it_is_taken_down() {
    need_lab!();
    let lab = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lab")).args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (up, listing, errors) = lab(&["up", "--nodes", "1", "--pods", "2", "--port", "80"]);
    assert!(up, "{errors}");
    let id = listing.split_whitespace().nth(1).unwrap();
    let _guard = TakeDown(lab::id::RunId::parse(id).unwrap());
    let (_, pods, _) = lab(&["pods", id]);
    assert!(
        pods.contains("pod-1-2") && pods.contains("10.244.1.11") && pods.contains("kept"),
        "{pods}"
    );
    let far = "http://[fd00:10:244:1::b]/";
    let (done, body, errors) =
        lab(&["exec", "--id", id, "pod-1-1", "--", "curl", "-sSg", "--max-time", "3", far]);
    assert!(done && body.contains("pod-1-2"), "{body}{errors}");
    let (crashed, _, _) = lab(&["down"]);
    assert!(crashed, "what was made to stand is not taken for crashed");
    assert!(lab(&["pods", id]).1.contains("pod-1-1"));
    let (unknown, _, errors) = lab(&["exec", "--id", id, "pod-9-9", "--", "true"]);
    assert!(!unknown && errors.contains("has no pod-9-9"), "{errors}");
    assert!(lab(&["down", id]).0);
    let (gone, _, errors) = lab(&["pods", id]);
    assert!(!gone && errors.contains("no lab"), "{errors}");
}

/// Removes a lab at the end of a test, whatever came between.
struct TakeDown(lab::id::RunId);

impl Drop for TakeDown {
    fn drop(&mut self) {
        if let Err(error) = state::remove(&self.0) {
            eprintln!("{error:#}");
        }
    }
}

/// Whether a process runs. One that ended and waits to be reaped (its owner is
/// gone) has no executable any more.
fn runs(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// Run by the next test in a process of its own, which is then killed.
#[test]
#[ignore = "only as a child of a_killed_lab_is_found_and_removed"]
fn child_that_makes_a_lab_and_waits() {
    let lab = Lab::start().unwrap();
    println!("\nlab {}", lab.id());
    std::thread::sleep(Duration::from_mins(1));
}

#[test]
fn a_killed_lab_is_found_and_removed() {
    need_lab!();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "child_that_makes_a_lab_and_waits"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let id = lines.find_map(|line| line.strip_prefix("lab ").map(str::to_owned)).unwrap();
    let id = lab::id::RunId::parse(&id).unwrap();
    let crashed = State::load(&id).unwrap();
    assert!(!crashed.is_crashed(), "its owner still lives");
    let cgroup = cgroup::mount_point().unwrap().join(id.prefix());
    let running = cgroup::processes(&cgroup);
    assert_eq!(running.len(), 4, "a server in each pod");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(crashed.is_crashed());

    let down = Command::new(env!("CARGO_BIN_EXE_lab")).arg("down").output().unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(String::from_utf8_lossy(&down.stdout).contains(&id.to_string()));

    assert!(!cgroup.exists());
    assert!(netns::with_prefix(&id.prefix()).is_empty());
    assert!(!crashed.dir().exists());
    let left: BTreeSet<_> = running.iter().filter(|pid| runs(**pid)).collect();
    assert!(left.is_empty(), "still running: {left:?}");
    // Removing once more finds nothing and fails not.
    state::remove(&id).unwrap();
}
