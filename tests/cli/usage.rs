// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flags, configuration that cannot be used, completions.

use std::fs;

use lab::{Lab, need_lab, node::Node};

use super::{agent, run};

/// Exit code 2, and the message names the file and the flag.
#[test]
fn a_configuration_that_cannot_be_used_names_file_and_flag() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    let file = lab.dir().join("kubeconfig");
    let path = file.to_str().unwrap();
    refused(node, &["--kubeconfig", path], &[path, "--kubeconfig"]);
    for text in ["", "not: [yaml", "apiVersion: v1\nkind: Config\n"] {
        fs::write(&file, text).unwrap();
        refused(node, &["--kubeconfig", path], &[path, "--kubeconfig"]);
    }
    fs::write(&file, KUBECONFIG).unwrap();
    refused(node, &["--kubeconfig", path, "--context", "nowhere"], &[path, "nowhere", "--context"]);
    let directory = lab.dir().to_str().unwrap();
    refused(node, &["--kubeconfig", directory], &[directory, "--kubeconfig"]);
    // Neither file nor pod.
    refused(node, &[], &["in-cluster", "--kubeconfig", "--manifests"]);
    // A directory of manifests that is none.
    let missing = lab.dir().join("nothing");
    for path in [missing.to_str().unwrap(), path] {
        refused(node, &["--manifests", path], &[path, "--manifests"]);
    }
    assert!(!node.bpf_root.exists(), "nothing was loaded");
}

#[test]
fn flags_that_make_no_sense_are_refused_by_name() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    for (words, part) in [
        (&["run", "--no-such-flag"][..], "--no-such-flag"),
        (&["run", "--nodeport-addresses", "10.0.0.0/99"], "--nodeport-addresses"),
        (&["run", "--nodeport-addresses", "primary,10.0.0.0/8"], "--nodeport-addresses"),
        (&["run", "--healthz-bind-address", "10256"], "--healthz-bind-address"),
        (&["run", "--kubeconfig", "a", "--manifests", "b"], "--manifests"),
        (&["show", "everything"], "everything"),
        (&["show", "services", "-o", "xml"], "xml"),
        (&["explain", "10.96.0.10"], "10.96.0.10"),
        (&["explain", "10.96.0.10:80/ICMP"], "ICMP"),
        (&["explain", "10.96.0.10:80", "--from", "nobody"], "nobody"),
        (&["dance"], "dance"),
        (&[], "Usage"),
    ] {
        let printed = agent(node, words);
        assert_eq!(printed.code, Some(2), "{words:?}: {printed:?}");
        assert!(printed.stderr.contains(part), "{words:?}: {}", printed.stderr);
    }
}

#[test]
fn help_documents_every_verb_and_the_exit_codes() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    let help = agent(node, &["--help"]);
    assert_eq!(help.code, Some(0));
    for part in [
        "run",
        "check",
        "show",
        "explain",
        "diff",
        "monitor",
        "unload",
        "completions",
        "Exit codes:",
    ] {
        assert!(help.stdout.contains(part), "{part}: {}", help.stdout);
    }
    for verb in ["run", "check", "show", "explain", "diff", "monitor", "unload", "completions"] {
        let help = agent(node, &[verb, "--help"]);
        assert_eq!(help.code, Some(0), "{}", help.stderr);
        assert!(help.stdout.contains("Usage: lb-agent"), "{}", help.stdout);
    }
    assert!(agent(node, &["--version"]).stdout.starts_with("lb-agent "));
}

#[test]
fn completions_are_scripts_that_know_the_verbs() {
    need_lab!();
    let lab = Lab::builder().nodes(1).pods(0).start().unwrap();
    let node = lab.node("node-1").unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = agent(node, &["completions", shell]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        for word in ["explain", "unload", "bpf-root"] {
            assert!(printed.stdout.contains(word), "{shell} lacks {word}");
        }
        if shell == "bash" {
            let file = lab.dir().join("completions");
            fs::write(&file, printed.stdout).unwrap();
            let parsed = run(node, "bash", &["-n", file.to_str().unwrap()]);
            assert_eq!(parsed.code, Some(0), "{}", parsed.stderr);
        }
    }
}

/// `run` with these arguments ends with exit code 2 and says all of this.
fn refused(node: &Node, args: &[&str], parts: &[&str]) {
    let root = node.bpf_root.to_str().unwrap();
    let words: Vec<_> = ["run", "--bpf-root", root].iter().chain(args).copied().collect();
    let printed = agent(node, &words);
    assert_eq!(printed.code, Some(2), "{args:?}: {}", printed.stderr);
    for part in parts {
        assert!(printed.stderr.contains(part), "{args:?} lacks {part}: {}", printed.stderr);
    }
}

/// A file that is sound but for the context that is asked for.
const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
clusters: [{ name: here, cluster: { server: 'https://192.0.2.1:6443' } }]
users: [{ name: me, user: { token: none } }]
contexts: [{ name: here, context: { cluster: here, user: me } }]
current-context: here
";
