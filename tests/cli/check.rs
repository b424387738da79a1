// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `check`, and what `run` says on a machine where something is missing.

use std::{collections::BTreeMap, time::Duration};

use lab::{
    Lab,
    agent::{Agent, Printed},
    need_lab,
    node::Node,
    served::{Served, vip},
    shown::json_lines,
    wire::{AskSpec, Family},
};

use super::{agent, program, run};

/// A row: its state and what was found.
type Rows = BTreeMap<String, (String, String)>;

#[test]
fn a_machine_that_can_run_it_passes() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    let root = node.bpf_root.to_str().unwrap();
    let printed = agent(node, &["check", "-o", "json", "--bpf-root", root]);
    let rows = rows(&printed);
    let missing: Vec<_> = rows.iter().filter(|(_, (state, _))| state == "missing").collect();
    assert!(missing.is_empty() && printed.code == Some(0), "{printed:?}");
    // A node of the lab is a part of the tree, which is no place for an agent.
    let nested = check(node, &[]);
    assert_eq!(nested.code, Some(3), "{nested:?}");
    for requirement in [
        "capabilities",
        "kernel",
        "SOCK_DESTROY",
        "BTF",
        "kernel lockdown",
        "pod addresses",
        "BPF file system",
        "cgroup2",
    ] {
        assert_eq!(rows[requirement].0, "ok", "{:?}", rows[requirement]);
    }
    // The same for people, a line each.
    let table = agent(node, &["check"]);
    assert!(table.stdout.starts_with("REQUIREMENT"), "{}", table.stdout);
    assert!(table.stdout.lines().count() > rows.len(), "{}", table.stdout);
}

/// Each thing that is missing has a row that says so and what mends it.
#[test]
fn what_is_missing_is_named_with_what_mends_it() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    let tmp = lab.dir().to_str().unwrap();
    let program = program();
    let program = program.to_str().unwrap();
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", program, "check"];
    let without_bpf =
        ["--bounding-set=-bpf,-net_admin,-sys_admin", "--inh-caps=-all", program, "check"];
    let hide = |command: &str| {
        let script = format!("{command} && exec {program} check -o json");
        run(node, "unshare", &["-m", "--propagation", "private", "sh", "-c", &script])
    };
    let json = |program: &str, args: &[&str]| {
        let args: Vec<_> = args.iter().copied().chain(["-o", "json"]).collect();
        run(node, program, &args)
    };
    let cgroups = lab::cgroup::mount_point().unwrap();
    for (printed, requirement, state, parts) in [
        (json("setpriv", &as_nobody), "capabilities", "missing", ["CAP_BPF", "root"]),
        (json("setpriv", &without_bpf), "capabilities", "missing", ["CAP_NET_ADMIN", "root"]),
        (json("setpriv", &without_bpf), "SOCK_DESTROY", "degraded", ["UDP sockets", "root"]),
        (check(node, &["--bpf-root", tmp]), "BPF file system", "missing", [tmp, "mount -t bpf"]),
        (check(node, &["--cgroup-root", tmp]), "cgroup2", "missing", [tmp, "--cgroup-root"]),
        (
            hide(&format!("umount -l {}", cgroups.display())),
            "cgroup2",
            "missing",
            ["cgroup2", "mount -t cgroup2"],
        ),
        (
            hide("mount -t tmpfs none /sys/kernel/btf"),
            "BTF",
            "degraded",
            ["/sys/kernel/btf", "CONFIG_DEBUG_INFO_BTF"],
        ),
    ] {
        let rows = rows(&printed);
        let (found_state, found) = &rows[requirement];
        assert_eq!(found_state, state, "{requirement}: {found}");
        for part in parts {
            assert!(found.contains(part), "{requirement} lacks {part}: {found}");
        }
        let expected = if state == "missing" { 3 } else { 0 };
        let others = rows.values().filter(|(state, _)| state == "missing").count();
        assert!(printed.code == Some(expected) || others > 0, "{printed:?}");
    }
}

/// LB-06: what the look at a pod's own addresses needs of the kernel.
#[test]
fn a_kernel_that_hides_where_namespaces_keep_addresses_is_degraded() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    let (program, no_btf) = (program(), "mount -t tmpfs none /sys/kernel/btf");
    for (command, requirement, parts) in [
        (no_btf, "pod addresses", ["loadBalancerSourceRanges", "CONFIG_DEBUG_INFO_BTF"]),
        (LOCKED, "kernel lockdown", ["confidentiality", "lockdown=integrity"]),
        (LOCKED, "pod addresses", ["locked down", "see kernel lockdown"]),
    ] {
        let script = format!("{command} && exec {} check -o json", program.display());
        let args = ["-m", "--propagation", "private", "sh", "-c", &script];
        let (state, found) = &rows(&run(node, "unshare", &args))[requirement];
        assert_eq!(state, "degraded", "{requirement}: {found}");
        assert!(parts.iter().all(|part| found.contains(part)), "{requirement}: {found}");
    }
}

