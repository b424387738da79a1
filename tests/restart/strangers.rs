// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pins that are not the agent's to use, under traffic: never reused blindly, rebuilt beside,
//! said in one line, and nobody who uses Services notices.

use std::{fs, path::PathBuf, process::Command};

use lab::{
    agent::Agent,
    need_lab,
    served::vip,
    wire::{AskSpec, Family, Kind},
};
use lb_common::maps::LAYOUT_VERSION;

use crate::{pins, steady::Steady, upgrade};

/// What is done to the pins while no agent runs.
type Damage = fn(&Pins);

/// The directory of this layout's pins.
struct Pins(PathBuf);

impl Pins {
    fn path(&self, pin: &str) -> PathBuf {
        self.0.join(pin)
    }

    fn remove(&self, pin: &str) {
        fs::remove_file(self.path(pin)).unwrap();
    }

    /// Puts another map in the place of a pinned one.
    fn replace(&self, map: &str, shape: &str) {
        let pin = self.path("maps").join(map);
        fs::remove_file(&pin).unwrap();
        let mut command = Command::new("bpftool");
        command.args(["map", "create"]).arg(&pin).args(shape.split(' ')).args(["name", "stranger"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{map} {shape}: {output:?}");
    }
}

/// Each kind of damage: what the line says of it, and whether sockets keep their records.
const DAMAGES: [(&str, Damage, &[&str], bool); 9] = [
    (
        "another type",
        |pins| pins.replace("FRONTENDS4", "type array key 4 value 8 entries 32768"),
        &["FRONTENDS4 has map type 2 instead of 1"],
        true,
    ),
    (
        "another size",
        |pins| pins.replace("NODEPORTS", "type array key 4 value 8 entries 64 flags 0x400"),
        &["NODEPORTS has 64 entries"],
        true,
    ),
    (
        "another value",
        |pins| pins.replace("SERVICES", "type array key 4 value 72 entries 16384 flags 0x400"),
        &["SERVICES has value size 72 instead of 64"],
        true,
    ),
    (
        "another value of what sockets name",
        |pins| pins.replace("BACKENDS", "type array key 4 value 24 entries 65536 flags 0x400"),
        &["BACKENDS has value size 24 instead of 32"],
        false,
    ),
    (
        "the right shape, and yet another's",
        |pins| pins.replace("SLOTS", "type array key 4 value 16 entries 131072 flags 0x400"),
        &["SLOTS is not the one that the programs use"],
        true,
    ),
    (
        "no pin at all: a directory and a link to nowhere",
        |pins| {
            pins.remove("maps/MEMBERS");
            fs::create_dir(pins.path("maps/MEMBERS")).unwrap();
            pins.remove("maps/COUNTERS");
            std::os::unix::fs::symlink("nowhere", pins.path("maps/COUNTERS")).unwrap();
        },
        &["MEMBERS is no map", "COUNTERS is missing"],
        true,
    ),
    (
        "a program in a map's place",
        |pins| {
            fs::rename(pins.path("programs/recvmsg4"), pins.path("maps/CONFIG")).unwrap();
        },
        &["CONFIG is no map"],
        true,
    ),
    (
        "half a directory: killed while it was written",
        |pins| {
            for pin in ["maps/NAMES", "maps/NODE_ADDRS", "programs/sendmsg4", "links/connect6"] {
                pins.remove(pin);
            }
            fs::create_dir_all(pins.path("building/programs")).unwrap();
            fs::create_dir_all(pins.path("next")).unwrap();
        },
        &["NAMES is missing", "NODE_ADDRS is missing"],
        true,
    ),
    (
        "a newer layout",
        |pins| {
            let newer = pins.0.with_file_name("v4000");
            fs::rename(&pins.0, newer).unwrap();
        },
        &["another layout", "v4000"],
        false,
    ),
];

#[test]
fn pins_that_are_not_ours_to_use_are_rebuilt_beside_while_all_goes_on() {
    need_lab!();
    let mut served = upgrade::far_and_near();
    let node = served.node().unwrap().clone();
    let layout = Pins(node.bpf_root.join(format!("v{LAYOUT_VERSION}")));
    let driver = served.lab.pod("pod-1-1").unwrap().driver().unwrap();
    let steady = Steady::start(&driver);
    for (what, damage, said, keeps_records) in DAMAGES {
        let socket = driver.open(Kind::Tcp, Family::V4).unwrap();
        driver.connect(socket, vip(Family::V4, 10)).unwrap();
        served.agent.stop().unwrap();
        let before = served.agent.log().len();
        damage(&layout);
        served.agent = Agent::start(&node, &served.spec()).unwrap();
        let log = served.agent.log();
        let lines = log[before..].lines().filter(|line| line.contains("WARN lb_agent::datapath"));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{what}: {lines:#?}");
        let root = node.bpf_root.to_str().unwrap();
        let said = said.iter().chain([&root]);
        assert!(said.into_iter().all(|said| lines[0].contains(said)), "{what}: {}", lines[0]);
        for family in Family::BOTH {
            driver.ask(AskSpec::tcp(vip(family, 11))).unwrap();
            driver.ask(AskSpec::udp_unconnected(vip(family, 10))).unwrap();
        }
        if keeps_records {
            assert_eq!(driver.peer_name(socket).unwrap(), vip(Family::V4, 10), "{what}");
        }
        driver.close(socket).unwrap();
        let stray = pins::files(&node.bpf_root).into_iter().filter(|pin| {
            !["maps", "programs", "links"].iter().any(|part| pin.parent().unwrap().ends_with(part))
                && !pin.ends_with("build")
        });
        assert_eq!(stray.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{what}");
        println!("{what}: {}", lines[0]);
    }
    let requests = steady.finish();
    println!("{requests} requests, none failed");
    served.await_idle().unwrap();
}
