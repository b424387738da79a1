// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Namespaces that want to be left alone.

use std::{collections::BTreeSet, mem::offset_of};

use lab::{
    driver::Driver,
    need_lab,
    served::{Served, cluster_ips, vip},
    server::ServeSpec,
    wire::{AskSpec, Family},
};
use lb_agent::datapath::{load, maps::Maps, syscall};
use lb_common::config::Config;

/// SOC-10 for a whole namespace: a pod in BYPASS dials a ClusterIP and its packets go to that
/// very address, where a server of its own stands; its neighbour is balanced. CONFIG says
/// whether BYPASS is looked into at all.
#[test]
fn a_namespace_in_bypass_is_left_alone_and_its_neighbour_is_not() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[2..]).unwrap();
    let (alone, neighbour) = (&pods[0], &pods[1]);
    // What nobody translates arrives here.
    for ip in cluster_ips(10) {
        alone.ip(&format!("addr add {ip} dev lo")).unwrap();
    }
    let spec = ServeSpec { name: "untouched".to_owned(), ..ServeSpec::on(&[80]) };
    let _untouched = alone.place.serve(&spec).unwrap();
    let cookie = alone.run(syscall::netns_cookie).unwrap().unwrap();
    let mut maps = load::open_pinned(&served.node().unwrap().bpf_root).unwrap();
    let drivers = [alone, neighbour].map(|pod| pod.driver().unwrap());
    let [alone, neighbour] = &drivers;
    let far = BTreeSet::from(["pod-2-1".to_owned(), "pod-2-2".to_owned()]);
    let own = BTreeSet::from(["untouched".to_owned()]);

    assert_eq!(answering(alone), far, "not in BYPASS");
    maps.bypass.put(cookie, 1).unwrap();
    assert_eq!(answering(alone), far, "CONFIG says that BYPASS is empty");

    say_bypassed(&mut maps, 1);
    let passed = || served.agent.counter("pass_bypass").unwrap();
    let translated = || served.agent.counter("translated").unwrap();
    let before = (passed(), translated());
    assert_eq!(answering(alone), own);
    assert_eq!(translated(), before.1, "nothing is looked up for it");
    let calls = passed() - before.0;
    assert_eq!(
        calls,
        (6 + 4) * ROUNDS,
        "each connect() and sendto(), and the server's own replies"
    );
    assert_eq!(answering(neighbour), far);
    assert_eq!(passed() - before.0, calls, "the neighbour is in no map");

    maps.bypass.remove_all(&[cookie]).unwrap();
    assert_eq!(answering(alone), far, "taken out of BYPASS");
    say_bypassed(&mut maps, 0);
    assert_eq!(answering(alone), far);
    drop(drivers);
    served.await_idle().unwrap();
}

/// Who answers new sockets of all kinds and both families that dial the Service.
fn answering(driver: &Driver) -> BTreeSet<String> {
    let asks = [AskSpec::tcp, AskSpec::udp, AskSpec::udp_unconnected];
    let each = Family::BOTH.into_iter().flat_map(|family| asks.map(|ask| ask(vip(family, 10))));
    let answer = |spec: AskSpec| {
        let answer = driver.ask(spec.clone()).unwrap();
        let shown = answer.peer.or(answer.from);
        assert_eq!(shown, Some(spec.to), "{answer:?}");
        answer.echo.pod
    };
    each.flat_map(|spec| (0..ROUNDS).map(move |_| spec.clone())).map(answer).collect()
}

/// Stores how many namespaces are in BYPASS.
fn say_bypassed(maps: &mut Maps, namespaces: u32) {
    let word = bytemuck::cast([namespaces, 0]);
    assert!(maps.config.write_word(0, offset_of!(Config, bypassed_namespaces), word));
}

/// Times that each kind of socket asks: both of two pods answer some of 6 times this.
const ROUNDS: u64 = 8;
