// SPDX-License-Identifier: Apache-2.0 OR MIT
//! BACKEND_LOAD is exact: whatever becomes of sockets and their processes, it
//! returns to 0.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lab::{
    driver::Driver,
    need_lab,
    objects::{self, Port},
    served::{Served, cluster_ips, vip},
    wait,
    wire::{AskSpec, Family, HoldSpec, Kind, LoadSpec},
};

/// Thousands of sockets of every kind that succeed, fail, are closed, killed
/// with their process, or dialled again, all at once on both CPUs.
#[test]
fn after_any_mix_of_sockets_every_count_is_zero() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods).unwrap();
    let closed = objects::service("closed", &cluster_ips(11), &Port::both(80, 9));
    served.expose_as(closed, &pods).unwrap();
    served.expose("empty", 12, &[]).unwrap();

    let places = [&pods[0].place, &pods[1].place, &served.node().unwrap().place];
    for round in 0..3 {
        let drivers = places.map(|place| place.driver().unwrap());
        for driver in &drivers {
            start_everything(driver);
        }
        // Process by process: killed in the middle, killed at the end, closed.
        drivers[round].kill().unwrap();
        for (index, driver) in drivers.iter().enumerate() {
            if index != round {
                redial(driver);
            }
        }
        let rest = drivers.iter().enumerate().filter(|(index, _)| *index != round);
        for (_, driver) in rest {
            let load = driver.load(burst(vip(Family::V6, 10), 500)).unwrap();
            let report = driver.finish_load(load, Duration::from_secs(20)).unwrap();
            assert_eq!(report.failed, 0, "{:?}", report.errors);
        }
    }
    served.await_idle().unwrap();
    let released = served.agent.counter("released").unwrap();
    println!("{released} sockets were translated and released");
    assert!(released > 5000, "{released}");
}

#[test]
fn sockets_of_a_killed_process_are_given_back() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods).unwrap();
    let driver = pods[0].driver().unwrap();
    for ask in [AskSpec::tcp, AskSpec::udp, AskSpec::udp_unconnected] {
        let ask = ask(vip(Family::V6, 10));
        driver.hold(HoldSpec { ask, connections: 50, every_ms: 100 }).unwrap();
    }
    assert_eq!(served.total_load().unwrap(), 150);
    driver.kill().unwrap();
    served.await_idle().unwrap();
}

/// A socket is released when its last holder closes it: not when the process
/// that dialled does, and not at exec.
#[test]
fn an_inherited_socket_lives_until_its_last_holder_closes_it() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[1..]).unwrap();
    let IpAddr::V4(ip) = cluster_ips(10)[0] else { unreachable!("the first is IPv4") };
    let go = served.lab.dir().join("go");
    // The shell dials and hands the socket to a child; that becomes another
    // program and waits for a file, the shell closes its own and ends.
    let script = format!(
        "exec 3<>/dev/tcp/{ip}/80
         (exec sh -c 'until test -e {go}; do sleep 0.01; done; echo late >&3; head -n1 <&3') &
         exec 3>&-
         exec true",
        go = go.display()
    );
    let mut command = pods[0].command("bash").unwrap();
    command.args(["-c", &script]);
    let mut shell = pods[0].spawn("inherit", command).unwrap();
    assert!(shell.wait(Duration::from_secs(5)).unwrap().success());
    assert_eq!(served.total_load().unwrap(), 1, "the child has it");
    std::fs::write(&go, "").unwrap();
    served.await_idle().unwrap();
    wait::until(Duration::from_secs(5), "the child to be answered", || {
        shell.log().contains(r#""text":"late""#)
    })
    .unwrap();
}

/// The program refuses before it counts; what another socket has stays counted.
#[test]
fn a_refused_connect_of_a_service_is_not_counted() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    let mut web = served.expose("web", 10, &pods[1..2]).unwrap();
    let driver = pods[0].driver().unwrap();
    let sock = driver.open(Kind::Udp, Family::V4).unwrap();
    driver.connect(sock, vip(Family::V4, 10)).unwrap();
    assert_eq!(served.total_load().unwrap(), 1);
    web.take_out(&pods[1]);
    served.rewrite(&web).unwrap();
    let fresh = driver.open(Kind::Udp, Family::V4).unwrap();
    assert_eq!(driver.connect(fresh, vip(Family::V4, 10)).unwrap_err().name, "ECONNREFUSED");
    for sock in [sock, fresh] {
        driver.close(sock).unwrap();
    }
    served.await_idle().unwrap();
}

/// Loads and holds of every kind; they go on.
fn start_everything(driver: &Driver) {
    let web = Family::BOTH.map(|family| vip(family, 10));
    for to in web {
        for ask in [AskSpec::tcp, AskSpec::udp, AskSpec::udp_unconnected] {
            driver.load(burst_of(ask(to), 300)).unwrap();
            let hold = HoldSpec { ask: ask(to), connections: 10, every_ms: 50 };
            driver.hold(hold).unwrap();
        }
    }
    // Refused by the pod, and refused by the program.
    for number in [11, 12] {
        driver.load(burst(vip(Family::V4, number), 300)).unwrap();
    }
}

/// Sockets that dial one Service, then another that refuses, and are left open
/// or closed.
fn redial(driver: &Driver) {
    for number in 0..100_u8 {
        let family = Family::BOTH[usize::from(number % 2)];
        let sock = driver.open(Kind::Udp, family).unwrap();
        driver.connect(sock, vip(family, 10)).unwrap();
        driver.send_to(sock, vip(family, 11), "nobody\n").unwrap();
        assert_eq!(driver.connect(sock, vip(family, 12)).unwrap_err().name, "ECONNREFUSED");
        if number % 3 == 0 {
            driver.close(sock).unwrap();
        }
        let sock = driver.open(Kind::Tcp, family).unwrap();
        assert_eq!(driver.connect(sock, vip(family, 11)).unwrap_err().name, "ECONNREFUSED");
        driver.connect(sock, vip(family, 10)).unwrap();
        if number % 3 == 1 {
            driver.close(sock).unwrap();
        }
    }
}

/// A burst of TCP connections.
fn burst(to: SocketAddr, requests: u64) -> LoadSpec {
    burst_of(AskSpec::tcp(to), requests)
}

/// A burst on few threads: the machine is small.
fn burst_of(ask: AskSpec, requests: u64) -> LoadSpec {
    LoadSpec { workers: 2, ..LoadSpec::burst(ask, requests) }
}
