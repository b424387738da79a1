// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each rule catches a violation planted for it, and lets the right thing pass.

use super::{Source, Violation, examine, style, test_modules};
use crate::{command, manifest::PACKAGES};

fn source(file: &str, text: &str) -> Source {
    let package = PACKAGES.iter().find(|package| file.starts_with(*package)).unwrap();
    let licence = "// SPDX-License-Identifier: Apache-2.0 OR MIT\n";
    Source::read(file.to_owned(), package, format!("{licence}{text}")).unwrap()
}

fn rules(violations: &[Violation]) -> Vec<&str> {
    violations.iter().map(|violation| violation.rule.as_str()).collect()
}

/// What the table of rooms says to `text` in `file`.
fn room_rules(file: &str, text: &str) -> Vec<String> {
    let crates = ["std", "core", "aya", "aya_ebpf", "ipnet", "kube", "lb_common", "tokio"];
    let violations = source(file, text).examine(&crates.map(str::to_owned));
    rules(&violations).iter().map(|rule| (*rule).to_owned()).collect()
}

fn style_rules(file: &str, text: &str) -> Vec<String> {
    let violations = style::examine(&source(file, text), false);
    rules(&violations).iter().map(|rule| (*rule).to_owned()).collect()
}

#[test]
fn the_contract_uses_core_and_nothing_else() {
    assert_eq!(
        room_rules("lb-common/src/pick.rs", "fn f() -> std::time::Instant { todo!() }"),
        ["lb-common may not use crate `std`"]
    );
    assert!(
        room_rules("lb-common/src/pick.rs", "use core::mem; use crate::slot::Slot;").is_empty()
    );
}

#[test]
fn kernel_programs_do_not_know_the_agent() {
    assert_eq!(
        room_rules("lb-ebpf/src/tc.rs", "use aya::Bpf;"),
        ["lb-ebpf may not use crate `aya`"]
    );
}

#[test]
fn plans_are_pure() {
    let plan = "lb-agent/src/plan/diff.rs";
    assert_eq!(room_rules(plan, "use tokio::spawn;"), ["plan may not use crate `tokio`"]);
    assert_eq!(room_rules(plan, "fn f() { std::fs::read(p) }"), ["plan may not use `std::fs`"]);
    assert_eq!(
        room_rules(plan, "use std::time::Instant; fn f() { Instant::now() }"),
        ["plan may not use `Instant::now`"]
    );
    assert_eq!(
        room_rules(plan, "use super::super::datapath::Kernel;"),
        ["plan may not use `crate::datapath`"]
    );
    assert!(room_rules(plan, "use super::tables::Tables; use crate::model::Service;").is_empty());
}

#[test]
fn a_path_through_a_module_of_the_file_is_followed() {
    assert_eq!(
        room_rules("lb-agent/src/model/node.rs", "mod inner { use super::super::super::plan::X; }"),
        ["model, fnv may not use `crate::plan`"]
    );
}

#[test]
fn sources_and_the_datapath_stay_on_their_sides() {
    assert_eq!(
        room_rules("lb-agent/src/source/kube.rs", "use crate::plan::compile;"),
        ["source may not use `crate::plan`"]
    );
    assert_eq!(
        room_rules("lb-agent/src/datapath/kernel.rs", "use kube::Client; use crate::plan::Op;"),
        ["datapath may not use crate `kube`"]
    );
    assert_eq!(
        room_rules("lb-agent/src/main.rs", "fn main() { lb_agent::cli::main(); aya::x() }"),
        ["entrance may not use crate `aya`"]
    );
}

#[test]
fn a_file_without_a_room_is_found() {
    assert_eq!(room_rules("lb-agent/src/stray.rs", ""), ["no room holds this file"]);
}

#[test]
fn unsafe_code_and_byte_orders_have_their_places() {
    let text = "fn f(x: u16) { unsafe { g() } x.to_be(); u16::from_be(x); }";
    assert_eq!(style_rules("lb-agent/src/cli/run.rs", text).len(), 3);
    assert_eq!(style_rules("lb-agent/src/datapath/wire.rs", text).len(), 2);
    assert_eq!(
        style_rules("lb-ebpf/src/main.rs", "#[unsafe(no_mangle)] static X: u8 = 0;").len(),
        0
    );
    assert_eq!(style_rules("lb-common/src/be.rs", "fn f(x: u16) { x.to_be() }").len(), 0);
}

#[test]
fn names_globs_and_length_are_checked() {
    let file = "lb-agent/src/plan/alloc.rs";
    assert_eq!(style_rules(file, "struct SlotManager;"), ["`SlotManager` ends in Manager"]);
    assert_eq!(style_rules(file, "use crate::model::*;").len(), 1);
    assert_eq!(style_rules(file, &"\n".repeat(500)), ["501 lines, more than 500"]);
    assert_eq!(style_rules("lb-agent/src/map_utils.rs", ""), ["the file's name says nothing"]);
    assert!(style_rules("lb-agent/src/metadata.rs", "struct Metadata;").is_empty());
}

#[test]
fn modules_declared_as_tests_are_tests() {
    let declaring = source("lb-agent/src/plan/diff.rs", "#[cfg(test)] mod tests;");
    let holding = source("lb-agent/src/plan/diff/tests.rs", "use tokio::spawn;");
    let tests = test_modules(&[declaring]);
    assert!(super::is_test(&holding, &tests));
    assert!(!super::is_test(&source("lb-agent/src/plan/tests.rs", ""), &tests));
}

#[test]
fn every_file_of_the_workspace_is_read() {
    let (files, _) = examine(command::root()).unwrap();
    assert!(files > 10);
}
