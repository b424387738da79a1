// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `diff`, and the repair of what somebody else did to the maps.

use std::{fs, time::Duration};

use lab::{
    need_lab,
    pod::Pod,
    served::{Served, vip},
    shown::json_lines,
    wait,
    wire::{AskSpec, Family},
};
use serde_json::Value;

use super::run;

/// SYN-06: an element that is taken away and one that is changed behind the agent's back are named,
/// in the words of the cluster, then noticed, counted, logged and repaired.
#[test]
fn syn_06_what_somebody_else_did_to_the_maps_is_named_and_repaired() {
    need_lab!();
    let mut served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[1..2]).unwrap();
    let clean = served.agent.verb(&["diff"]).unwrap();
    assert_eq!((clean.code, clean.stderr.as_str()), (Some(0), ""));
    assert!(clean.stdout.starts_with("the kernel is as desired: 4 service ports, 4 frontends"));
    assert_eq!(served.agent.verb(&["diff", "-o", "json"]).unwrap().stdout, "");

    // 10.96.0.10:80/TCP, as the map has it.
    bpftool(&served, "FRONTENDS4", "delete", "0a 60 00 0a 00 50 06 00");
    let found = served.agent.verb(&["diff", "-o", "json"]).unwrap();
    assert_eq!(found.code, Some(1), "{found:?}");
    let rows = json_lines(&lab::agent::Printed { code: Some(0), ..found }).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    let text = |key: &str| rows[0][key].as_str().unwrap();
    assert_eq!((text("map"), text("difference")), ("FRONTENDS4", "missing in the kernel"));
    assert!(
        text("object").starts_with("default/web:") && text("object").ends_with("10.96.0.10:80/TCP")
    );
    is_refused(&pods[0]);

    // The first slot in use leads nowhere.
    let slots = base_of(&served);
    let key: Vec<_> = slots.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let zero = vec!["00"; 16].join(" ");
    bpftool(&served, "SLOTS", "update", &format!("{} value hex {zero}", key.join(" ")));
    let table = served.agent.verb(&["diff", "--repair"]).unwrap();
    assert_eq!(table.code, Some(1), "{table:?}");
    for part in ["MAP", "FRONTENDS4", "SLOTS", "1 of 1 slots differ"] {
        assert!(table.stdout.contains(part), "{part}: {table:?}");
    }
    assert!(table.stderr.contains("which the agent repairs now"), "{table:?}");
    wait::until(Duration::from_secs(5), "the repair", || {
        served.agent.verb(&["diff"]).is_ok_and(|printed| printed.code == Some(0))
    })
    .unwrap();
    pods[0].driver().unwrap().ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap();
    for map in ["FRONTENDS4", "SLOTS"] {
        let name = format!("sluice_map_repaired_total{{map=\"{map}\"}}");
        assert!(served.agent.metric(&name).unwrap() >= 1.0, "{name}");
    }
    let log = served.agent.log();
    assert!(
        log.contains("somebody else wrote to the maps") && log.contains("default/web:"),
        "{log}"
    );

    served.agent.stop().unwrap();
    let alone = served.agent.verb(&["diff"]).unwrap();
    assert_eq!(alone.code, Some(2), "{alone:?}");
    assert!(alone.stderr.contains("no agent answers"), "{alone:?}");
}

/// `bpftool map <verb> pinned <map> key hex <key>` on the node.
fn bpftool(served: &Served, map: &str, verb: &str, key: &str) {
    let node = served.node().unwrap();
    let pin = pin(served, map);
    let words = ["map", verb, "pinned", &pin, "key", "hex"];
    let words: Vec<_> = words.into_iter().chain(key.split(' ')).collect();
    let printed = run(node, "bpftool", &words);
    assert_eq!(printed.code, Some(0), "{printed:?}");
}

/// The first slot of the ClusterIP's set, as the kernel has it.
fn base_of(served: &Served) -> u32 {
    let rows =
        json_lines(&served.agent.verb(&["show", "services", "-o", "json"]).unwrap()).unwrap();
    let row = rows.iter().find(|row| row["frontend"] == "[fd00:10:96::a]:80").unwrap();
    let index = row["index"].as_u64().unwrap();
    let dump = run(
        served.node().unwrap(),
        "bpftool",
        &[
            "-j",
            "map",
            "lookup",
            "pinned",
            &pin(served, "SERVICES"),
            "key",
            &index.to_string(),
            "0",
            "0",
            "0",
        ],
    );
    let record: Value = serde_json::from_str(&dump.stdout).unwrap();
    let base = record.pointer("/formatted/value/inside/base").and_then(Value::as_u64);
    u32::try_from(base.unwrap_or_else(|| panic!("{dump:?}"))).unwrap()
}

/// Where a map is pinned.
fn pin(served: &Served, map: &str) -> String {
    let root = &served.node().unwrap().bpf_root;
    let layouts = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut pins = layouts.map(|layout| layout.join("maps").join(map)).filter(|pin| pin.exists());
    pins.next().unwrap().to_str().unwrap().to_owned()
}

/// A ClusterIP whose port is gone from the maps is still known to be a Service's: refused.
fn is_refused(pod: &Pod) {
    let error = pod.driver().unwrap().ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap_err();
    assert_eq!(error.name, "ECONNREFUSED");
}