/// The same from `run`, which ends instead of serving half.
#[test]
fn run_ends_where_something_it_needs_is_missing() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    let manifests = lab::manifests::Manifests::of(&lab).unwrap();
    let dir = manifests.dir().to_str().unwrap();
    let (cgroup, root) = (node.cgroup_root.to_str().unwrap(), node.bpf_root.to_str().unwrap());
    let tmp = lab.dir().to_str().unwrap();
    let program = program();
    let program = program.to_str().unwrap();
    let start = ["run", "--manifests", dir, "--node-name", "node-1"];
    let nested = "--allow-nested-cgroup";
    let on = |program: &str, first: &[&str], rest: &[&str]| {
        let args: Vec<_> = first.iter().chain(&start).chain(rest).copied().collect();
        run(node, program, &args)
    };
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", program];
    for (printed, parts) in [
        (
            on(program, &[], &["--bpf-root", tmp, "--cgroup-root", cgroup, nested]),
            [tmp, "mount -t bpf"],
        ),
        (
            on(program, &[], &["--bpf-root", root, "--cgroup-root", tmp, nested]),
            [tmp, "--cgroup-root"],
        ),
        // Below the real root sockets elsewhere are not served: refused, with the flag to go on.
        (on(program, &[], &["--bpf-root", root, "--cgroup-root", cgroup]), [cgroup, nested]),
        (
            on("setpriv", &nobody, &["--bpf-root", root, "--cgroup-root", cgroup, nested]),
            ["cannot", root],
        ),
    ] {
        assert!(matches!(printed.code, Some(1 | 2)), "{printed:?}");
        for part in parts {
            assert!(printed.stderr.contains(part), "lacks {part}: {}", printed.stderr);
        }
    }
}

/// Another socket balancer at work: named, refused, and a flag to go on.
#[test]
fn another_balancer_is_named_and_refused() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[2..]).unwrap();
    let node = served.node().unwrap();
    // The agent that runs is the other balancer of a second one.
    let other = Node { bpf_root: node.bpf_root.with_file_name("second"), ..node.clone() };
    let connect = served.agent.programs().unwrap();
    let connect = connect.iter().find(|program| program.program == "connect4").unwrap();
    let spec = served.spec().arg("--healthz-bind-address=").arg("--metrics-bind-address=");
    let mut second = Agent::spawn(&other, &spec).unwrap();
    let status = second.process().wait(Duration::from_secs(10)).unwrap();
    assert!(!status.success());
    let log = second.log();
    for part in [&format!("program {}", connect.id), "connect4", "--allow-foreign-programs"] {
        assert!(log.contains(part), "lacks {part}: {log}");
    }
    let checked = check(&other, &[]);
    assert_eq!(checked.code, Some(3), "{checked:?}");
    assert!(rows(&checked)["no other balancer"].1.contains("connect4"), "{checked:?}");
    pods[0].driver().unwrap().ask(AskSpec::tcp(vip(Family::V4, 10))).unwrap();

    drop(second);
    let spec = spec.arg("--allow-foreign-programs");
    let mut second = Agent::spawn(&other, &spec).unwrap();
    lab::wait::until(Duration::from_secs(20), "the second agent to attach", || {
        second.programs().is_ok_and(|rows| {
            let ours = rows.iter().filter(|row| row.ours);
            ours.clone().filter(|row| row.link.is_some()).count() == 11
        })
    })
    .unwrap();
    assert!(second.process().is_running());
    second.stop().unwrap();
    assert_eq!(second.verb(&["unload"]).unwrap().code, Some(0));
}

/// `check -o json` with a node's roots; later flags win.
fn check(node: &Node, args: &[&str]) -> Printed {
    let mut words = vec!["check", "-o", "json"];
    if !args.contains(&"--bpf-root") {
        words.extend(["--bpf-root", node.bpf_root.to_str().unwrap()]);
    }
    if !args.contains(&"--cgroup-root") {
        words.extend(["--cgroup-root", node.cgroup_root.to_str().unwrap()]);
    }
    words.extend(args);
    agent(node, &words)
}

/// The rows of `check -o json`, whatever it found.
fn rows(printed: &Printed) -> Rows {
    let lines = json_lines(&Printed { code: Some(0), ..printed.clone() }).unwrap();
    assert!(!lines.is_empty(), "{printed:?}");
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    let rows = lines
        .iter()
        .map(|line| (text(line, "requirement"), (text(line, "state"), text(line, "found"))));
    rows.collect()
}

/// A kernel that says it is locked down.
const LOCKED: &str = "mount -t tmpfs none /sys/kernel/security && \
    echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown";
