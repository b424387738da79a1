// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an agent keeps pinned, read with bpftool: a second opinion.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Every file below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The contents of every map that the agent writes, as text; what the kernel
/// programs write is left out.
pub(crate) fn tables(bpf_root: &Path) -> BTreeMap<String, String> {
    let pins = files(bpf_root);
    let named = |name: &str| {
        let pin = pins.iter().find(|path| path.ends_with(Path::new("maps").join(name)));
        pin.unwrap_or_else(|| panic!("no map {name} in {pins:?}")).to_string_lossy().into_owned()
    };
    let hashes = HASHES.map(|name| {
        let dump = bpftool(&["map", "dump", "pinned", &named(name)]);
        let mut elements: Vec<_> = dump.as_array().unwrap().iter().map(Value::to_string).collect();
        // A hash has no order.
        elements.sort();
        (name.to_owned(), elements.join("\n"))
    });
    // Many thousands of elements, mostly empty: compared as they are printed.
    let arrays = ARRAYS.map(|name| {
        let text = bpftool_text(&["map", "dump", "pinned", &named(name)]);
        (name.to_owned(), String::from_utf8(text).unwrap())
    });
    hashes.into_iter().chain(arrays).collect()
}

/// What NAMES holds, as bpftool prints its bytes.
pub(crate) fn names(bpf_root: &Path) -> String {
    let pins = files(bpf_root);
    let pin = pins.iter().find(|path| path.ends_with("maps/NAMES")).unwrap();
    bpftool(&["map", "dump", "pinned", &pin.to_string_lossy()]).to_string()
}

/// The kernel's ids of all pinned objects of a kind: `map`, `prog` or `link`.
pub(crate) fn ids(bpf_root: &Path, kind: &str, folder: &str) -> Vec<u64> {
    let inside = |path: &PathBuf| path.parent().is_some_and(|dir| dir.ends_with(folder));
    let paths = files(bpf_root).into_iter().filter(inside);
    paths
        .map(|path| {
            let shown = bpftool(&[kind, "show", "pinned", &path.to_string_lossy()]);
            // One object, or a list of one.
            let shown = shown.get(0).unwrap_or(&shown);
            shown["id"].as_u64().unwrap_or_else(|| panic!("no id in {shown}"))
        })
        .collect()
}

/// Whether the kernel still has an object of that id.
pub(crate) fn exists(kind: &str, id: u64) -> bool {
    let output =
        Command::new("bpftool").args(["-j", kind, "show", "id", &id.to_string()]).output().unwrap();
    output.status.success()
}

/// A bpftool command's JSON.
fn bpftool(args: &[&str]) -> Value {
    serde_json::from_slice(&bpftool_text(args)).unwrap()
}

/// What a bpftool command prints as JSON.
fn bpftool_text(args: &[&str]) -> Vec<u8> {
    let output = Command::new("bpftool").arg("-j").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

/// Hashes that only the agent writes.
const HASHES: [&str; 5] = ["FRONTENDS4", "FRONTENDS6", "NODE_ADDRS", "MEMBERS", "NAMES"];
/// Arrays that only the agent writes.
const ARRAYS: [&str; 5] = ["NODEPORTS", "SERVICES", "SLOTS", "BACKENDS", "CONFIG"];
