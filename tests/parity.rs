// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The scenarios of `tests/parity/scenarios`, played with Sluice; in CI with kube-proxy too when
//! what decides how Services behave is not what docs/parity.md was written for.

use std::{env, process::Command};

#[test]
fn every_scenario_is_as_it_says() {
    lab::need_lab!();
    let in_ci = env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()));
    let args: &[&str] = if in_ci { &["--if-changed"] } else { &["--only", "sluice"] };
    let output = Command::new(env!("CARGO_BIN_EXE_parity")).args(args).output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    println!("{stdout}");
    assert!(output.status.success(), "{stderr}");
}
